"""The sets of faults that health watches report, and which run of a watch each is from.

A watch is run again when its devices or the configuration change. What an earlier run reported
stands until the next one reports, so that no device is Healthy in between for want of a report.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct

from deviceplugin.model import Fault

Put = Callable[[str, Iterable[Fault]], None]
Key = tuple[str, str]  # vendor, source


class Run(Struct, kw_only=True, eq=False):
    """One run of a vendor's watch; `number` grows. `ended`: it was asked to end; `failed`: it
    raised."""

    vendor: str
    number: int
    ended: bool = False
    failed: bool = False


class WatchReports:
    """Passes sets to `put` as those of `vendor:watch:source`; on the loop."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._runs = 0
        self._oldest: dict[str, int] = {}  # earlier runs are not heard any more
        self._from: dict[Key, Run] = {}

    def begin(self, vendor: str) -> Run:
        """A new run of the vendor's watch."""
        self._runs += 1
        return Run(vendor=vendor, number=self._runs)

    def report(self, run: Run, source: str, faults: Iterable[Fault]) -> None:
        """Replace the set of `source`; a later run's report stands, and a run that has ended may
        only replace what it reported itself."""
        key = (run.vendor, source)
        last = self._from.get(key)
        outdated = run.number < max(self._oldest.get(run.vendor, 0), last.number if last else 0)
        if outdated or (run.ended and last is not run):
            return
        self._from[key] = run
        self._put(_reporter(key), faults)

    def settle(self, run: Run) -> None:
        """Drop what earlier runs reported and this one has not, unless this one failed: then the
        last known set stands until the next run."""
        if not run.failed:
            self._drop(run.vendor, run.number)

    def drop(self, vendor: str) -> None:
        """Drop every set of a vendor that has no watch any more."""
        self._drop(vendor, self._runs + 1)

    def _drop(self, vendor: str, oldest: int) -> None:
        self._oldest[vendor] = max(oldest, self._oldest.get(vendor, 0))
        ended = [k for k, run in self._from.items() if k[0] == vendor and run.number < oldest]
        for key in ended:
            del self._from[key]
            self._put(_reporter(key), ())


def _reporter(key: Key) -> str:
    """Apart from the daemon's own sets of the vendor: driver, discovery, files, probe."""
    return f"{key[0]}:watch:{key[1]}"
