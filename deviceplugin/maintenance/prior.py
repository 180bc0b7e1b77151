"""How often GPUs fail where no past of the fleet is known: published figures, and the node's own
failures; pure.

Failures are counted as events of a Poisson process whose rate is distributed as a gamma: the
published fleets give its mean and its spread, each failure of the node and each GPU-year without
one moves it. It is nobody's calibrated figure, and is told as that.
"""

import math
import statistics
from collections.abc import Mapping

from msgspec import Struct

from deviceplugin.maintenance.units import Kind

YEAR_DAYS = 365.25
# Failures of a GPU-year: Titan's first batch and its reworked one (Ostrouchov et al., SC'20), and
# the GPU faults that ended jobs of Llama 3 405B on 16,384 H100 (its paper, table 5).
PUBLISHED = (0.066, 0.0025, 0.10)
SOURCE = "three published fleets (K20X twice, H100), not yours"
# Memory's part: 3,819 of 5,294 on Titan, 91 of 256 for Llama. Nothing published divides the rest:
# it is divided evenly.
_MEMORY = statistics.mean((3819 / 5294, 91 / 256))
SHARES: Mapping[Kind, float] = {
    kind: _MEMORY if kind is Kind.MEMORY else (1 - _MEMORY) / (len(Kind) - 1) for kind in Kind
}


class Rate(Struct, frozen=True, kw_only=True):
    """A gamma distribution of failures of a GPU-year: mean `failures` / `years`."""

    failures: float
    years: float

    def after(self, failures: float, years: float) -> "Rate":
        """After so many failures in so many GPU-years more."""
        return Rate(failures=self.failures + failures, years=self.years + years)

    def probability(self, days: float) -> float:
        """That a GPU fails in so many days, whatever the rate is."""
        return -math.expm1(-self.failures * math.log1p(days / YEAR_DAYS / self.years))

    def interval(self, days: float) -> tuple[float, float]:
        """The probabilities by the rates between which the true one lies with 80 %."""
        low, high = (quantile(self.failures, part) / self.years for part in (0.1, 0.9))
        return -math.expm1(-low * days / YEAR_DAYS), -math.expm1(-high * days / YEAR_DAYS)


def published() -> Rate:
    """Mean and variance are those of the published figures."""
    mean, variance = statistics.mean(PUBLISHED), statistics.variance(PUBLISHED)
    return Rate(failures=mean * mean / variance, years=mean / variance)


def quantile(shape: float, part: float) -> float:
    """Of a gamma distribution with scale 1."""
    low, high = 0.0, shape + 20 * math.sqrt(shape) + 20
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _below(shape, middle) > part else (middle, high)
    return low


def _below(shape: float, value: float) -> float:
    """The regularised incomplete gamma function, by its series."""
    if value <= 0:
        return 0.0
    term = total = 1 / shape
    step = shape
    while term > total * 1e-12:
        step += 1
        term *= value / step
        total += term
    return min(1.0, total * math.exp(shape * math.log(value) - value - math.lgamma(shape)))
