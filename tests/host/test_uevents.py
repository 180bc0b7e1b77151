"""Kernel uevents: parsing, and the wake-up of a running daemon by a real one."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deviceplugin.host.uevents import (
    NETLINK_KOBJECT_UEVENT,
    Uevent,
    _next,
    parse_uevent,
    watch_uevents,
)
from deviceplugin.testing.intel import B60, set_vfs, write_intel_node
from tests.rig import WAIT_S, Rig

# Devices that every kernel makes; `change` on them is an event that nobody acts upon.
HARMLESS = ("/sys/devices/platform/serial8250/uevent", "/sys/devices/platform/pcspkr/uevent")
BIND = (
    b"bind@/devices/pci0000:00/0000:04:00.1\0ACTION=bind\0"
    b"DEVPATH=/devices/pci0000:00/0000:04:00.1\0SUBSYSTEM=pci\0DRIVER=vfio-pci\0"
    b"PCI_SLOT_NAME=0000:04:00.1\0SEQNUM=4711\0"
)


def test_a_kernel_message_is_an_event() -> None:
    event = parse_uevent(BIND)
    assert event is not None
    assert (event.action, event.subsystem) == ("bind", "pci")
    assert event.devpath == "/devices/pci0000:00/0000:04:00.1"
    assert dict(event.fields)["DRIVER"] == "vfio-pci"


@pytest.mark.parametrize(
    "message", [b"", b"libudev\0\xfe\xed\xca\xfe", b"\0ACTION=add"], ids=["none", "udev", "no @"]
)
def test_other_messages_are_none(message: bytes) -> None:
    assert parse_uevent(message) is None


@given(st.binary(max_size=300))
@example(b"@")
@example(b"add@/x\0=\0==\0ACTION")
@example(b"add@\xff\0ACTION=\xff\xfe\0SUBSYSTEM=\n")
def test_no_message_breaks_the_parser(message: bytes) -> None:
    event = parse_uevent(message)
    assert (event is not None) == (b"@" in message.split(b"\0")[0])


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", exclude_characters="=\0@"), min_size=1),
        st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    )
)
def test_every_field_arrives(fields: dict[str, str]) -> None:
    text = "\0".join(["add@/x", *(f"{key}={value}" for key, value in fields.items())])
    event = parse_uevent(text.encode())
    assert event is not None
    assert dict(event.fields) == fields


async def test_an_event_that_a_process_sends_is_not_believed() -> None:
    kind = (socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT)
    with socket.socket(*kind) as ours, socket.socket(*kind) as stranger:
        ours.bind((0, 0))
        ours.setblocking(False)
        message = b"change@/x\0ACTION=change\0SUBSYSTEM=drm\0DEVPATH=/x\0WEDGED=rebind\0"
        assert parse_uevent(message) is not None
        try:
            stranger.sendto(message, (ours.getsockname()[0], 0))
        except PermissionError:
            pytest.skip("this process may not even send one")
        async with asyncio.timeout(WAIT_S):
            assert await _next(ours) is None


async def emit() -> None:
    """Have the kernel send an event of the subsystem `platform`; skips where it will not."""
    heard: asyncio.Future[Uevent] = asyncio.get_running_loop().create_future()

    def hear(event: Uevent) -> None:
        if not heard.done():
            heard.set_result(event)

    watching = asyncio.create_task(watch_uevents(hear))
    await asyncio.sleep(0)  # the socket is bound
    try:
        path = next((p for p in map(Path, HARMLESS) if os.access(p, os.W_OK)), None)
        if path is None:
            pytest.skip(f"no event can be sent: none of {', '.join(HARMLESS)} may be written")
        path.write_text("change")
        async with asyncio.timeout(10):
            assert (await heard).subsystem == "platform"
    except (OSError, TimeoutError) as error:
        pytest.skip(f"the kernel sends no events to this process: {error!r}")
    finally:
        watching.cancel()


async def test_an_event_wakes_every_discovery_before_its_time(rig: Rig) -> None:
    write_intel_node(rig.host_root, B60)
    await rig.stub.start()
    daemon = rig.start("--vendors", "intel")
    await rig.capacity({"intel.com/gpu": 1})
    await daemon.follows_signs("intel", emit)
    for count in (6, 3, 5):
        set_vfs(rig.host_root, B60, count, 4227858432)
        await emit()
        await rig.allocatable({"intel.com/xe-4gb": count})
