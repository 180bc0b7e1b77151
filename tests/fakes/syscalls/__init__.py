"""What the system does to the daemon: calls that fail, hang or are the last, a clock that jumps.

A C library between the daemon and libc does it (`shim.c`, loaded by LD_PRELOAD), steered by a file
that both sides map.
"""

import mmap
import struct
from enum import IntFlag, auto
from pathlib import Path

from msgspec import Struct

from tests.fakes.compiled import compiled

_HEADER = struct.Struct("=qII")
_RULE = struct.Struct("=8I240s240s")
_RULES = 4
_ALWAYS = 0xFFFFFFFF
_OFF, _KILL, _FAIL, _HANG = range(4)


class Call(IntFlag):
    """The calls that can be met; CREATE is an open that may write."""

    OPEN = auto()
    CREATE = auto()
    READ = auto()
    WRITE = auto()
    FSYNC = auto()
    RENAME = auto()
    UNLINK = auto()
    MKDIR = auto()
    CHMOD = auto()
    LIST = auto()
    STAT = auto()
    READLINK = auto()
    BIND = auto()
    CONNECT = auto()
    ACCEPT = auto()
    SEND = auto()
    RECEIVE = auto()
    INOTIFY_INIT = auto()
    INOTIFY_WATCH = auto()


READING = Call.OPEN | Call.READ | Call.LIST | Call.STAT | Call.READLINK
CHANGING = (
    Call.CREATE | Call.WRITE | Call.FSYNC | Call.RENAME | Call.UNLINK | Call.MKDIR | Call.CHMOD
)
SOCKETS = Call.BIND | Call.CONNECT | Call.ACCEPT | Call.SEND | Call.RECEIVE


class Point(Struct, frozen=True):
    """Which calls are met: those about paths that begin with `prefix`, all from number `skip` on,
    or `times` of them."""

    calls: Call
    prefix: str
    skip: int = 0
    times: int = _ALWAYS


class Faults:
    """One process's faults; `environment` is what it has to be started with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():  # cut while it is mapped, it would end whoever maps it
            path.write_bytes(bytes(_HEADER.size + _RULES * _RULE.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    @property
    def environment(self) -> dict[str, str]:
        library = compiled(Path(__file__).parent, "libsyscalls.so")
        return {"LD_PRELOAD": str(library), "SYSCALL_FAULTS": str(self._path)}

    def kill(self, *points: Point) -> None:
        """Kill the process right before the call that is met."""
        self._arm(_KILL, 0, points)

    def fail(self, number: int, *points: Point) -> None:
        """Let the calls fail with this errno."""
        self._arm(_FAIL, number, points)

    def hang(self, *points: Point) -> None:
        """Let the calls wait until `clear`; they go through then."""
        self._arm(_HANG, 0, points)

    def clear(self) -> None:
        """Let everything through from now on."""
        _HEADER.pack_into(self._map, 0, self._clock_ns, 0, 0)
        for index in range(_RULES):
            struct.pack_into("=I", self._map, self._at(index) + 4, _OFF)

    @property
    def fired(self) -> int:
        """How many calls were met since the last order."""
        return sum(_RULE.unpack_from(self._map, self._at(i))[6] for i in range(_RULES))

    @property
    def where(self) -> str:
        """The last call that was met, and its path."""
        texts = (_RULE.unpack_from(self._map, self._at(i))[9] for i in range(_RULES))
        return ", ".join(t.split(b"\0")[0].decode() for t in texts if t[0])

    def shift_clock(self, seconds: float) -> None:
        """Let the wall clock be so far from the true time."""
        struct.pack_into("=q", self._map, 0, int(seconds * 1e9))

    @property
    def _clock_ns(self) -> int:
        clock: int = struct.unpack_from("=q", self._map, 0)[0]
        return clock

    def _arm(self, action: int, number: int, points: tuple[Point, ...]) -> None:
        assert len(points) <= _RULES
        self.clear()
        calls = Call(0)
        for index in range(_RULES):
            _RULE.pack_into(self._map, self._at(index), *[0] * 8, b"", b"")
        for index, point in enumerate(points):
            numbers = (point.calls, action, number, point.skip, point.times, 0, 0, 0)
            _RULE.pack_into(self._map, self._at(index), *numbers, point.prefix.encode(), b"")
            calls |= point.calls
        _HEADER.pack_into(self._map, 0, self._clock_ns, calls, 0)

    @staticmethod
    def _at(index: int) -> int:
        return _HEADER.size + index * _RULE.size


__all__ = ["CHANGING", "READING", "SOCKETS", "Call", "Faults", "Point"]
