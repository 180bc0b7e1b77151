"""Metrics of active tests."""

from collections.abc import Iterator, Sequence

from deviceplugin.diagnose.active.values import Past
from deviceplugin.metrics.registry import Family


def series_of(past: Sequence[Past]) -> Iterator[Family]:
    """Of the newest result of each GPU and test; what was skipped has no value."""
    labels = ["device", "test"]
    failed = Family(
        "deviceplugin_active_test_failed", "gauge", "1 where the last one failed", labels
    )
    at = Family(
        "deviceplugin_active_test_timestamp_seconds", "gauge", "When the last one was made", labels
    )
    value = Family(
        "deviceplugin_active_test_value",
        "gauge",
        "What the last one measured: gigabytes a second, TFLOPS or degrees Celsius",
        labels,
    )
    for one in past:
        names = [one.outcome.device, one.outcome.test]
        if one.verdict != "skipped":
            failed.add(names, float(one.verdict == "fail"))
        at.add(names, one.at)
        if one.outcome.value is not None:
            value.add(names, one.outcome.value)
    yield from (failed, at, value)
