"""Counters of a device's PMU by perf events: what is in sysfs, and the one system call.

Documentation/admin-guide/perf, perf_event_open(2). Counters of a whole device need CAP_PERFMON, or
kernel.perf_event_paranoid below 1; a container's seccomp profile may refuse the call, too.
"""

import ctypes
import errno
import os
import platform
import re
import struct
import sys
from collections.abc import Callable, Mapping

from msgspec import Struct

from deviceplugin.host.host import Host
from deviceplugin.host.numbers import parse_integer
from deviceplugin.host.optional import optional_int, optional_names, optional_text

SOURCES = "/sys/bus/event_source/devices"
_CALLS = {"x86_64": 298, "aarch64": 241}  # of perf_event_open
_ATTRIBUTES = struct.Struct("<IIQQQQQIIQ")  # struct perf_event_attr, PERF_ATTR_SIZE_VER0
_CLOSE_ON_EXEC = 8
_RANGE = re.compile(r"config:([0-9]{1,2})(?:-([0-9]{1,2}))?")
_FIRST_CPU = re.compile(r"[0-9]{1,5}")


class Pmu(Struct, frozen=True, kw_only=True):
    """A PMU: its number, the CPU that counts, its events, and where in `config` terms stand."""

    kind: int
    cpu: int
    events: Mapping[str, str]
    formats: Mapping[str, tuple[int, int]]

    def config(self, event: str, **terms: int) -> int | None:
        """The number of an event with these terms; None where the PMU has not got all of them."""
        text = self.events.get(event, "")
        parts = [part.partition("=") for part in text.split(",") if part]
        found = {name.strip(): parse_integer(value.strip()) for name, _, value in parts}
        places = {"config": (0, 64), **self.formats}
        config = 0
        for name, value in {**found, **terms}.items():
            first, width = places.get(name, (0, 0))
            if value is None or name not in places or value < 0 or value >> width:
                return None
            config |= value << first
        return config if parts else None


class Counter:
    """An open counter; what it counts goes on until it is closed, or forgotten."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> int:
        """The count; raises OSError where the device is gone."""
        content = os.read(self._descriptor, 8)
        if len(content) < 8:  # of a PMU that was unregistered
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return int.from_bytes(content, sys.byteorder)

    def __del__(self) -> None:
        os.close(self._descriptor)


# Opens the event `config` of a PMU; raises OSError.
Open = Callable[[Pmu, int], Counter]


def read_pmu(host: Host, name: str) -> Pmu | None:
    """The PMU of this name, None where there is none."""
    path = f"{SOURCES}/{name}"
    kind = optional_int(host, f"{path}/type")
    if kind is None or not 0 <= kind < 1 << 32:
        return None
    first = _FIRST_CPU.match(optional_text(host, f"{path}/cpumask") or "")
    return Pmu(
        kind=kind,
        cpu=int(first[0]) if first else 0,
        events=_texts(host, f"{path}/events"),
        formats={
            name: found
            for name, text in _texts(host, f"{path}/format").items()
            if (found := parse_format(text)) is not None
        },
    )


def parse_format(text: str) -> tuple[int, int] | None:
    """First bit and width of a term of `config`; None for any other text."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    return (first, last - first + 1) if first <= last < 64 else None


def open_counter(pmu: Pmu, config: int) -> Counter:
    """Open an event of a whole device; raises OSError."""
    number = _CALLS.get(platform.machine())
    if number is None:
        raise OSError(f"no number of perf_event_open is known for {platform.machine()}")
    library = ctypes.CDLL(None, use_errno=True)
    attributes = _ATTRIBUTES.pack(pmu.kind, _ATTRIBUTES.size, config, 0, 0, 0, 0, 0, 0, 0)
    found = library.syscall(number, attributes, -1, pmu.cpu, -1, _CLOSE_ON_EXEC)
    if found < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return Counter(found)


def _texts(host: Host, folder: str) -> Mapping[str, str]:
    names = optional_names(host, folder)
    return {name: optional_text(host, f"{folder}/{name}") or "" for name in names}
