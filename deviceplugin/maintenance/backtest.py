"""How good predictions were: made again at each moment of the past, by what was known then; pure.

At every landmark the rates have learned the windows before it and score who is there; then what
came is held against the scores. One row per GPU and landmark, the whole fleet in the denominator.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from deviceplugin.maintenance.rates import Rates
from deviceplugin.maintenance.signs import Noted
from deviceplugin.maintenance.units import Unit

Scores = Callable[[Sequence[Unit], int], Sequence[float]]
TOP = 0.01  # of the fleet: what people can act on


class Plan(Struct, frozen=True, kw_only=True):
    """Landmarks from `first` to before `last`, `window` days apart; scores count from `tested` on.

    Work that a failure costs and that a planned replacement costs, in node-hours.
    """

    first: int
    tested: int
    last: int
    window: int
    failure_hours: float = 24.0
    drain_hours: float = 1.0


class Quarter(Struct, frozen=True, kw_only=True):
    """One tested landmark; None is what cannot be said, since nothing failed."""

    day: int
    units: int
    failed: int
    expected: float
    auc: float | None
    precision: float
    lift: float | None

    @property
    def calibration(self) -> float | None:
        """Failures expected for each that came."""
        return self.expected / self.failed if self.failed else None


class Quality(Struct, frozen=True, kw_only=True):
    """All tested landmarks together. `lead_days` are quartiles of the time from the landmark to
    the failures in the top; `hours_saved` is what acting on the top would have saved, less what it
    would have cost."""

    quarters: tuple[Quarter, ...]
    auc: float | None
    precision: float
    base: float
    brier: float
    skill: float | None
    lead_days: tuple[float, float, float] | None
    hours_saved: float

    @property
    def calibrated_quarters(self) -> int:
        """In how many the expected failures were 0.8 to 1.25 of those that came."""
        return sum(0.8 <= (q.calibration or 0) <= 1.25 for q in self.quarters)


class _Row(Struct, frozen=True):
    score: float
    failed: bool
    lead: float


def learned(units: Sequence[Unit], plan: Plan, noted: Noted | None = None) -> Scores:
    """Scores of the rates, which learn each window when it is over. To be asked in order."""
    rates, done = Rates(noted), plan.first

    def scores(there: Sequence[Unit], day: int) -> Sequence[float]:
        nonlocal done
        while done + plan.window <= day:
            rates.learn(units, done, done + plan.window)
            done += plan.window
        return [hazard.probability for hazard in rates.scores(there)]

    return scores


def cohort_baseline(units: Sequence[Unit], plan: Plan) -> Scores:
    """The simple rule to beat: a cohort's failures of the last two windows, halved."""

    def scores(there: Sequence[Unit], day: int) -> Sequence[float]:
        counts, failed = _counts(there), dict.fromkeys((u.cohort for u in there), 0)
        for unit in units:
            if unit.cohort in failed and unit.fails(day - 2 * plan.window, day):
                failed[unit.cohort] += 1
        return [failed[u.cohort] / 2 / counts[u.cohort] for u in there]

    return scores


def _counts(there: Iterable[Unit]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for unit in there:
        counts[unit.cohort] = counts.get(unit.cohort, 0) + 1
    return counts


def backtest(units: Sequence[Unit], plan: Plan, scores: Scores) -> Quality:
    """Score every landmark and hold it against what came."""
    quarters, rows = [], []
    for day in range(plan.tested, plan.last, plan.window):
        there = [unit for unit in units if unit.is_there(day)]
        found = list(_rows(there, scores(there, day), (day, day + plan.window)))
        rows += found
        quarters.append(_quarter(day, found))
    top = _top(rows)
    base = sum(row.failed for row in rows) / len(rows) if rows else 0.0
    brier = math.fsum((row.score - row.failed) ** 2 for row in rows) / max(len(rows), 1)
    caught = sorted(row.lead for row in top if row.failed)
    return Quality(
        quarters=tuple(quarters),
        auc=area(rows_of(rows)),
        precision=len(caught) / max(len(top), 1),
        base=base,
        brier=brier,
        skill=1 - brier / (base * (1 - base)) if 0 < base < 1 else None,
        lead_days=_quartiles(caught) if caught else None,
        hours_saved=len(caught) * plan.failure_hours - len(top) * plan.drain_hours,
    )


def _rows(there: Sequence[Unit], scores: Sequence[float], span: tuple[int, int]) -> Iterator[_Row]:
    start, end = span
    for unit, score in zip(there, scores, strict=True):
        failed = unit.fails(start, end) is not None
        yield _Row(score, failed, (unit.removed or start) - start if failed else 0.0)


def _quarter(day: int, rows: Sequence[_Row]) -> Quarter:
    failed = sum(row.failed for row in rows)
    top = _top(rows)
    precision = sum(row.failed for row in top) / max(len(top), 1)
    return Quarter(
        day=day,
        units=len(rows),
        failed=failed,
        expected=math.fsum(row.score for row in rows),
        auc=area(rows_of(rows)),
        precision=precision,
        lift=precision * len(rows) / failed if failed else None,
    )


def _top(rows: Sequence[_Row]) -> Sequence[_Row]:
    """The hundredth with the highest scores; of equal ones those that come first."""
    return sorted(rows, key=lambda row: -row.score)[: round(len(rows) * TOP) or 1]


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    last = len(values) - 1
    return values[last // 4], values[last // 2], values[3 * last // 4]


def rows_of(rows: Iterable[_Row]) -> list[tuple[float, bool]]:
    """Scores and what came."""
    return [(row.score, row.failed) for row in rows]


def area(pairs: Sequence[tuple[float, bool]]) -> float | None:
    """The probability that who failed had the higher score than who did not (equal ones count
    half); None where there is only one of both."""
    ordered = sorted(pairs)
    positive = sum(failed for _, failed in ordered)
    negative = len(ordered) - positive
    if not positive or not negative:
        return None
    ranks, first = 0.0, 0
    while first < len(ordered):
        end = first
        while end < len(ordered) and ordered[end][0] == ordered[first][0]:
            end += 1
        ranks += (first + end + 1) / 2 * sum(failed for _, failed in ordered[first:end])
        first = end
    return (ranks - positive * (positive + 1) / 2) / (positive * negative)
