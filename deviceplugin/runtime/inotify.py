"""Changes in directories, told by the kernel (man 7 inotify): a sign to look, not what is there.

Own bindings, because those of the package index look for libc by starting `ldconfig` or a compiler
(decision 11).
"""

import asyncio
import ctypes
import os
import struct
from collections.abc import Iterator
from enum import IntFlag
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, length of the name with its padding
_READ = 64 * 1024


class Mask(IntFlag):
    """What happened, and what to be told of: linux/inotify.h."""

    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x01000000


class Event(Struct, frozen=True):
    """One event; `name` is that of the file in the watched directory, empty for the directory
    itself and for Q_OVERFLOW, which stands for events that were too many."""

    mask: Mask
    name: str


class Inotify:
    """An inotify instance, closed at the end of its context.

    Raises OSError where the user has no instances left (EMFILE), as `add_watch` does for a
    directory that is not there and where no watches are left (ENOSPC).
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = _checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def add_watch(self, directory: Path, mask: Mask) -> None:
        """Tell of `mask` in the directory from here on."""
        path = os.fsencode(directory)
        _checked(self._libc.inotify_add_watch(self._descriptor, path, ctypes.c_uint32(mask)))

    async def events(self) -> list[Event]:
        """What has happened and was not told yet, at least one event; waits for it."""
        while True:
            try:
                return list(parse_events(os.read(self._descriptor, _READ)))
            except BlockingIOError:
                await _readable(self._descriptor)


def parse_events(data: bytes) -> Iterator[Event]:
    """The whole events in what was read; the kernel gives no others."""
    at = 0
    while at + _EVENT.size <= len(data):
        _, mask, _, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        name = data[at : at + length].rstrip(b"\0")
        yield Event(Mask(mask), os.fsdecode(name))
        at += length


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
