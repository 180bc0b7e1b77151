"""A fleet's GPUs and what became of them, as predictions learn from it; pure."""

import csv
import datetime as dt
import io
from collections.abc import Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

from deviceplugin.errors import ConfigError

COLUMNS = ("gpu", "cohort", "traits", "installed", "removed", "failure")
MAX_UNITS = 1_000_000


class Kind(StrEnum):
    """What fails. Each kind has a rate of its own: what precedes one says nothing of the other."""

    MEMORY = "memory"
    OFF_BUS = "off_bus"
    LINK = "link"
    THERMAL_POWER = "thermal_power"


class Unit(Struct, frozen=True, kw_only=True):
    """A GPU in one place: what it is (`cohort`), what distinguishes it inside its cohort
    (`traits`), from which day to which it was there, and by what it ended.

    Days are counted from any day on. It is there on `removed`, not after; None: it still is.
    """

    gpu: str
    cohort: str
    traits: tuple[str, ...] = ()
    installed: int
    removed: int | None = None
    failure: Kind | None = None

    def is_there(self, day: int) -> bool:
        """Whether it is in service at the beginning of a day."""
        return self.installed <= day and (self.removed is None or self.removed >= day)

    def fails(self, start: int, end: int) -> Kind | None:
        """By what it fails in the days from `start` until before `end`, None where it does not."""
        if self.failure is None or self.removed is None:
            return None
        return self.failure if start <= self.removed < end else None


_EXPECTED = (
    "dates as 2026-11-27, removed not before installed and given where something failed,"
    f" as failure one of {', '.join(Kind)}, or nothing"
)


def read_units(text: str, name: str) -> tuple[Unit, ...]:
    """Units of a CSV file with COLUMNS in its first line; dates as 2026-11-27, traits as
    `rack=7;slot=2`. Raises ConfigError that names the line."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(name, ",".join(reader.fieldnames or ()), f"a line {','.join(COLUMNS)}")
    units = tuple(_units(reader, name))
    if not units:
        raise ConfigError(name, "no lines", "a line for each GPU")
    return units


def _units(reader: "csv.DictReader[str]", name: str) -> Iterator[Unit]:
    for count, row in enumerate(reader):
        if count >= MAX_UNITS:
            raise ConfigError(name, f"more than {MAX_UNITS} lines", "a part of the fleet")
        try:
            yield _unit(row)
        except (ValueError, AttributeError) as error:
            shown = ",".join(str(row.get(column) or "") for column in COLUMNS)
            raise ConfigError(f"{name}, line {reader.line_num}", shown, _EXPECTED) from error


def _unit(row: Mapping[str, str]) -> Unit:
    failure = Kind(row["failure"].strip()) if row["failure"].strip() else None
    removed = _day(row["removed"]) if row["removed"].strip() else None
    installed = _day(row["installed"])
    if removed is not None and removed < installed:
        raise ValueError("removed before it was installed")
    if failure is not None and removed is None:
        raise ValueError("a failure without its day")
    return Unit(
        gpu=row["gpu"].strip(),
        cohort=row["cohort"].strip(),
        traits=tuple(trait.strip() for trait in row["traits"].split(";") if trait.strip()),
        installed=installed,
        removed=removed,
        failure=failure,
    )


def _day(text: str) -> int:
    return dt.date.fromisoformat(text.strip()).toordinal()
