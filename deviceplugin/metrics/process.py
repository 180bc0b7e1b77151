"""The daemon's own process as series, by the names that Prometheus' libraries use."""

import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from deviceplugin.metrics.registry import Family, Kind

_HELP = {
    "cpu_seconds_total": "User and system CPU time spent",
    "max_fds": "How many file descriptors may be open",
    "open_fds": "How many file descriptors are open",
    "resident_memory_bytes": "Resident memory",
    "start_time_seconds": "When the process started, in Unix seconds",
    "virtual_memory_bytes": "Virtual memory",
}


class ProcessCollector:
    """Reads them at each scrape."""

    def collect(self) -> Iterator[Family]:
        """What can be read of the process now."""
        for name, value in read_own_process().items():
            kind: Kind = "counter" if name.endswith("_total") else "gauge"
            family = Family(f"process_{name}", kind, _HELP[name])
            family.add((), value)
            yield family


_SELF = Path("/proc/self")


_START = 21  # of /proc/self/stat, counted from 0


def read_own_process() -> Mapping[str, float]:
    """Memory in bytes, times in seconds, file descriptors; without what cannot be read."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "cpu_seconds_total": used.ru_utime + used.ru_stime,
        "max_fds": float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    }
    try:
        virtual, resident = (_SELF / "statm").read_text().split()[:2]
        found["virtual_memory_bytes"] = float(virtual) * resource.getpagesize()
        found["resident_memory_bytes"] = float(resident) * resource.getpagesize()
        found["open_fds"] = float(len(os.listdir(_SELF / "fd")))
        found["start_time_seconds"] = _started_at()
    except (OSError, ValueError, IndexError):
        return found
    return found


def _started_at() -> float:
    """When this process started, in Unix seconds."""
    # The second field is the program's name, which may hold spaces and parentheses.
    fields = (_SELF / "stat").read_text().rpartition(")")[2].split()
    ticks = float(fields[_START - 2]) / os.sysconf("SC_CLK_TCK")
    lines = Path("/proc/stat").read_text().splitlines()
    return ticks + float(next(line.split()[1] for line in lines if line.startswith("btime")))
