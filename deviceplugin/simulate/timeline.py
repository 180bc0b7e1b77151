"""How a cluster stands over time: levels, their means, and who waited for how long; pure."""

import math
from collections.abc import Sequence

from msgspec import Struct

BINS = 200
LEAST_S = 1.0


class Levels(Struct):
    """Thousandths of GPUs that are allocated, fragments, and asked for by pods that wait; and how
    many pods wait for GPUs."""

    allocated: float = 0.0
    fragmented: float = 0.0
    waiting: float = 0.0
    pods: float = 0.0

    def add(self, other: "Levels", seconds: float) -> None:
        """Levels that stood so long."""
        self.allocated += other.allocated * seconds
        self.fragmented += other.fragmented * seconds
        self.waiting += other.waiting * seconds
        self.pods += other.pods * seconds

    def over(self, seconds: float) -> "Levels":
        """The means over so long."""
        return Levels(
            self.allocated / seconds,
            self.fragmented / seconds,
            self.waiting / seconds,
            self.pods / seconds,
        )


class Timeline:
    """Levels from `start` to `end`, which are changed by who owns this; what comes after the end
    does not count."""

    def __init__(self, start: float, end: float) -> None:
        self.now = Levels()
        self.start, self.end = start, max(end, start + LEAST_S)
        self._bins = [Levels() for _ in range(BINS)]
        self._width = (self.end - self.start) / BINS
        self._last = start

    def until(self, at: float) -> None:
        """The levels stand as they are until then."""
        at = min(at, self.end)
        while self._last < at:
            number = min(int((self._last - self.start) / self._width), BINS - 1)
            edge = self.start + (number + 1) * self._width
            stop = at if number == BINS - 1 else min(at, edge)
            if stop <= self._last:  # a bin narrower than what a float can tell apart
                stop = at
            self._bins[number].add(self.now, stop - self._last)
            self._last = stop

    def means(self) -> Levels:
        """Over all of the time."""
        total = Levels()
        for one in self._bins:
            total.add(one, 1.0)
        return total.over(self.end - self.start)

    def points(self) -> Sequence[tuple[float, Levels]]:
        """The means of equal parts of the time, with the seconds from the start to their middle."""
        return [
            ((number + 0.5) * self._width, one.over(self._width))
            for number, one in enumerate(self._bins)
        ]


def quantile(ordered: Sequence[float], part: float) -> float | None:
    """The value that so great a part is not above; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
