"""Curves of the last hour: each minute at its place, what is not known is a gap."""

from collections.abc import Sequence

from msgspec import Struct

from deviceplugin.model import Device, DeviceID
from deviceplugin.page.trends import trends_of

NOW = 10_000_000.0
GPUS = [Device(id=DeviceID(name), vendor="nvidia") for name in ("A", "B")]


class Point(Struct, frozen=True):
    at: int
    mean: float


def query(metric: str, subject: str, start: float, end: float) -> Sequence[Point]:
    assert (start, end) == (NOW - 3600, NOW)
    if (metric, subject) != ("power_watts", "A"):
        return ()
    minutes = ((0, 1.0), (2, 3.0), (59, 60.0), (-5, 9.0))
    return [Point(int(start) + 60 * minute, value) for minute, value in minutes]


def test_each_minute_is_at_its_place_and_gaps_stay() -> None:
    found = trends_of(query, GPUS, NOW)
    assert list(found) == ["A"]
    (curve,) = found[DeviceID("A")]
    assert (curve.metric, curve.step_s, len(curve.values)) == ("power", 60.0, 60)
    known = {place: value for place, value in enumerate(curve.values) if value is not None}
    assert known == {0: 1.0, 2: 3.0, 59: 60.0}
