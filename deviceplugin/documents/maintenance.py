"""The section `predictive_maintenance`, and the bounds that its alerts name; pure."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from msgspec import Struct

from deviceplugin.documents.told import (
    Telling,
    Time,
    Told,
    Words,
    applied,
    reported,
    seconds_of,
)
from deviceplugin.schema import Places

_WRITTEN = re.compile(
    r"\s*([a-z][a-z_]*)\s*(>=|<=|>|<)\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(%|[a-z]{0,2})\s*"
)
_PART: Mapping[str, float] = {"": 1.0, "%": 0.01}
_TIME: Mapping[str, float] = {"d": 1.0, "h": 1 / 24, "y": 365.0}
# What can be bounded: the units it is written in, and the side from which it matters.
QUANTITIES: Mapping[str, tuple[Mapping[str, float], str]] = {
    "failure_probability": (_PART, ">"),
    "remaining_life": (_TIME, "<"),
    "relative_risk": ({"": 1.0}, ">"),
    "certain_findings": ({"": 1.0}, ">"),
}
_EXAMPLE = (
    "failure_probability > 0.8, remaining_life < 30d, relative_risk >= 5 or certain_findings >= 1"
)
_DAY_S = 86_400
_LEAST_INTERVAL_S = 60


class Bound(Struct, frozen=True):
    """`limit` is a part of 1, days, times or a count."""

    quantity: str
    sign: str
    limit: float

    def holds(self, value: float | None) -> bool:
        """Whether a value is beyond it; what is unknown is not."""
        if value is None:
            return False
        beyond = value > self.limit if self.sign[0] == ">" else value < self.limit
        return beyond or (self.sign[1:] == "=" and value == self.limit)


def parse_bound(text: str) -> Bound:
    """Raises ValueError with what to write instead."""
    match = _WRITTEN.fullmatch(text)
    if match is None or match[1] not in QUANTITIES:
        raise ValueError(f"one bound such as {_EXAMPLE}")
    quantity, sign, number, unit = match.groups()
    units, side = QUANTITIES[quantity]
    if sign[0] != side:
        raise ValueError(f"{quantity} {side} {number}{unit}")
    if unit not in units:
        known = " or ".join(unit or "no unit" for unit in units)
        raise ValueError(f"{quantity} with {known}, such as {_EXAMPLE}")
    limit = float(number) * units[unit]
    if units is _PART and limit > 1:
        raise ValueError("a probability up to 1 or 100%")
    return Bound(quantity, sign, limit)


class MaintenanceAlert(Told, frozen=True):
    """What fires while the bound holds for a GPU."""

    OTHERS: ClassVar[Telling] = applied(
        "`deviceplugin_maintenance_alert` is 1 while the bound holds for a GPU, and a log event"
    )

    name: str
    condition: str
    severity: Literal["info", "warning", "critical"] = "warning"

    def __post_init__(self) -> None:
        """Check the text here, where msgspec still knows the key's path."""
        try:
            self.bound  # noqa: B018  # it is parsed
        except ValueError as error:
            raise ValueError(f"condition: {error}") from error

    @property
    def bound(self) -> Bound:
        """The condition."""
        return parse_bound(self.condition)


_PREDICTED = applied("with `true` the daemon looks ahead for its GPUs in every `interval`")
_PAST = applied("the fleet's past, from which rates are learned; without, published ones are used")


class PredictiveMaintenance(Told, frozen=True):
    """The section `predictive_maintenance`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": _PREDICTED,
            "interval": _PREDICTED,
            "window": applied("the time that probabilities are about"),
            "fleet": _PAST,
            "signs": applied("what was noted before failures, from which its worth is learned"),
            "model": reported(
                "no model is loaded: rates are learned from the fleet's past and tested on it"
            ),
            "features": reported(
                "all that precedes failures counts, whatever is listed: docs/failures.md has it;"
                " how much memory and compute are used says nothing of failures"
            ),
            "predictions": applied("what is shown; empty, all of it"),
        }
    )
    HOST_PATHS: ClassVar[Mapping[str, Places]] = MappingProxyType(
        {
            name: Places(("/etc/deviceplugin", "/var/lib/deviceplugin"))
            for name in ("fleet", "signs")
        }
    )

    enabled: bool = True
    model: str | None = None
    features: Words = ()
    predictions: tuple[
        Literal["failure_probability", "remaining_life", "maintenance_schedule"], ...
    ] = ()
    alerts: tuple[MaintenanceAlert, ...] = ()
    fleet: str | None = None
    signs: str | None = None
    window: Time = "91d"
    interval: Time = "1h"

    def __post_init__(self) -> None:
        """Check times, and that nothing is named twice."""
        if not _LEAST_INTERVAL_S <= self.interval_s <= 366 * _DAY_S:
            raise ValueError("interval: a time from 1m to 1y")
        if not 1 <= seconds_of(self.window) / _DAY_S <= 3650 or seconds_of(self.window) % _DAY_S:
            raise ValueError("window: whole days from 1d to 10y")
        names = [alert.name for alert in self.alerts]
        if len(set(names)) < len(names):
            raise ValueError("alerts: each with a name of its own")
        if self.signs and not self.fleet:
            raise ValueError("signs: none without fleet, which says who failed")

    @property
    def interval_s(self) -> float:
        """From one look to the next."""
        return seconds_of(self.interval)

    @property
    def window_days(self) -> int:
        """What probabilities are about."""
        return round(seconds_of(self.window) / _DAY_S)
