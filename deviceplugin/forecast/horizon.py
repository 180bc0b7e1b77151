"""A forecast for one horizon, made at each origin from what was known at it; pure.

The simple forecasts are weighted by how well each did of late at this horizon. A band is made of
the errors that the weighted forecast made before (conformal), and its level follows how often
bands missed (adaptive), since errors of the past are not those of the future.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from deviceplugin.forecast.past import FORTNIGHT, Past

POWER = 3  # of the errors in weights
COVER = 0.8
PACE = 0.03  # by which a missed or kept band moves the level of the next
FEWEST = 12  # errors that make a band
FIRST = 48  # hours that are measured before the first forecast


class Step(Struct, frozen=True, kw_only=True):
    """A forecast of the past or of now. `low` and `high` are None while too few errors are known,
    `actual` where the hour is still to come or was not measured."""

    origin: int
    value: float
    low: float | None
    high: float | None
    actual: float | None


class _Open(Struct, frozen=True):
    step: Step
    candidates: tuple[float, ...]


class Horizon:
    """One horizon of one series. `at` is called with rising origins."""

    def __init__(self, past: Past, ahead: int, stride: int) -> None:
        self._past, self._ahead = past, ahead
        self._open: deque[_Open] = deque()
        self._window = max(FEWEST, FORTNIGHT // stride)
        self._errors: deque[tuple[float, ...]] = deque()
        self._totals = [0.0] * len(past.candidates(0, 1))
        self._residuals: deque[float] = deque()
        self._sorted: list[float] = []
        self._miss = 1 - COVER

    @property
    def measured(self) -> int:
        """How many errors are known."""
        return len(self._residuals)

    def at(self, origin: int) -> Step:
        """The forecast made at this hour, from what was known then."""
        while self._open and self._open[0].step.origin + self._ahead <= origin:
            self._learn(self._open.popleft())
        candidates = self._past.candidates(origin, self._ahead)
        value = sum(w * one for w, one in zip(self.weights(), candidates, strict=True))
        target = origin + self._ahead
        known = target < len(self._past.values)
        low, high = self.offsets() or (None, None)
        step = Step(
            origin=origin,
            value=value,
            low=None if low is None else max(0.0, value + low),
            high=None if high is None else max(0.0, value + high),
            actual=self._past.values[target] if known else None,
        )
        if step.actual is not None:
            self._open.append(_Open(step, candidates))
        return step

    def weights(self) -> list[float]:
        """The weight of each candidate, alike while nothing is known of them."""
        if not self._errors:
            return [1 / len(self._totals)] * len(self._totals)
        # Rounding may leave a total just below zero.
        least = max(*self._totals, 1e-09) * 1e-6
        parts = [1 / max(total, least) ** POWER for total in self._totals]
        return [part / sum(parts) for part in parts]

    def offsets(self) -> tuple[float, float] | None:
        """What a band has below and above the forecast, None while too few errors are known. Where
        all errors of late were on one side, as of a series that grows, it begins at the forecast.
        """
        if len(self._sorted) < FEWEST:
            return None
        half = min(max(self._miss, 0.0), 1.0) / 2
        low, high = _quantile(self._sorted, half), _quantile(self._sorted, 1 - half)
        return min(low, 0.0), max(high, 0.0)

    def _learn(self, one: _Open) -> None:
        actual = one.step.actual or 0.0
        errors = tuple(abs(candidate - actual) for candidate in one.candidates)
        self._errors.append(errors)
        gone = self._errors.popleft() if len(self._errors) > self._window else (0.0,) * len(errors)
        self._totals = [t + e - g for t, e, g in zip(self._totals, errors, gone, strict=True)]
        if one.step.low is not None and one.step.high is not None:
            missed = not one.step.low <= actual <= one.step.high
            self._miss += PACE * (1 - COVER - missed)
        residual = actual - one.step.value
        self._residuals.append(residual)
        insort(self._sorted, residual)
        if len(self._residuals) > self._window:
            old = self._residuals.popleft()
            del self._sorted[bisect_left(self._sorted, old)]


def walk(past: Past, ahead: int, stride: int) -> tuple[Horizon, list[Step]]:
    """Every forecast of the past at this horizon, and what was learnt by them; the last origins are
    whole strides before the end."""
    horizon = Horizon(past, ahead, stride)
    return horizon, list(_steps(horizon, past, stride))


def _steps(horizon: Horizon, past: Past, stride: int) -> Iterator[Step]:
    end = len(past.values) - 1
    for origin in range(end % stride, end + 1, stride):
        if past.known_until(origin) >= FIRST:
            yield horizon.at(origin)


def _quantile(ordered: list[float], part: float) -> float:
    """Of N errors and one to come: the smallest that the part of N + 1 does not exceed."""
    rank = part * (len(ordered) + 1)
    below = min(max(int(rank), 1), len(ordered))
    above = min(below + 1, len(ordered))
    first, second = ordered[below - 1], ordered[above - 1]
    return first + (second - first) * min(max(rank - below, 0.0), 1.0)
