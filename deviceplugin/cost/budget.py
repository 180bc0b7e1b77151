"""Budgets: what was spent of them this month, and what the month will come to; pure.

The forecast is the mean of the last days for each day that is left. Its band and the probability of
an overrun are the errors that the same forecast made on the days before; too few of them, no band.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from deviceplugin.cost.bill import Bill, Line
from deviceplugin.cost.calendar import day_of, day_s, month_of, utc
from deviceplugin.cost.section import Budget, CostsSection, fraction

DAY_S = 86400.0
WEEK = 7  # days of which the mean is taken
LEAST_ERRORS = 10
WHOLE = 0.99  # of a day that is covered


class Outlook(Struct, frozen=True, kw_only=True):
    """What a month will come to: `low` and `high` hold 80 % of what the forecast missed by before,
    `overrun` is the part of those that end above the budget; None: there were too few."""

    expected: float | None
    low: float | None = None
    high: float | None = None
    overrun: float | None = None
    errors: int = 0


def budget_document(bill: Bill, costs: CostsSection) -> dict[str, Any]:
    """Every budget in the month in which the history ends."""
    end = bill.span[1]
    start, after = month_of(end - 1, costs.zone)
    return {
        "currency": bill.currency,
        "month": day_of(start, costs.zone)[:7],
        "until": utc(end),
        "covered_from": utc(max(start, bill.span[0])),
        "budgets": [_budget(one, bill, costs, (start, after)) for one in costs.budgets],
    }


def _budget(
    budget: Budget, bill: Bill, costs: CostsSection, month: tuple[float, float]
) -> dict[str, Any]:
    lines = [line for line in bill.lines if is_of(budget, line)]
    spent = math.fsum(line.amount for line in lines if line.start >= month[0])
    left = max(0.0, month[1] - bill.span[1]) / DAY_S
    days = daily(lines, bill, costs)
    found = outlook(days, left, spent, budget.monthly)
    reached = [at for at in budget.alerts if spent >= fraction(at) * budget.monthly]
    over = found.expected is not None and found.expected > budget.monthly
    return {
        "name": budget.name,
        "monthly": budget.monthly,
        "spent": round(spent, 2),
        "spent_ratio": round(spent / budget.monthly, 4),
        "alerts_reached": reached,
        "days_left": round(left, 2),
        "expected": _rounded(found.expected),
        "low": _rounded(found.low),
        "high": _rounded(found.high),
        "overrun_probability": _rounded(found.overrun),
        "errors_known": found.errors,
        "state": "over" if spent > budget.monthly else "alert" if reached or over else "within",
    }


def is_of(budget: Budget, line: Line) -> bool:
    """Whether a line counts to a budget; what nobody has counts to one of everything alone."""
    pairs = (
        (line.namespace, budget.namespace),
        (line.owner, budget.owner),
        (line.team, budget.team),
    )
    return all(fnmatchcase(text, pattern) for text, pattern in pairs)


def daily(lines: Iterable[Line], bill: Bill, costs: CostsSection) -> Sequence[float]:
    """What each whole day of the history cost, in order."""
    lengths: dict[str, set[tuple[float, float]]] = {}
    for line in bill.lines:
        lengths.setdefault(day_of(line.start, costs.zone), set()).add((line.start, line.end))
    amounts: dict[str, float] = {}
    for line in lines:
        day = day_of(line.start, costs.zone)
        amounts[day] = amounts.get(day, 0.0) + line.amount
    return [
        amounts.get(day, 0.0)
        for day in sorted(lengths)
        if _covered(lengths[day]) >= WHOLE * day_s(day, costs.zone)
    ]


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """How many seconds of a day its lines cover, whichever GPU they are of."""
    covered, reached = 0.0, -math.inf
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def outlook(days: Sequence[float], left: float, spent: float, monthly: float) -> Outlook:
    """The month by the days so far, with `left` days to come."""
    if left <= 0:
        return Outlook(expected=spent)
    if len(days) < WEEK:
        return Outlook(expected=None)
    ahead = math.fsum(days[-WEEK:]) / WEEK * left
    errors = sorted(_errors(days, max(1, round(left))))
    if len(errors) < LEAST_ERRORS:
        return Outlook(expected=spent + ahead, errors=len(errors))
    ends = [spent + ahead * error for error in errors]
    return Outlook(
        expected=spent + ahead,
        low=ends[int(0.1 * (len(ends) - 1))],
        high=ends[math.ceil(0.9 * (len(ends) - 1))],
        overrun=sum(end > monthly for end in ends) / len(ends),
        errors=len(errors),
    )


def _errors(days: Sequence[float], ahead: int) -> Iterable[float]:
    """By how much the same forecast was wrong on each day before, as a factor."""
    for origin in range(WEEK, len(days) - ahead + 1):
        forecast = math.fsum(days[origin - WEEK : origin]) / WEEK * ahead
        if forecast > 0:
            yield math.fsum(days[origin : origin + ahead]) / forecast


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def needs_attention(document: Mapping[str, Any]) -> bool:
    """Whether any budget is not within."""
    return any(one["state"] != "within" for one in document["budgets"])
