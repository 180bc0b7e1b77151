"""What may precede a failure, noted by day: what is a sign, and who had which when; pure.

The bounds are chosen, not published: what a sign is worth is learned from the fleet's own past. A
sign counts for NOTED_DAYS after the day on which it was noted, and never before.
"""

import csv
import datetime as dt
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, field

from deviceplugin.errors import ConfigError

COLUMNS = ("gpu", "day", "sign")
NOTED_DAYS = 30
MAX_LINES = 5_000_000
# Of NOTED_DAYS: errors and replays as counts, time as a part of it.
MANY_CORRECTED, MANY_REPLAYS = 10.0, 100.0
LONG_THROTTLED = LONG_SILENT = 0.01
_HOTTER_CELSIUS, _OTHER_POWER = 5.0, 0.1
_OUTLIER, _MAD = 3.0, 1.4826  # robust standard deviations, and what makes one of a median deviation
_PEERS = 3
SIGNS: Mapping[str, str] = {
    "corrected_errors": f"at least {MANY_CORRECTED:g} corrected memory errors",
    "uncorrected_errors": "an uncorrected memory error",
    "rows_remapped": "a row was remapped, or a page retired",
    "link_replays": "an error of a link to other GPUs, or at least"
    f" {MANY_REPLAYS:g} PCIe replays and ten times its peers'",
    "throttled": f"{LONG_THROTTLED:.0%} of the time held down by heat",
    "silent": f"{LONG_SILENT:.0%} of the measurements without an answer",
    "hotter": f"at its daily highest {_HOTTER_CELSIUS:g} °C hotter than its peers, and an outlier",
    "other_power": f"at its daily highest {_OTHER_POWER:.0%} more or less power than its peers,"
    " and an outlier",
}


class Observed(Struct, frozen=True, kw_only=True):
    """What was measured of one GPU in NOTED_DAYS: of counters the growth, of sensors the mean of
    the daily highest; what was not measured is not there. `days` is the time that was measured."""

    days: float
    growth: Mapping[str, float] = field(default_factory=dict)
    highs: Mapping[str, float] = field(default_factory=dict)
    answered: float | None = None


def signs_of(observed: Mapping[str, Observed]) -> Mapping[str, tuple[str, ...]]:
    """The signs of each GPU, sorted; all of them are each other's peers."""
    return {gpu: tuple(sorted(_signs(gpu, observed))) for gpu in sorted(observed)}


def _signs(gpu: str, observed: Mapping[str, Observed]) -> Iterator[str]:
    one, others = observed[gpu], [other for name, other in observed.items() if name != gpu]
    grown = one.growth
    if grown.get("corrected_errors", 0) >= MANY_CORRECTED:
        yield "corrected_errors"
    if grown.get("uncorrected_errors", 0) >= 1:
        yield "uncorrected_errors"
    if grown.get("remapped_rows", 0) + grown.get("retired_pages", 0) >= 1:
        yield "rows_remapped"
    if grown.get("link_errors", 0) >= 1 or _many_replays(one, others):
        yield "link_replays"
    if grown.get("throttled_seconds", 0) >= LONG_THROTTLED * one.days * 86_400 > 0:
        yield "throttled"
    if one.answered is not None and one.answered <= 1 - LONG_SILENT:
        yield "silent"
    if _beyond(one, others, "temperature_celsius") >= _HOTTER_CELSIUS:
        yield "hotter"
    power = one.highs.get("power_watts", 0.0)
    if power > 0 and abs(_beyond(one, others, "power_watts")) >= _OTHER_POWER * power:
        yield "other_power"


def _many_replays(one: Observed, others: Sequence[Observed]) -> bool:
    counts = [other.growth["pcie_replays"] for other in others if "pcie_replays" in other.growth]
    usual = statistics.median(counts) if counts else 0.0
    return one.growth.get("pcie_replays", 0) >= max(MANY_REPLAYS, 10 * usual)


def _beyond(one: Observed, others: Sequence[Observed], metric: str) -> float:
    """By how much it differs from its peers; 0 for what is no outlier, or without peers enough."""
    values = [other.highs[metric] for other in others if metric in other.highs]
    if metric not in one.highs or len(values) < _PEERS:
        return 0.0
    middle = statistics.median(values)
    spread = _MAD * statistics.median(abs(value - middle) for value in values)
    apart = one.highs[metric] - middle
    return apart if abs(apart) > _OUTLIER * spread else 0.0


class Noted(Struct, frozen=True):
    """The days on which each GPU had each sign, in order."""

    days: Mapping[str, Sequence[tuple[int, str]]] = field(default_factory=dict)

    def before(self, gpu: str, day: int) -> frozenset[str]:
        """The signs of a GPU in the NOTED_DAYS before a day: what is noted on it comes too late."""
        found = self.days.get(gpu, ())
        return frozenset(sign for noted, sign in found if day - NOTED_DAYS <= noted < day)


def read_noted(text: str, name: str) -> Noted:
    """Signs of a CSV file with COLUMNS in its first line; raises ConfigError that names the
    line."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
        found = ",".join(reader.fieldnames or ())
        raise ConfigError(name, found, f"a line {','.join(COLUMNS)}; {missing[0]} is missing")
    days: dict[str, list[tuple[int, str]]] = {}
    for count, row in enumerate(reader):
        if count >= MAX_LINES:
            raise ConfigError(name, f"more than {MAX_LINES} lines", "fewer days")
        try:
            line = _line(row)
        except (ValueError, AttributeError) as error:
            shown = ",".join(str(row.get(column) or "") for column in COLUMNS)
            expected = f"a GPU, a day as 2026-11-27, and one of {', '.join(SIGNS)}"
            raise ConfigError(f"{name}, line {reader.line_num}", shown, expected) from error
        days.setdefault(line[0], []).append(line[1:])
    return Noted({gpu: sorted(found) for gpu, found in days.items()})


def _line(row: Mapping[str, str]) -> tuple[str, int, str]:
    sign = row["sign"].strip()
    if sign not in SIGNS:
        raise ValueError(sign)
    return row["gpu"].strip(), dt.date.fromisoformat(row["day"].strip()).toordinal(), sign
