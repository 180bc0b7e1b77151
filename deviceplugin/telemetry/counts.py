"""Metrics of telemetry itself: how long samples take, and how many fail."""

from collections.abc import Iterator

from deviceplugin.metrics.registry import Counter, Histogram
from deviceplugin.runtime.part import Series

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class SampleCounts:
    """Counted on the vendors' threads, one vendor's always on the same."""

    def __init__(self) -> None:
        self._took = Histogram(
            "deviceplugin_sample_duration_seconds",
            "Time in which one GPU and its partitions were measured",
            "vendor",
            _BUCKETS_S,
        )
        self._failed = Counter(
            "deviceplugin_sample_failures_total",
            "Samples of a GPU that gave an error, or nothing within their deadline",
            ["vendor", "reason"],
        )

    def collect(self) -> Iterator[Series]:
        """Both as they are now."""
        yield from self._took.collect()
        yield from self._failed.collect()

    def took(self, vendor: str, seconds: float) -> None:
        """A sample took `seconds`."""
        self._took.observe(vendor, seconds)

    def failed(self, vendor: str, reason: str) -> None:
        """A sample gave nothing."""
        self._failed.inc(vendor, reason)
