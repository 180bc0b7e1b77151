"""Counters, histograms and gauges, and the text in which a scrape gets them."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


Kind = Literal["counter", "gauge", "histogram"]


# What follows the family's name, the labels, and the value.
Sample = tuple[str, Sequence[tuple[str, str]], float]


_IN_LABELS = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


@dataclass(slots=True)
class Family:
    """All series of one name; that of a counter ends in `_total`."""

    name: str
    kind: Kind
    help: str
    labels: Sequence[str] = ()
    samples: list[Sample] = field(default_factory=list)

    def add(self, values: Sequence[str], value: float) -> None:
        """The sample with these values of the labels."""
        self.samples.append(("", tuple(zip(self.labels, values, strict=True)), value))

    def lines(self) -> Iterator[str]:
        """The family as it is sent, labels sorted by name."""
        yield f"# HELP {self.name} {self.help.translate(_IN_HELP)}"
        yield f"# TYPE {self.name} {self.kind}"
        for suffix, labels, value in self.samples:
            pairs = [f'{name}="{text.translate(_IN_LABELS)}"' for name, text in sorted(labels)]
            shown = f"{{{','.join(pairs)}}}" if pairs else ""
            yield f"{self.name}{suffix}{shown} {number(value)}"


class Collector(Protocol):
    """A source of families."""

    def collect(self) -> Iterable[Family]:
        """Its families as they are now; called on another thread than the loop's."""


class Registry:
    """What a scrape asks, in the order of registration."""

    def __init__(self) -> None:
        self._sources: list[Collector] = []

    def register(self, source: Collector) -> None:
        """Ask `source` at each scrape."""
        self._sources.append(source)

    def collect(self) -> Iterator[Family]:
        """All families as they are now."""
        for source in self._sources:
            yield from source.collect()

    def text(self) -> str:
        """All families as one document."""
        return "".join(f"{line}\n" for family in self.collect() for line in family.lines())


def number(value: float) -> str:
    """A value as the format has it, infinity as `+Inf`."""
    return "+Inf" if value == float("inf") else repr(float(value))


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
