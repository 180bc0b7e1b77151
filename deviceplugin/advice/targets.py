"""Targets, and a ledger of what was recommended, applied and measured afterwards; pure.

What is measured after a change happened after it, not by it alone: a workload that ended, a price
that changed and the change that was made look alike in a bill.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from deviceplugin.advice.values import Change
from deviceplugin.cost.bill import Bill, Line
from deviceplugin.cost.pieces import Part
from deviceplugin.schema import Section

DAY_S = 86400.0
KNOWN = ("cost_reduction", "efficiency_improvement", "waste_reduction")
_WORDS = re.compile(r"([a-z_]+)(?: *: *(\d+(?:\.\d+)?) ?%)?")
WASTE = (Part.IDLE, Part.STRANDED, Part.UNALLOCATED)


class Entry(Section, frozen=True):
    """A line of the ledger; `at` is in Unix seconds. `change` and `expected_per_day` are those of
    the advice when it was recommended."""

    event: Literal["recommended", "applied"]
    id: str
    at: float
    kind: str = ""
    subject: str = ""
    expected_per_day: float | None = None
    change: Change | None = None


class Rates(Struct, frozen=True, kw_only=True):
    """What a bill comes to a day, and the part of it that was used."""

    days: float
    total: float
    waste: float
    used: float


def parse_target(text: str) -> tuple[str, float | None]:
    """`cost_reduction: 30%` as its name and 0.3; None where no number is given.

    Raises ValueError for anything else.
    """
    match = _WORDS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a target such as 'cost_reduction: 30%'")
    return match[1], None if match[2] is None else float(match[2]) / 100


def rates(bill: Bill, start: float, end: float) -> Rates | None:
    """Of a part of the history; None where there is less than a day of it."""
    first, last = max(start, bill.span[0]), min(end, bill.span[1])
    if last - first < DAY_S:
        return None
    days = (last - first) / DAY_S
    lines = [line for line in bill.lines if first <= line.start < last]

    def per_day(parts: Sequence[Part]) -> float:
        return sum(line.amount for line in lines if line.part in parts) / days

    return Rates(
        days=days, total=per_day(tuple(Part)), waste=per_day(WASTE), used=per_day((Part.USED,))
    )


def measured(name: str, before: Rates, after: Rates) -> float | None:
    """What became of a target; None where it cannot be said."""
    if name == "cost_reduction" and before.total:
        return 1 - after.total / before.total
    if name == "waste_reduction" and before.waste:
        return 1 - after.waste / before.waste
    if name == "efficiency_improvement" and before.used and before.total and after.total:
        return (after.used / after.total) / (before.used / before.total) - 1
    return None


def targets_document(bill: Bill, targets: Iterable[str], ledger: Sequence[Entry]) -> dict[str, Any]:
    """Each target with what was measured since changes were applied, and each change."""
    applied = [entry.at for entry in ledger if entry.event == "applied"]
    before = rates(bill, bill.span[0], min(applied)) if applied else None
    after = rates(bill, max(applied), bill.span[1]) if applied else None
    return {
        "currency": bill.currency,
        "days_before": None if before is None else round(before.days, 2),
        "days_after": None if after is None else round(after.days, 2),
        "targets": [_target(text, before, after) for text in targets],
        "changes": [_change(entry, ledger, bill) for entry in _newest(ledger)],
    }


def _target(text: str, before: Rates | None, after: Rates | None) -> dict[str, Any]:
    name, wanted = parse_target(text)
    found = measured(name, before, after) if before and after else None
    if name not in KNOWN:
        state = "not a number of the bill"
    elif found is None:
        state = "not measured: a day or more of history before and after a change is needed"
    elif wanted is None:
        state = "measured"
    else:
        state = "reached" if found >= wanted else "missed"
    return {
        "target": name,
        "wanted": wanted,
        "measured": None if found is None else round(found, 4),
        "state": state,
    }


def _newest(ledger: Iterable[Entry]) -> Iterable[Entry]:
    found = {entry.id: entry for entry in ledger if entry.event == "recommended"}
    return found.values()


def _change(entry: Entry, ledger: Iterable[Entry], bill: Bill) -> dict[str, Any]:
    applied = [one.at for one in ledger if one.event == "applied" and one.id == entry.id]
    saved = _saved(bill, entry.change, applied[-1]) if applied and entry.change else None
    return {
        "id": entry.id,
        "kind": entry.kind,
        "subject": entry.subject,
        "state": "applied" if applied else "recommended",
        "applied_at": applied[-1] if applied else None,
        "expected_per_day": entry.expected_per_day,
        "measured_per_day": None if saved is None else round(saved, 2),
    }


def _saved(bill: Bill, change: Change, at: float) -> float | None:
    """What the lines that a change is about cost less a day since it was applied."""
    start, end = bill.span
    if at - start < DAY_S or end - at < DAY_S:
        return None
    mine = [line for line in bill.lines if _is_about(change, line)]
    before = sum(line.amount for line in mine if line.start < at) / (at - start)
    after = sum(line.amount for line in mine if line.start >= at) / (end - at)
    return (before - after) * DAY_S


def _is_about(change: Change, line: Line) -> bool:
    if change.kind in ("energy", "layout"):
        return line.device.model == change.model
    workload = line.owner or line.pod
    return (line.namespace, workload) == (change.namespace, change.workload)


def recommended(document: Mapping[str, Any], at: float) -> Iterable[Mapping[str, Any]]:
    """The lines of the ledger for what `fleet advice --format json` found."""
    for one in document["advice"]:
        saving, days = one["saving"], document["days"]
        if saving is not None:
            worth = saving["freed"] + saving["paid_less"]
            yield {
                "event": "recommended",
                "id": one["id"],
                "at": at,
                "kind": one["kind"],
                "subject": one["subject"],
                "expected_per_day": round(worth / days, 2) if days else None,
                "change": one["change"],
            }
