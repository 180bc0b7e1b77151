"""Files of histories, and the table of carbon intensity that is shipped."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from deviceplugin.cost.history import Cell, Device, Grant, History, Readings
from deviceplugin.errors import ConfigError

REQUIRED = ("start", "seconds", "node", "vendor", "model", "uuid")
OF_DEVICE = ("parent", "profile", "memory_bytes", "healthy")
OF_GRANT = ("namespace", "pod", "container", "owner", "team", "share")
OF_USE = ("active_ratio", "copying_ratio", "memory_used_bytes")
OF_READINGS = ("energy_joules", "power_watts", "power_limit_watts", "clock_hertz")
OF_HEAT = ("temperature_celsius", "throttled_ratio")
COLUMNS = (*REQUIRED, *OF_DEVICE, *OF_GRANT, *OF_USE, *OF_READINGS, *OF_HEAT)
MAX_ROWS = 10_000_000
MAX_SECONDS = 7 * 86400.0
Row = Mapping[str, str]


def read_history(path: Path) -> History:
    """The history in a CSV file of COLUMNS; raises ConfigError with line, column and value.

    A row is what one container had of one device for a while, or, without a namespace, a device
    that nobody had. What is empty was not measured.
    """
    devices: dict[str, Device] = {}
    cells: dict[tuple[str, float, float], Cell] = {}
    for line, row in _rows(path):
        reader = _Row(path, line, row)
        device = reader.device()
        if devices.setdefault(device.id, device) != device:
            raise reader.error("uuid", "the same node, model, parent and profile on every line")
        cell = reader.cell()
        key = (cell.device, cell.start, cell.seconds)
        before = cells.get(key)
        if before is not None and cell.grants:
            cell = Cell(
                device=before.device,
                start=before.start,
                seconds=before.seconds,
                healthy=before.healthy,
                grants=before.grants + cell.grants,
                readings=before.readings,
            )
        cells[key] = cell
    ordered = tuple(sorted(cells.values(), key=lambda cell: (cell.device, cell.start)))
    _check(path, ordered)
    return History(devices=devices, cells=ordered)


def write_history(path: Path, history: History) -> None:
    """The same file; raises ConfigError where it cannot be written."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(history_rows(history))
    except OSError as error:
        raise ConfigError("--write", str(path), "a file to write", reason=str(error)) from error


def history_rows(history: History) -> Iterator[dict[str, str]]:
    """The rows of the file."""
    for cell in history.cells:
        device, read = history.devices[cell.device], cell.readings
        common = {
            "start": datetime.fromtimestamp(cell.start, UTC).isoformat().replace("+00:00", "Z"),
            "seconds": f"{cell.seconds:g}",
            **{name: getattr(device, name) for name in ("node", "vendor", "model")},
            "uuid": device.id,
            **{name: getattr(device, name) for name in ("parent", "profile")},
            "memory_bytes": _text(device.memory_bytes),
            "healthy": str(cell.healthy).lower(),
            **{name: _text(getattr(read, name)) for name in OF_READINGS},
            "temperature_celsius": _text(read.temperature_celsius),
            "throttled_ratio": _text(read.throttled),
        }
        yield from ({**common, **_grant_row(grant)} for grant in cell.grants)
        if not cell.grants:
            yield common


def _grant_row(grant: Grant) -> dict[str, str]:
    return {
        **{name: str(getattr(grant, name)) for name in OF_GRANT},
        "active_ratio": _text(grant.active),
        "copying_ratio": _text(grant.copying),
        "memory_used_bytes": _text(grant.memory_bytes),
    }


def _text(value: float | None) -> str:
    return "" if value is None else repr(value)


def intensities() -> Mapping[str, float]:
    """g CO₂e for each kWh by country, ISO 3166-1 alpha-3."""
    text = resources.files("deviceplugin.cost").joinpath("carbon_intensity.csv").read_text("utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {row["iso3"]: float(row["gco2_per_kwh"]) for row in csv.DictReader(lines)}


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            names = reader.fieldnames or ()
            missing = [name for name in REQUIRED if name not in names]
            unknown = [name for name in names if name not in COLUMNS]
            if missing or unknown:
                wrong = ", ".join(missing or unknown)
                text = f"the columns {', '.join(REQUIRED)}; others are {', '.join(COLUMNS[6:])}"
                raise ConfigError(str(path), wrong, text)
            for count, row in enumerate(reader):
                if count >= MAX_ROWS:
                    raise ConfigError(str(path), count, f"at most {MAX_ROWS} rows")
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError("--history", str(path), "a CSV file", reason=str(error)) from error


def _check(path: Path, cells: Iterable[Cell]) -> None:
    """No device twice at once: it would be paid twice."""
    before: Cell | None = None
    for cell in cells:
        if before is not None and before.device == cell.device and cell.start < before.end:
            text = f"rows of one device that do not overlap in time: {cell.device}"
            raise ConfigError(f"{path}: start", _iso(cell.start), text)
        before = cell


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


class _Row:
    """One line, read."""

    def __init__(self, path: Path, line: int, row: Row) -> None:
        self._path, self._line, self._row = path, line, row

    def error(self, column: str, expected: str) -> ConfigError:
        where = f"{self._path}, line {self._line}: {column}"
        return ConfigError(where, self._row.get(column, ""), expected)

    def device(self) -> Device:
        if not self._row["uuid"]:
            raise self.error("uuid", "the id of a device")
        memory = self._number("memory_bytes")
        return Device(
            id=self._row["uuid"],
            node=self._row["node"],
            vendor=self._row["vendor"],
            model=self._row["model"],
            parent=self._row.get("parent", ""),
            profile=self._row.get("profile", ""),
            memory_bytes=None if memory is None else round(memory),
        )

    def cell(self) -> Cell:
        seconds = self._number("seconds", MAX_SECONDS)
        if not seconds:
            raise self.error("seconds", f"a number above 0, at most {MAX_SECONDS:g}")
        read = {name: self._number(name) for name in OF_READINGS}
        return Cell(
            device=self._row["uuid"],
            start=self._moment(),
            seconds=seconds,
            healthy=self._truth(),
            grants=self._grants(),
            readings=Readings(
                **read,
                temperature_celsius=self._number("temperature_celsius"),
                throttled=self._number("throttled_ratio", 1.0),
            ),
        )

    def _grants(self) -> tuple[Grant, ...]:
        if not self._row.get("namespace"):
            return ()
        share = self._number("share", 1.0)
        if share == 0:
            raise self.error("share", "a number above 0, at most 1")
        memory = self._number("memory_used_bytes")
        words = {name: self._row.get(name, "") for name in OF_GRANT[:-1]}
        return (
            Grant(
                **words,
                share=1.0 if share is None else share,
                active=self._number("active_ratio", 1.0),
                copying=self._number("copying_ratio", 1.0),
                memory_bytes=None if memory is None else round(memory),
            ),
        )

    def _number(self, column: str, most: float = 1e18) -> float | None:
        text = self._row.get(column, "")
        if not text:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number <= most:
            raise self.error(column, f"a number from 0 to {most:g}, or nothing if not measured")
        return number

    def _moment(self) -> float:
        try:
            moment = datetime.fromisoformat(self._row["start"])
        except ValueError as error:
            raise self.error("start", "a time such as 2026-03-01T00:00:00Z") from error
        if moment.tzinfo is None:
            raise self.error("start", "a time with its offset, such as 2026-03-01T00:00:00Z")
        return moment.timestamp()

    def _truth(self) -> bool:
        text = self._row.get("healthy", "") or "true"
        if text not in ("true", "false"):
            raise self.error("healthy", "true or false")
        return text == "true"
