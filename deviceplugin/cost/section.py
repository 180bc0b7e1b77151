"""The file of prices, budgets and targets; pure.

There is no price without a source and the day on which it was read, and none is built in: a bill by
prices that nobody stated would be invented.
"""

from datetime import date, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta

from deviceplugin.schema import Section

Lifecycle = Literal["on-demand", "spot", "reserved", "owned"]
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$", description="a day such as 2026-03-01")]
Percent = Annotated[
    str, Meta(pattern=r"^\d+(\.\d+)? ?%$", description="a percentage in quotes such as 30%")
]
Years = Annotated[float, Meta(gt=0, le=50, description="years above 0, at most 50")]
Amount = Annotated[float, Meta(ge=0, description="an amount from 0")]
Watts = Annotated[float, Meta(gt=0, description="watts above 0")]
Usage = Annotated[float, Meta(ge=1, description="a power usage effectiveness from 1")]
HOURS_OF_A_YEAR = 8766.0


class Owned(Section, frozen=True):
    """Hardware that was bought: what it cost, the part of it that is left at the end of its life,
    and what running it costs an hour beside energy."""

    capex: Amount
    residual: Percent = "0%"
    life_years: Years = 4.0
    opex_hourly: Amount = 0.0

    @property
    def hourly(self) -> float:
        """What an hour costs."""
        lost = self.capex * (1 - fraction(self.residual))
        return lost / (self.life_years * HOURS_OF_A_YEAR) + self.opex_hourly


class Energy(Section, frozen=True):
    """What energy costs: `watts` are taken where a device has no reading of its own."""

    tariff_kwh: Amount
    pue: Usage = 1.0
    watts: Watts | None = None


class Price(Section, frozen=True):
    """What one GPU, or one partition, costs an hour: `hourly` or `owned`, and `energy` if it is
    paid apart. `model`, `partition` and `vendor` may have `*`; the first price that fits counts.
    """

    source: str
    dated: Day
    vendor: str = "*"
    model: str = "*"
    partition: str = "*"
    lifecycle: Lifecycle | None = None
    valid_from: Day | None = None
    valid_until: Day | None = None
    hourly: Amount | None = None
    owned: Owned | None = None
    energy: Energy | None = None

    def __post_init__(self) -> None:
        """Exactly one way to say what an hour costs, days that exist, a source that is one."""
        if (self.hourly is None) == (self.owned is None):
            raise ValueError("hourly or owned, one of the two")
        if not self.source.strip():
            raise ValueError("source: where the price is from, a page or a contract")
        for key in ("dated", "valid_from", "valid_until"):
            if (day := getattr(self, key)) is not None:
                _check_day(key, day)
        if self.valid_from and self.valid_until and self.valid_from >= self.valid_until:
            raise ValueError("valid_until: a day after valid_from")

    @property
    def fixed_hourly(self) -> float:
        """What an hour costs without energy."""
        return self.owned.hourly if self.owned is not None else self.hourly or 0.0


class Nodes(Section, frozen=True):
    """What nodes have in common; `match` is a name that may have `*`, the first one counts."""

    match: str
    lifecycle: Lifecycle | None = None
    country: str | None = None


class Budget(Section, frozen=True):
    """What a namespace, an owner or a team may cost in a calendar month; each may have `*`.
    `alerts` are the parts of it at which it is reported."""

    name: str
    monthly: Annotated[float, Meta(gt=0, description="an amount above 0")]
    namespace: str = "*"
    owner: str = "*"
    team: str = "*"
    alerts: tuple[Percent, ...] = ("80%", "100%")


class CostsSection(Section, frozen=True):
    """The section `cost`. `active_below` is the activity under which what a container has counts
    as idle; `team_label` is the pods' label that names their team; `interactive` are workloads that
    may be idle, as namespace/workload with `*`."""

    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$", description="a code such as USD")] = "USD"
    time_zone: str = "UTC"
    team_label: str = "team"
    country: str | None = None
    active_below: Percent = "1%"
    interactive: tuple[str, ...] = ()
    prices: tuple[Price, ...] = ()
    nodes: tuple[Nodes, ...] = ()
    budgets: tuple[Budget, ...] = ()

    def __post_init__(self) -> None:
        """A time zone that is known, and budgets that can be told apart."""
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("time_zone: a name such as Europe/Berlin or UTC") from error
        names = [budget.name for budget in self.budgets]
        if len({*names}) < len(names):
            raise ValueError("budgets: each name once")

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which days and months are counted."""
        return ZoneInfo(self.time_zone)


def fraction(percent: str) -> float:
    """`30%` as 0.3."""
    return float(percent.rstrip("% ")) / 100


def midnight(day: str, zone: ZoneInfo) -> float:
    """When the day begins, in Unix seconds."""
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), zone).timestamp()


def _check_day(key: str, day: str) -> None:
    try:
        date.fromisoformat(day)
    except ValueError as error:
        raise ValueError(f"{key}: a day such as 2026-03-01") from error
