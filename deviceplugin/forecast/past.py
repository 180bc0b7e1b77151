"""What is known of an hourly series, and the simple forecasts that it gives; pure."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

DAY, WEEK, FORTNIGHT, MONTH = 24, 168, 336, 672
# Days that are worth as much as the assumption that all hours of a day are alike.
PRIOR_DAYS = 3


class Hourly(Struct, frozen=True, kw_only=True):
    """Values of whole hours, None where nothing was measured; `start` is the Unix seconds of the
    first one's beginning."""

    start: float
    values: tuple[float | None, ...]


class Past:
    """A series with its sums, so that a mean of any part of it costs nothing."""

    def __init__(self, values: Sequence[float | None]) -> None:
        self.values = values
        self._sums, self._counts = _sums(values, 1)
        self._day_sums, self._day_counts = _sums(values, DAY)
        self._lasts = list(_carried(values))

    def known_until(self, at: int) -> int:
        """How many values were measured up to this hour."""
        return self._counts[at + 1]

    def last(self, at: int) -> float | None:
        """The newest value that was measured, None before the first."""
        return self._lasts[at]

    def mean(self, at: int, hours: int) -> float | None:
        """The mean of the hours up to `at`; None where nothing was measured in them."""
        begin = max(0, at + 1 - hours)
        count = self._counts[at + 1] - self._counts[begin]
        return (self._sums[at + 1] - self._sums[begin]) / count if count else None

    def same_hour(self, at: int, ahead: int, period: int) -> float | None:
        """The value a whole number of periods before the hour that is asked for."""
        index = at + ahead - period * -(-ahead // period)
        return self.values[index] if index >= 0 else None

    def candidates(self, at: int, ahead: int) -> tuple[float, ...]:
        """What simple rules expect `ahead` hours after `at`, in one order: the last value, the last
        value moved as the hour of the day is and half as much, the mean of four weeks, and the
        middle of it and the last value."""
        last, mean = self._lasts[at] or 0.0, self.mean(at, MONTH)
        usual = last if mean is None else mean
        moved = self._of_hour(at, at + ahead) - self._of_hour(at, at)
        shifted = (max(0.0, last + moved / 2), max(0.0, last + moved))
        return (last, *shifted, (last + usual) / 2, usual)

    def _of_hour(self, at: int, hour: int) -> float:
        """By how much the hour of the day is above the mean of four weeks; less where few days are
        known."""
        newest = at - (at - hour) % DAY
        oldest = newest - MONTH
        older = oldest >= 0
        if newest < 0:
            return 0.0
        count = self._day_counts[newest] - (self._day_counts[oldest] if older else 0)
        total = self._day_sums[newest] - (self._day_sums[oldest] if older else 0.0)
        mean = self.mean(at, MONTH)
        if not count or mean is None:
            return 0.0
        return (total / count - mean) * count / (count + PRIOR_DAYS)


def _sums(values: Sequence[float | None], step: int) -> tuple[list[float], list[int]]:
    """Of each index the sum and count of the values at it and whole steps before it; those of
    step 1 begin with a zero."""
    sums, counts = ([0.0], [0]) if step == 1 else ([], [])
    for index, value in enumerate(values):
        before = index - step + (1 if step == 1 else 0)
        sums.append((sums[before] if before >= 0 else 0.0) + (value or 0.0))
        counts.append((counts[before] if before >= 0 else 0) + (value is not None))
    return sums, counts


def _carried(values: Sequence[float | None]) -> Iterator[float | None]:
    last: float | None = None
    for value in values:
        last = last if value is None else value
        yield last


def hourly(points: Sequence[tuple[float, float]], end: float) -> Hourly:
    """Points at the ends of hours, as a series without holes from the first one to `end`."""
    known = {round(at / 3600): value for at, value in points}
    if not known:
        return Hourly(start=end, values=())
    first, last = min(known), round(end / 3600)
    return Hourly(
        start=(first - 1) * 3600.0,
        values=tuple(known.get(hour) for hour in range(first, last + 1)),
    )


def gaps(values: Sequence[float | None]) -> int:
    """How many times measuring has stopped."""
    return sum(1 for one, other in pairwise(values) if one is not None and other is None)
