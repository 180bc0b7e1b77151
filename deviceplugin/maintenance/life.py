"""How long a GPU may go on, as an interval by an explicit trend, or nothing; pure.

The trend is that of spare rows of memory: once a bank has few left, the GPU ends as a good one when
an error hits such a bank again. Where nothing wears out there is no end to tell, and a temperature
tells none.
"""

import math

from msgspec import Struct

from deviceplugin.maintenance.prior import quantile

LEAST_REMAPS = 3
LEAST_DAYS = 7.0
MOST_DAYS = 3650.0
_EARLY, _LATE = -math.log(0.9), -math.log(0.1)  # of the time to the next event, in mean times


class Wear(Struct, frozen=True, kw_only=True):
    """Rows that were remapped in `days`; banks of memory that have few spare rows or none left, of
    all banks."""

    days: float
    remapped: float
    worn_banks: float
    banks: float


class Life(Struct, frozen=True, kw_only=True):
    """Days from now between which the end lies with 80 %; `high` is None where it is beyond
    MOST_DAYS."""

    low: float
    high: float | None
    because: str


def remaining_life(wear: Wear) -> Life | None:
    """None without a trend: no bank is worn, or too few rows were remapped to have a rate.

    The early end supposes that every further remap hits a worn bank, at the highest rate that is
    likely; the late end that they hit all banks alike, at the lowest.
    """
    if wear.remapped < LEAST_REMAPS or wear.days < LEAST_DAYS or not wear.worn_banks > 0:
        return None
    fast, slow = (quantile(wear.remapped, part) / wear.days for part in (0.9, 0.1))
    late = _LATE / (slow * min(1.0, wear.worn_banks / max(wear.banks, wear.worn_banks)))
    return Life(
        low=_EARLY / fast,
        high=late if late <= MOST_DAYS else None,
        because=f"{wear.remapped:g} rows were remapped in {wear.days:.0f} days, and"
        f" {wear.worn_banks:g} of {wear.banks:g} banks have few spare rows left",
    )
