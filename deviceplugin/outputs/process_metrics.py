"""Series about the daemon's own process, by the names that Prometheus' libraries use for them."""

from collections.abc import Iterator

from deviceplugin.host.own_process import read_own_process
from deviceplugin.outputs.exposition import Family, Kind

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
