"""What the kernel says of this process itself, in its own /proc (man 5 proc)."""

import os
import resource
from collections.abc import Mapping
from pathlib import Path

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
