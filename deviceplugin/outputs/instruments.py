"""Counters and histograms: changed on the loop, read by a scrape on another thread.

A scrape copies with one call what may change meanwhile, which the interpreter does in one step.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from deviceplugin.outputs.exposition import Family, number


class Counter:
    """A family of counts; one without labels is told before it counts."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self._name, self._help, self._labels = name, text, labels
        self._counts: dict[tuple[str, ...], int] = {} if labels else {(): 0}

    def inc(self, *values: str) -> None:
        """One more of these values of the labels."""
        self._counts[values] = self._counts.get(values, 0) + 1

    def collect(self) -> Iterator[Family]:
        """The family as it is now."""
        family = Family(self._name, "counter", self._help, self._labels)
        for values, count in list(self._counts.items()):
            family.add(values, count)
        yield family


class Histogram:
    """A family of distributions with one label; `bounds` are the buckets' upper ones, ascending."""

    def __init__(self, name: str, text: str, label: str, bounds: Sequence[float]) -> None:
        self._name, self._help, self._label = name, text, label
        self._bounds = (*bounds, float("inf"))
        # For each value of the label: how many fell into each bucket alone, and their sum.
        self._seen: dict[str, tuple[list[int], list[float]]] = {}

    def observe(self, label: str, value: float) -> None:
        """Count `value` in."""
        seen = self._seen.get(label)
        if seen is None:
            seen = self._seen[label] = ([0] * len(self._bounds), [0.0])
        seen[0][bisect_left(self._bounds, value)] += 1
        seen[1][0] += value

    def collect(self) -> Iterator[Family]:
        """The family as it is now; its buckets count what lies below them too."""
        family = Family(self._name, "histogram", self._help)
        for value, (buckets, total) in list(self._seen.items()):
            label, count = (self._label, value), 0
            for bound, here in zip(self._bounds, list(buckets), strict=True):
                count += here
                family.samples.append(("_bucket", (label, ("le", number(bound))), count))
            family.samples.append(("_count", (label,), count))
            family.samples.append(("_sum", (label,), total[0]))
        yield family
