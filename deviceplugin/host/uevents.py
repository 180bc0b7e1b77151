"""Kernel uevents from netlink: a hint that hardware changed, never the truth about it.

The socket needs no privilege (man 7 netlink, NETLINK_KOBJECT_UEVENT). Where it cannot be had, the
periodic discovery sees the same change a few seconds later.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
SUBSYSTEMS = frozenset({"pci", "drm", "vfio", "mdev", "platform", "module"})
OVERRUN = "overrun"


class Uevent(Struct, frozen=True, kw_only=True):
    """One kernel event: `action` is add, remove, change, bind or unbind, or OVERRUN where the
    kernel dropped events because we were slow."""

    action: str
    subsystem: str
    devpath: str
    fields: tuple[tuple[str, str], ...] = ()


def parse_uevent(message: bytes) -> Uevent | None:
    """A kernel message as an event, None for anything else (udev's copies have another form)."""
    parts = message.decode("utf-8", "replace").split("\0")
    if "@" not in parts[0]:
        return None
    fields = dict(part.split("=", 1) for part in parts[1:] if "=" in part)
    return Uevent(
        action=fields.get("ACTION", ""),
        subsystem=fields.get("SUBSYSTEM", ""),
        devpath=fields.get("DEVPATH", ""),
        fields=tuple(sorted(fields.items())),
    )


def isolated_from_uevents(uid_map: Path = Path("/proc/self/uid_map")) -> bool:
    """Whether we are in a user namespace of our own: the kernel sends its events to the network
    namespaces of the initial one alone (kobject_uevent.c), and our socket would be silent."""
    try:
        return uid_map.read_text().split() != ["0", "0", str((1 << 32) - 1)]
    except OSError:
        return False


async def watch_uevents(happened: Callable[[Uevent], None]) -> None:
    """Call `happened` for each event of a subsystem that GPUs live in; runs until cancelled.

    Raises OSError where the kernel gives no such socket.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as netlink:
        netlink.setblocking(False)
        netlink.bind((0, KERNEL_GROUP))
        while True:
            event = await _next(netlink)
            await asyncio.sleep(0)  # a storm of them keeps nobody else from the loop
            if event and (event.subsystem in SUBSYSTEMS or event.action == OVERRUN):
                happened(event)


async def _next(netlink: socket.socket) -> Uevent | None:
    """The kernel's next event, OVERRUN for events that were too many, None for what others sent.

    Any process may send to our port, only the kernel sends from port 0.
    """
    try:
        message, sender = await _received(netlink)
    except OSError as error:
        if error.errno != errno.ENOBUFS:  # a burst overran the socket, which goes on after it
            raise
        return Uevent(action=OVERRUN, subsystem="", devpath="")
    return parse_uevent(message) if sender[0] == 0 else None


async def _received(netlink: socket.socket) -> tuple[bytes, tuple[int, int]]:
    """The next message and its sender. Not by the loop's own sock_recvfrom: that asks first whether
    the socket is one of TLS, and so loads OpenSSL."""
    while True:
        try:
            message, sender = netlink.recvfrom(1 << 16)
        except BlockingIOError:
            await _readable(netlink)
        else:
            return message, sender


async def _readable(netlink: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(netlink, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(netlink)
