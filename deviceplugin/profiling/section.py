"""What the configuration asks for in its section `profiling`; pure."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Output(Protocol):
    """Where files go, and for how long."""

    @property
    def location(self) -> str | None:
        """A folder; None for the one in the state directory."""

    @property
    def retention_s(self) -> float:
        """In seconds."""


class Wanted(Protocol):
    """The section, as its part sees it: the schema is loaded where a file has it."""

    @property
    def enabled(self) -> bool:
        """Whether anything is done."""

    @property
    def tools(self) -> Sequence[str]:
        """Tools that are looked for."""

    @property
    def metrics(self) -> Sequence[str]:
        """What is shown; empty for all."""

    @property
    def output(self) -> Output | None:
        """Of files."""


def wanted(sections: Mapping[str, object]) -> Wanted | None:
    """The section where it asks for something."""
    found: Wanted | None = sections.get("profiling")  # type: ignore[assignment]  # by its name
    return found if found is not None and found.enabled else None
