"""The mean length that is expected of a run, with the runs that go on counted as what they are:
longer than they have been; pure.

Of the runs that began last, those that ended first were the short ones. A mean of what has ended is
therefore too small, and most so after a change. The estimate of Kaplan and Meier takes a run that
goes on for one that ends at one of the later lengths.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from msgspec import Struct

from deviceplugin.learning.runs import Begun, Group, History, Past

WINDOWS = (8, 30)  # runs that began last
ENDED = (1, 3, 10, 48)  # runs that ended last
LONGER = 0.7  # ln seconds that the last length may be longer than all that are known
NEVER = 14.0  # ln seconds since what never was
FEW = 0.2  # of a run: how much the usual length counts where few have ended
_USUAL = 20
_ESTIMATED = ("mean", "median", "spread", "upper end")
_OTHERS = (
    "median of 10 ended",
    "run now",
    "age of the youngest",
    "age of the middle one",
    "age of the oldest",
    "part that has ended",
    "since one ended",
    "since one began",
    "began in a minute",
    "began in an hour",
)
MEANS = (
    "bias",
    *(
        f"{scope}: {name}"
        for scope in ("group", "namespace")
        for name in (
            *(f"{what} of {window} begun" for window in WINDOWS for what in _ESTIMATED),
            *(f"mean of {count} ended" for count in ENDED),
            *_OTHERS,
        )
    ),
)


class Weight(Struct, frozen=True):
    """What a feature counts, and between which values it was learned: beyond them it counts as the
    nearer one, so that a night without pods is not taken for more than what was ever seen."""

    weight: float
    low: float
    high: float


class Mass(Struct, frozen=True):
    """A length, as ln seconds, and how probable it is."""

    log: float
    probability: float


def usual(logs: Sequence[float]) -> list[float]:
    """Lengths that stand for all of these, evenly; empty of none."""
    ordered = sorted(logs)
    places = (int(len(ordered) * (n + 0.5) / _USUAL) for n in range(_USUAL))
    return [ordered[place] for place in places] if ordered else []


def lengths(begun: Sequence[Begun], usual_logs: Sequence[float]) -> list[Mass]:
    """How long such a run will be (Kaplan and Meier 1958), where the usual lengths together count
    as much as one run."""
    seen = [(one.log, not one.has_ended, 1.0) for one in begun]
    seen += [(log, False, 1 / len(usual_logs)) for log in usual_logs]
    seen.sort()
    at_risk, surviving, found = math.fsum(weight for *_, weight in seen), 1.0, list[Mass]()
    for log, goes_on, weight in seen:
        if not goes_on:
            ending = surviving * min(1.0, weight / at_risk) if at_risk > 0 else surviving
            found.append(Mass(log, ending))
            surviving -= ending
        at_risk -= weight
    if surviving > 0 and seen:
        found.append(Mass(seen[-1][0] + LONGER, surviving))
    return found


def features(
    history: History, group: Group, now: float, usual_logs: Sequence[float]
) -> Sequence[float]:
    """What the mean is made of, in the order of MEANS."""
    found = [1.0]
    for scope in (group, group[:1]):
        begun, past = history.begun(scope, now), history.past(scope)
        for window in WINDOWS:
            found += _estimated(lengths(begun[:window], usual_logs))
        logs = [one.log for one in past]
        middle = sum(usual_logs) / len(usual_logs)
        for count in ENDED:
            latest = logs[:count]
            found.append((math.fsum(latest) + FEW * middle) / (len(latest) + FEW))
        found.append(sorted(logs[:10])[len(logs[:10]) // 2] if logs else middle)
        found += _times(begun, past, now)
    return found


def _estimated(masses: Sequence[Mass]) -> Sequence[float]:
    mean = math.fsum(one.log * one.probability for one in masses)
    square = math.fsum(one.log * one.log * one.probability for one in masses)
    spread = math.sqrt(max(0.0, square - mean * mean))
    return mean, _quantile(masses, 0.5), spread, _quantile(masses, 0.9)


def _quantile(masses: Sequence[Mass], level: float) -> float:
    so_far = 0.0
    for one in masses:
        so_far += one.probability
        if so_far >= level:
            return one.log
    return masses[-1].log


def _times(begun: Sequence[Begun], past: Sequence[Past], now: float) -> Iterator[float]:
    ages = sorted(now - one.start for one in begun if not one.has_ended)
    window = begun[: WINDOWS[-1]]
    yield math.log1p(len(ages))
    for age in (ages[0], ages[len(ages) // 2], ages[-1]) if ages else (0.0, 0.0, 0.0):
        yield math.log1p(max(0.0, age))
    yield sum(one.has_ended for one in window) / max(1, len(window))
    yield math.log1p(max(0.0, now - past[0].end)) if past else NEVER
    yield math.log1p(max(0.0, now - begun[0].start)) if begun else NEVER
    starts = [-one.start for one in begun]
    for seconds in (60.0, 3600.0):
        yield math.log1p(bisect_right(starts, seconds - now))


def mean(weights: Sequence[Weight], found: Sequence[float]) -> float:
    """ln seconds."""
    return sum(
        one.weight * min(one.high, max(one.low, x)) for one, x in zip(weights, found, strict=True)
    )


def ranges(rows: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Between which values each feature was, but for the lowest and the highest hundredth."""
    found = []
    for column in zip(*rows, strict=True):
        ordered = sorted(column)
        outside = len(ordered) // 100
        found.append((ordered[outside], ordered[-1 - outside]))
    return found
