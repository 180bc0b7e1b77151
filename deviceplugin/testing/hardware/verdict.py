"""What the check found, and how it is shown; pure."""

import json
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct


class Verdict(StrEnum):
    """`agree`: as it should be. `not available`: it could not be compared, the detail says why."""

    AGREE = "agree"
    DIFFER = "differ"
    NOT_AVAILABLE = "not available"


class Check(Struct, frozen=True, kw_only=True):
    """One line of the result; `details` are lines, the first is shown beside the verdict."""

    name: str
    verdict: Verdict
    details: tuple[str, ...] = ()


def agree(name: str, *details: str) -> Check:
    """A check that came out as it should."""
    return Check(name=name, verdict=Verdict.AGREE, details=details)


def differ(name: str, *details: str) -> Check:
    """A check that came out otherwise."""
    return Check(name=name, verdict=Verdict.DIFFER, details=details)


def not_available(name: str, reason: str) -> Check:
    """A check that could not be made."""
    return Check(name=name, verdict=Verdict.NOT_AVAILABLE, details=(reason,))


def judged(name: str, problems: Sequence[str], fine: str) -> Check:
    """`differ` with the problems, or `agree` with what was fine."""
    return differ(name, *problems) if problems else agree(name, fine)


def status(checks: Sequence[Check]) -> int:
    """The exit status: 1 where anything differs."""
    return int(any(check.verdict is Verdict.DIFFER for check in checks))


def table(checks: Sequence[Check]) -> str:
    """The checks as lines of text, and a last line that counts them."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        first, *more = check.details or ("",)
        lines.append(f"{check.name:{width}}  {check.verdict:13}  {first}".rstrip())
        lines += [f"{'':{width}}  {'':13}  {detail}" for detail in more]
    counts = [f"{sum(c.verdict is v for c in checks)} {v}" for v in Verdict]
    return "\n".join([*lines, ", ".join(counts)]) + "\n"


def document(checks: Sequence[Check]) -> str:
    """The checks as JSON."""
    plain = [{"check": c.name, "verdict": c.verdict, "details": list(c.details)} for c in checks]
    return json.dumps(plain, indent=2) + "\n"
