"""The last hour of each GPU as curves, made of what the history kept; pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from deviceplugin.model import Device
from deviceplugin.page.model import Trend
from deviceplugin.page.status import Trends

HOUR_S, STEP_S = 3600, 60
# What is drawn, by its key in the catalogue.
DRAWN: Mapping[str, str] = {
    "utilization_ratio": "utilisation",
    "memory_used_bytes": "memory",
    "power_watts": "power",
}


class Point(Protocol):
    """A mean from `at` (Unix seconds) on."""

    @property
    def at(self) -> int:
        """Its beginning."""

    @property
    def mean(self) -> float:
        """The value."""


# The points of a metric of a device from one Unix second to another.
Query = Callable[[str, str, float, float], Sequence[Point]]


def trends_of(query: Query, gpus: Iterable[Device], now: float) -> Trends:
    """The curves of each GPU of which anything is known; a minute without a point is a gap."""
    found = {}
    for gpu in gpus:
        curves = [_trend(query(key, gpu.id, now - HOUR_S, now), name, now) for key, name in _DRAWN]
        found[gpu.id] = tuple(curve for curve in curves if curve is not None)
    return {gpu: curves for gpu, curves in found.items() if curves}


_DRAWN = tuple(DRAWN.items())


def _trend(points: Sequence[Point], name: str, now: float) -> Trend | None:
    values: list[float | None] = [None] * (HOUR_S // STEP_S)
    start = now - HOUR_S
    for point in points:
        place = int((point.at - start) // STEP_S)
        if 0 <= place < len(values):
            values[place] = point.mean
    if all(value is None for value in values):
        return None
    return Trend(metric=name, step_s=float(STEP_S), values=tuple(values))
