"""The answer to an expectation; pure."""

from collections.abc import Mapping

from msgspec import Struct

LEVELS = ("none", "memory", "process", "hardware")  # of isolation, the weakest first


class Outcome(Struct, frozen=True):
    """Whether an expectation is met (None: nothing tells), and what was measured."""

    met: bool | None
    measured: str


def each(met: Mapping[str, bool | None], none: str) -> Outcome:
    """Met where everything that tells meets it; `none` is said where there is nothing."""
    if not met:
        return Outcome(None, none)
    counts = ", ".join(f"{name}: {_word(one)}" for name, one in met.items())
    known = [one for one in met.values() if one is not None]
    return Outcome(all(known) if known else None, counts)


def _word(met: bool | None) -> str:
    return "unknown" if met is None else "yes" if met else "no"
