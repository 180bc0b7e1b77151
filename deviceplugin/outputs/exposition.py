"""Prometheus' text format 0.0.4: families of samples, and the registry that a scrape reads; pure.

The library for it is not used in the daemon for its memory: docs/decisions/0008.
"""

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
