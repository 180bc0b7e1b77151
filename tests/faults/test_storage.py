"""Full disks and read-only directories under the daemon's state and its CDI files."""

import errno
import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from deviceplugin.testing.amd import write_amd_node
from deviceplugin.testing.tree import remove
from tests.fakes.syscalls import CHANGING, Call, Point
from tests.faults.node import AMD, GPUS, INTEL, Node
from tests.faults.recovery import Recovering
from tests.rig import WAIT_S, DaemonProcess

FAULTS = {
    "full": (errno.ENOSPC, Call.CREATE | Call.WRITE | Call.FSYNC | Call.MKDIR | Call.BIND),
    "read-only": (errno.EROFS, CHANGING | Call.BIND),
    "failing": (errno.EIO, Call.WRITE | Call.FSYNC),
}
AMD_FILE = "k8s.device-plugin.amd.com-gpu.json"
THREE = {AMD: 3, INTEL: 1}
each_fault = pytest.mark.parametrize("fault", FAULTS)
full_or_read_only = pytest.mark.parametrize("fault", ["full", "read-only"])


def hurt(node: Node, directory: Path, fault: str) -> None:
    error, calls = FAULTS[fault]
    node.faults.fail(error, Point(calls, str(directory)))


def described(node: Node) -> set[str]:
    """The AMD GPUs that the CDI files describe."""
    texts = (json.loads(path.read_text()) for path in node.rig.cdi_dir.glob("*amd*.json"))
    return {device["name"] for text in texts for device in text["devices"]}


@full_or_read_only
async def test_what_has_no_cdi_file_is_not_announced(
    node: Node, fault: str, recovering: Recovering
) -> None:
    hurt(node, node.rig.cdi_dir, fault)
    await node.rig.stub.start()
    daemon = node.start()
    await daemon.wait_event("vendor_waits", vendor="amd")
    assert AMD not in node.rig.stub.capacity()
    node.faults.clear()
    with recovering(f"{fault} CDI directory at the start"):
        await node.right()
    assert described(node) >= set(node.ids()[AMD])


@each_fault
async def test_a_device_that_comes_is_announced_once_its_cdi_file_is_written(
    node: Node, fault: str, recovering: Recovering
) -> None:
    daemon = await node.up()
    before = described(node)
    hurt(node, node.rig.cdi_dir, fault)
    write_amd_node(node.rig.host_root, GPUS[:3])
    await daemon.wait_event("vendor_waits", vendor="amd")
    assert node.rig.stub.allocatable() == node.full
    assert described(node) == before
    await node.rig.one_of_each(node.full)
    node.faults.clear()
    node.full = THREE
    with recovering(f"{fault} CDI directory when a GPU came"):
        await node.right()
    assert described(node) >= set(node.ids()[AMD])
    assert list(node.rig.cdi_dir.glob(".*")) == []


@full_or_read_only
async def test_a_device_that_is_not_what_its_cdi_file_says_is_unhealthy(
    node: Node, fault: str, recovering: Recovering
) -> None:
    daemon = await node.up()
    hurt(node, node.rig.cdi_dir, fault)
    for gpu in GPUS[:2]:
        remove(node.rig.host_root, f"/sys/bus/pci/devices/{gpu.address}/drm")
    write_amd_node(node.rig.host_root, GPUS[1::-1])  # the same GPUs with each other's nodes

    def stale() -> set[str]:
        faults = daemon.events("fault", code="stale_files")
        return {device for fault in faults for device in fault.get("devices", [fault["device"]])}

    await daemon.until(lambda: stale() >= set(node.ids()[AMD]), stale)
    await node.lists({AMD: 0, INTEL: 1})
    node.faults.clear()
    with recovering(f"{fault} CDI directory when device nodes changed"):
        await node.right()


@full_or_read_only
async def test_without_a_state_directory_devices_are_served(
    node: Node, fault: str, recovering: Recovering
) -> None:
    hurt(node, node.rig.state_dir, fault)
    await node.up()
    await node.rig.one_of_each(node.full)
    device = node.ids()[AMD][0]
    assert await node.order("cordon", device) != ""
    node.faults.clear()
    with recovering(f"{fault} state directory at the start"):
        while await node.order("cordon", device):  # the socket is bound again
            pass
    assert node.remembers(device)


@each_fault
async def test_a_cordon_that_cannot_be_saved_holds_and_says_so(
    node: Node, fault: str, recovering: Recovering
) -> None:
    daemon = await node.up()
    device = node.ids()[AMD][0]
    hurt(node, node.rig.state_dir, fault)
    said = await node.order("cordon", device)
    assert "in force, but lost when the daemon ends: it cannot be saved" in said
    assert os.strerror(FAULTS[fault][0]) in said
    await node.lists({**node.full, AMD: 1})
    assert not node.remembers(device)
    node.faults.clear()
    with recovering(f"{fault} state directory when a GPU was cordoned"):
        await daemon.until(lambda: node.remembers(device))
    daemon.kill()
    node.start()
    await node.lists({**node.full, AMD: 1})


# The same on real file systems.

MOUNTS = (
    'for d in "$1" "$2"; do mkdir -p "$d"; mount -t tmpfs -o size=64k,mode=0755 faults "$d"; done; '
    "shift 2"
)


def namespace() -> list[str]:
    """The command that gives a program mounts of its own; skips where the kernel allows none."""
    command = ["unshare", *(() if os.getuid() == 0 else ("--map-root-user",)), "--mount"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespace of its own: {tried.stderr.strip()}")
    return command


def fill(directory: Path) -> Path:
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))
    return filler


def remount(daemon: DaemonProcess, directory: Path, mode: str) -> None:
    enter = ["nsenter", f"--target={daemon.process.pid}", "--mount"]
    user = [] if os.getuid() == 0 else ["--user", "--preserve-credentials"]
    mount = ["mount", "-o", f"remount,{mode}", str(directory)]
    subprocess.run([*enter, *user, *mount], check=True, timeout=WAIT_S)


async def test_file_systems_that_fill_up_or_turn_read_only(
    node: Node, recovering: Recovering
) -> None:
    state, cdi = node.rig.state_dir, node.rig.cdi_dir
    script = ("sh", "-ec", f'{MOUNTS}; exec "$@"', "sh", str(state), str(cdi))
    node.rig.wrapper = (*namespace(), *script)
    daemon = await node.up()
    inside = Path(f"/proc/{daemon.process.pid}/root")
    first = node.ids()[AMD][0]
    fillers = [fill(inside / str(directory)[1:]) for directory in (state, cdi)]
    inner = inside / str(state)[1:]
    assert "No space left on device" in await node.order("cordon", first, inner)
    write_amd_node(node.rig.host_root, GPUS[:3])
    await node.lists({AMD: 1, INTEL: 1})
    await daemon.wait_event("vendor_waits", vendor="amd")
    assert node.rig.stub.allocatable() == {AMD: 1, INTEL: 1}
    for filler in fillers:
        filler.unlink()
    node.full = THREE
    with recovering("full file systems under state and CDI files"):
        await node.lists({AMD: 2, INTEL: 1})
        await daemon.until(lambda: first in (inner / "health.json").read_text())
    remount(daemon, cdi, "ro")
    write_amd_node(node.rig.host_root, GPUS[:4])
    await daemon.wait_event("vendor_waits", reason=f"{cdi}/{AMD_FILE}: Read-only file system")
    assert node.rig.stub.capacity() == THREE
    remount(daemon, cdi, "rw")
    node.full = {AMD: 4, INTEL: 1}
    with recovering("read-only file system under the CDI files"):
        await node.lists({AMD: 3, INTEL: 1})
