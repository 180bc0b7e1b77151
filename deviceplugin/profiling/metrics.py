"""Metrics of profiling itself; what it measures are telemetry's."""

from collections.abc import Iterator

from deviceplugin.metrics.registry import Family


def series_of(*, failing: bool) -> Iterator[Family]:
    """Whether files can be written."""
    family = Family("deviceplugin_profiling_failing", "gauge", "1 while profiles are not written")
    family.add((), float(failing))
    yield family
