"""How good predictions were, by those that came true; pure."""

import math
from collections.abc import Sequence

from msgspec import Struct

from deviceplugin.learning.predict import TWICE


class Figures(Struct, frozen=True, kw_only=True):
    """`factor` is the median factor between what was predicted and what was, `twice_percent` how
    many were within a factor of two, `r2` that of the logarithm, `covered_percent` how many stayed
    below the upper end; `rolling_factor` is the factor of the rolling median of the same runs."""

    runs: int
    factor: float
    twice_percent: float
    r2: float
    covered_percent: float
    rolling_factor: float


class Outcome(Struct, frozen=True):
    """ln seconds: what was, what was predicted with its upper end, and the rolling median."""

    was: float
    predicted: float
    upper: float
    rolling: float


def median(values: Sequence[float]) -> float:
    """The middle one."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def figures_of(outcomes: Sequence[Outcome]) -> Figures | None:
    """The figures; None of none."""
    if not outcomes:
        return None
    errors = [abs(one.was - one.predicted) for one in outcomes]
    mean = math.fsum(one.was for one in outcomes) / len(outcomes)
    spread = math.fsum((one.was - mean) ** 2 for one in outcomes)
    count = len(outcomes)
    return Figures(
        runs=count,
        factor=round(math.exp(median(errors)), 3),
        twice_percent=round(100 * sum(error <= TWICE for error in errors) / count, 1),
        r2=round(1 - math.fsum(error * error for error in errors) / spread, 3) if spread else 0.0,
        covered_percent=round(100 * sum(o.was <= o.upper for o in outcomes) / count, 1),
        rolling_factor=round(math.exp(median([abs(o.was - o.rolling) for o in outcomes])), 3),
    )
