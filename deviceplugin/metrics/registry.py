"""Counters, histograms and gauges, and the text in which a scrape gets them."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import structlog
from msgspec import Struct, field

from deviceplugin.runtime.guard import outcome_of
from deviceplugin.runtime.part import Collector, Series

log = structlog.get_logger()

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


Kind = Literal["counter", "gauge", "histogram"]


# What follows the family's name, the labels, and the value.
Sample = tuple[str, Sequence[tuple[str, str]], float]


_IN_LABELS = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Family(Struct):
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


class Registry:
    """What a scrape asks, in the order of registration; a collector that fails costs its own
    series and no other's."""

    def __init__(self) -> None:
        self._sources: dict[str, Collector] = {}
        self._failures: dict[str, str] = {}

    def register(self, source: Collector, name: str = "") -> None:
        """Ask `source` at each scrape; `name` stands in `deviceplugin_collector_success`.

        Raises ValueError for a name that is taken.
        """
        name = name or type(source).__name__
        if name in self._sources:
            raise ValueError(f"there is a collector {name!r} already")
        self._sources[name] = source

    def register_all(self, sources: Mapping[str, Collector]) -> None:
        """Ask each of `sources` at each scrape, by its name."""
        for name, source in sources.items():
            self.register(source, name)

    def collect(self) -> Iterator[Series]:
        """All series as they are now."""
        for families, _ in self._read():
            yield from families

    def text(self) -> str:
        """All series as one document."""
        return "".join(text for _, text in self._read())

    def _read(self) -> Iterator[tuple[Sequence[Series], str]]:
        """The series of each collector with their text, and at last which collectors failed."""
        success = Family(
            "deviceplugin_collector_success",
            "gauge",
            "1 for a source of series that could be read, 0 for one that failed",
            ["collector"],
        )
        for name, source in self._sources.items():
            outcome = outcome_of(partial(_rendered, source))
            self._tell(name, outcome)
            success.add([name], float(not isinstance(outcome, Exception)))
            if not isinstance(outcome, Exception):
                yield outcome
        yield [success], "".join(f"{line}\n" for line in success.lines())

    def _tell(self, name: str, outcome: object) -> None:
        """Once per change: a scrape comes every few seconds."""
        failure = repr(outcome) if isinstance(outcome, Exception) else ""
        if failure == self._failures.get(name, ""):
            return
        self._failures[name] = failure
        if isinstance(outcome, Exception):
            log.error("collector_failed", collector=name, error=failure, exc_info=outcome)
        else:
            log.info("collector_recovered", collector=name)


def _rendered(source: Collector) -> tuple[Sequence[Series], str]:
    families = list(source.collect())
    return families, "".join(f"{line}\n" for family in families for line in family.lines())


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
