"""What is expected of an hourly series for the next 30 days, and how far that can be trusted; pure.

Every figure comes with its back-test: the same forecast made at each hour of the series' own past.
Where no past is long enough to test a horizon, the points beyond are marked as not backed.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.forecast.horizon import FEWEST, FIRST, Horizon, Step, walk
from deviceplugin.forecast.past import DAY, WEEK, Hourly, Past, gaps

HORIZONS = (1, 3, 6, 12, 24, 48, 72, 168, 336, 720)
MOST_HOURS = 720
# Of origins, in hours: what is far ahead changes little from one hour to the next.
STRIDE, LONG_STRIDE, LONG_H = 1, 3, 6
# A store with less says nothing about the next month; with more, the old part says little.
MOST_PAST = 2000


class Point(Struct, frozen=True, kw_only=True):
    """One hour to come. `low` and `high` hold it in four of five cases, if errors are as they were;
    `backed` says whether a horizon at least as long was tested."""

    ahead_h: int
    value: float
    low: float
    high: float
    backed: bool


class Accuracy(Struct, frozen=True, kw_only=True):
    """What a horizon's forecasts came to in the newer half of the series. Errors are sums of
    absolute errors over the sum of what came (WAPE), None where that sum is 0; `naive` are those of
    the last value, of the same hour a day ago and a week ago."""

    ahead_h: int
    tested: int
    error: float | None
    naive: tuple[float | None, float | None, float | None]
    covered: float | None


class Saturation(Struct, frozen=True, kw_only=True):
    """Hours until a capacity is reached: by the band's upper edge, by the forecast, by the band's
    lower edge; None where that is beyond the horizon."""

    early_h: int | None
    median_h: int | None
    late_h: int | None


class Outlook(Struct, frozen=True, kw_only=True):
    """A series' forecast; without points `reason` says why there are none."""

    known: int
    gaps: int
    last: float | None
    points: tuple[Point, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    reason: str = ""


def outlook(series: Hourly, hours: int = MOST_HOURS) -> Outlook:
    """What is expected of a series for so many hours after its last one."""
    past = Past(series.values[-MOST_PAST:])
    at = len(past.values) - 1
    known = past.known_until(at) if at >= 0 else 0
    told = Outlook(known=known, gaps=gaps(past.values), last=past.last(at) if at >= 0 else None)
    if known < FIRST:
        return replace(told, reason=f"{known} hours are known, a forecast needs {FIRST}")
    walked = [(h, *walk(past, h, STRIDE if h < LONG_H else LONG_STRIDE)) for h in HORIZONS]
    tested = [(h, horizon) for h, horizon, _ in walked if horizon.measured >= FEWEST]
    if not tested:
        return replace(told, reason="too little was measured in a row to test a forecast")
    found = (_accuracy(past, h, steps) for h, _, steps in walked)
    return replace(
        told,
        points=tuple(_points(past, tested, hours)),
        accuracies=tuple(one for one in found if one is not None),
    )


def saturation(points: Sequence[Point], capacity: float) -> Saturation:
    """When the forecast and its band reach a capacity."""
    return Saturation(
        early_h=_first(((p.ahead_h, p.high) for p in points), capacity),
        median_h=_first(((p.ahead_h, p.value) for p in points), capacity),
        late_h=_first(((p.ahead_h, p.low) for p in points), capacity),
    )


def _first(values: Iterator[tuple[int, float]], capacity: float) -> int | None:
    return next((ahead for ahead, value in values if value >= capacity), None)


def _points(past: Past, tested: Sequence[tuple[int, Horizon]], hours: int) -> Iterator[Point]:
    at = len(past.values) - 1
    for ahead in range(1, hours + 1):
        weights, (low, high) = _between(tested, ahead)
        candidates = past.candidates(at, ahead)
        value = sum(w * one for w, one in zip(weights, candidates, strict=True))
        yield Point(
            ahead_h=ahead,
            value=value,
            low=max(0.0, value + low),
            high=max(0.0, value + high),
            backed=ahead <= tested[-1][0],
        )


def _between(
    tested: Sequence[tuple[int, Horizon]], ahead: int
) -> tuple[Sequence[float], tuple[float, float]]:
    """Weights and band of an hour between two horizons that were tested; beyond the last one the
    band grows as that of a random walk does."""
    first, last = tested[0], tested[-1]
    if ahead <= first[0] or ahead >= last[0]:
        h, one = first if ahead <= first[0] else last
        wider = max(1.0, ahead / h) ** 0.5
        low, high = one.offsets() or (0.0, 0.0)
        return one.weights(), (low * wider, high * wider)
    (h1, one), (h2, other) = next((a, b) for a, b in pairwise(tested) if a[0] <= ahead <= b[0])
    part = (ahead - h1) / (h2 - h1)
    weights = [a + (b - a) * part for a, b in zip(one.weights(), other.weights(), strict=True)]
    (low1, high1), (low2, high2) = one.offsets() or (0.0, 0.0), other.offsets() or (0.0, 0.0)
    return weights, (low1 + (low2 - low1) * part, high1 + (high2 - high1) * part)


def _accuracy(past: Past, ahead: int, steps: Sequence[Step]) -> Accuracy | None:
    known = [(step, step.actual) for step in steps if step.actual is not None]
    judged = known[len(known) // 2 :]
    if len(judged) < FEWEST:
        return None
    banded = [
        step.low <= actual <= step.high
        for step, actual in judged
        if step.low is not None and step.high is not None
    ]
    return Accuracy(
        ahead_h=ahead,
        tested=len(judged),
        error=_wape([(step.value, actual) for step, actual in judged]),
        naive=_naive(past, ahead, judged),
        covered=sum(banded) / len(banded) if banded else None,
    )


def _naive(
    past: Past, ahead: int, judged: Sequence[tuple[Step, float]]
) -> tuple[float | None, float | None, float | None]:
    last = [(past.last(step.origin) or 0.0, actual) for step, actual in judged]
    day, week = (
        [
            (value, actual)
            for step, actual in judged
            if (value := past.same_hour(step.origin, ahead, period)) is not None
        ]
        for period in (DAY, WEEK)
    )
    return _wape(last), _wape(day), _wape(week)


def _wape(pairs: Sequence[tuple[float, float]]) -> float | None:
    total = sum(abs(actual) for _, actual in pairs)
    return sum(abs(value - actual) for value, actual in pairs) / total if total > 0 else None
