"""The daemon's own work as counters and histograms."""

from collections.abc import Iterator

from deviceplugin.metrics.registry import Counter, Histogram
from deviceplugin.runtime.part import Series

_DISCOVERY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class DaemonMetrics:
    """Discoveries and failures of tasks."""

    def __init__(self) -> None:
        self._discovery = Histogram(
            "deviceplugin_discovery_duration_seconds",
            "Time of one discovery",
            "vendor",
            _DISCOVERY_BUCKETS_S,
        )
        self._failures = Counter(
            "deviceplugin_task_failures_total",
            "Failures of a task that was then tried again",
            ["task"],
        )

    def collect(self) -> Iterator[Series]:
        """Both as they are now."""
        yield from self._discovery.collect()
        yield from self._failures.collect()

    def discovered(self, vendor: str, seconds: float) -> None:
        """A discovery took `seconds`."""
        self._discovery.observe(vendor, seconds)

    def task_failed(self, task: str) -> None:
        """A task failed and is tried again."""
        self._failures.inc(task)
