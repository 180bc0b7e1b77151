"""Lines of the checklist, findings about them, and what they amount to. Values only, no calls."""

import tomllib
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from importlib.resources import files
from statistics import median

from msgspec import Struct

SHOWN = 3


class Outcome(StrEnum):
    """A verdict; what was not seen is never a pass.

    LOST: it should have been seen, and the plugin did not let it. SKIP: it cannot be seen, or
    not without an option, or there is nothing of the kind.
    """

    PASS = "pass"  # noqa: S105  # a verdict, no password
    FAIL = "fail"
    LOST = "lost"
    SKIP = "skip"


class Line(Struct, frozen=True, kw_only=True):
    """A statement of the checklist; the fields are explained in checklist.toml."""

    number: int
    part: str
    says: str
    why: str
    needs: tuple[str, ...] = ()
    unseen: str = ""
    hidden: str = ""


class Finding(Struct, frozen=True):
    """What was seen of one line, once."""

    line: int
    outcome: Outcome
    seen: str


class Verdict(Struct, frozen=True):
    """What all findings about a line come to."""

    line: Line
    outcome: Outcome
    seen: str


DEVICE_PLUGIN, DRA = "checklist.toml", "dra_checklist.toml"


def checklist(name: str = DEVICE_PLUGIN) -> tuple[Line, ...]:
    """Every line of a checklist, in order."""
    text = files("deviceplugin.testing.conformance").joinpath(name).read_text("utf-8")
    rows = tomllib.loads(text)["line"]
    return tuple(Line(**row | {"needs": tuple(row.get("needs", ()))}) for row in rows)


def passed(line: int, seen: str) -> Finding:
    """The line was seen to be kept."""
    return Finding(line, Outcome.PASS, seen)


def failed(line: int, seen: str) -> Finding:
    """The line was seen to be broken."""
    return Finding(line, Outcome.FAIL, seen)


def skipped(line: int, reason: str) -> Finding:
    """The line cannot be seen here."""
    return Finding(line, Outcome.SKIP, reason)


def lost(line: int, reason: str) -> Finding:
    """The line should have been seen, and could not be because of the plugin."""
    return Finding(line, Outcome.LOST, reason)


def judged(line: int, problems: Iterable[str], seen: str) -> Finding:
    """A fail with the problems, each once, or a pass with what was seen."""
    found = list(dict.fromkeys(problems))
    return failed(line, _first(found)) if found else passed(line, seen)


def timed(line: int, what: str, times_s: Sequence[float], limit_s: float) -> Finding:
    """Whether the median of the times is below the limit: one outlier may be the machine's."""
    middle_s = median(times_s)
    seen = (
        f"{what}: median {_ms(middle_s)} of {len(times_s)}, worst {_ms(max(times_s))},"
        f" limit {_ms(limit_s)}"
    )
    return passed(line, seen) if middle_s < limit_s else failed(line, seen)


def verdicts(findings: Collection[Finding], name: str = DEVICE_PLUGIN) -> tuple[Verdict, ...]:
    """One verdict for each line of the checklist."""
    return tuple(
        _verdict(line, [f for f in findings if f.line == line.number]) for line in checklist(name)
    )


def _verdict(line: Line, findings: Sequence[Finding]) -> Verdict:
    for outcome in (Outcome.FAIL, Outcome.LOST, Outcome.PASS, Outcome.SKIP):
        texts = list(dict.fromkeys(f.seen for f in findings if f.outcome is outcome))
        if texts:
            return Verdict(line, outcome, _with_unseen(line, outcome, _first(texts)))
    if line.hidden:
        return Verdict(line, Outcome.SKIP, f"not visible from the wire: {line.hidden}")
    return Verdict(line, Outcome.LOST, "not reached: the suite ended before")


def _with_unseen(line: Line, outcome: Outcome, seen: str) -> str:
    if outcome is Outcome.PASS and line.unseen:
        return f"{seen} (not seen: {line.unseen})"
    return seen


def _first(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
