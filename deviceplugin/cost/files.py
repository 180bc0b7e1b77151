"""Files of histories, and the table of carbon intensity that is shipped."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from operator import itemgetter
from pathlib import Path

from msgspec.structs import replace

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
Row = tuple[str, ...]


def read_history(path: Path) -> History:
    """The history in a CSV file of COLUMNS; raises ConfigError with line, column and value.

    A row is what one container had of one device for a while, or, without a namespace, a device
    that nobody had. What is empty was not measured.
    """
    reader = _Reader(path)
    devices: dict[str, Device] = {}
    cells: dict[tuple[str, float, float], Cell] = {}
    for row in _rows(path, reader):
        device = reader.device(row)
        known = devices.setdefault(device.id, device)
        if known is not device and known != device:
            raise reader.error("uuid", "the same node, model, parent and profile on every line")
        cell = reader.cell(device.id, row)
        key = (cell.device, cell.start, cell.seconds)
        before = cells.get(key)
        if before is not None and cell.grants:
            cell = replace(before, grants=before.grants + cell.grants)
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


def _rows(path: Path, reader: "_Reader") -> Iterator[Row]:
    """The values of each line in the order of COLUMNS."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            pick = itemgetter(*_places(path, next(lines, [])))
            rest = [""] * (len(COLUMNS) + 1)
            for count, values in enumerate(filter(None, lines)):
                if count >= MAX_ROWS:
                    raise ConfigError(str(path), count, f"at most {MAX_ROWS} rows")
                row: Row = pick(values[: len(COLUMNS)] + rest)
                reader.at(lines.line_num, row)
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError("--history", str(path), "a CSV file", reason=str(error)) from error


def _places(path: Path, names: Sequence[str]) -> Sequence[int]:
    """Where each of COLUMNS stands; of one that is not there, where nothing stands."""
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in COLUMNS or names.count(name) > 1]
    if missing or unknown:
        wrong = ", ".join(missing or unknown)
        text = f"the columns {', '.join(REQUIRED)}; others are {', '.join(COLUMNS[6:])}"
        raise ConfigError(str(path), wrong, text)
    return [names.index(name) if name in names else len(COLUMNS) for name in COLUMNS]


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


_AT = {name: number for number, name in enumerate(COLUMNS)}
_DEVICE = slice(_AT["node"], _AT["memory_bytes"] + 1)
_WHO = slice(_AT["namespace"], _AT["team"] + 1)
_READ = slice(_AT["energy_joules"], len(COLUMNS))
_MOST: Mapping[str, float] = {
    "seconds": MAX_SECONDS,
    **dict.fromkeys(("share", "active_ratio", "copying_ratio", "throttled_ratio"), 1.0),
}


class _Reader:
    """Reads one line after the other; what lines have in common is kept once."""

    def __init__(self, path: Path) -> None:
        self._path, self._line = path, 0
        self._row: Row = ()
        self._devices: dict[Row, Device] = {}
        self._moments: dict[str, float] = {}
        self._who: dict[Row, Row] = {}
        self._seconds: dict[str, float] = {}
        self._readings: tuple[Row, Readings] = ((), Readings())

    def at(self, line: int, row: Row) -> None:
        """The line to which errors belong."""
        self._line, self._row = line, row

    def error(self, column: str, expected: str) -> ConfigError:
        where = f"{self._path}, line {self._line}: {column}"
        return ConfigError(where, self._row[_AT[column]], expected)

    def device(self, row: Row) -> Device:
        key = row[_DEVICE]
        if key not in self._devices:
            if not row[_AT["uuid"]]:
                raise self.error("uuid", "the id of a device")
            node, vendor, model, uuid, parent, profile, _ = key
            self._devices[key] = Device(
                id=uuid,
                node=node,
                vendor=vendor,
                model=model,
                parent=parent,
                profile=profile,
                memory_bytes=_whole(self._number("memory_bytes")),
            )
        return self._devices[key]

    def cell(self, device: str, row: Row) -> Cell:
        return Cell(
            device=device,
            start=self._moment(row[0]),
            seconds=self._length(row[1]),
            healthy=self._truth(row[_AT["healthy"]]),
            grants=self._grants(row),
            readings=self._read(row[_READ]),
        )

    def _grants(self, row: Row) -> tuple[Grant, ...]:
        who = row[_WHO]
        if not who[0]:
            return ()
        share = self._number("share")
        if share == 0:
            raise self.error("share", "a number above 0, at most 1")
        namespace, pod, container, owner, team = self._who.setdefault(who, who)
        return (
            Grant(
                namespace=namespace,
                pod=pod,
                container=container,
                owner=owner,
                team=team,
                share=1.0 if share is None else share,
                active=self._number("active_ratio"),
                copying=self._number("copying_ratio"),
                memory_bytes=_whole(self._number("memory_used_bytes")),
            ),
        )

    def _read(self, texts: Row) -> Readings:
        """Those of a device are the same in each of its lines of a while."""
        if texts != self._readings[0]:
            names = (*OF_READINGS, "temperature_celsius", "throttled")
            columns = (*OF_READINGS, *OF_HEAT)
            found = dict(zip(names, map(self._number, columns), strict=True))
            self._readings = texts, Readings(**found)
        return self._readings[1]

    def _number(self, column: str) -> float | None:
        text = self._row[_AT[column]]
        if not text:
            return None
        most = _MOST.get(column, 1e18)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number <= most:
            raise self.error(column, f"a number from 0 to {most:g}, or nothing if not measured")
        return number

    def _length(self, text: str) -> float:
        if text not in self._seconds:
            seconds = self._number("seconds")
            if not seconds:
                raise self.error("seconds", f"a number above 0, at most {MAX_SECONDS:g}")
            self._seconds[text] = seconds
        return self._seconds[text]

    def _moment(self, text: str) -> float:
        if text not in self._moments:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError as error:
                raise self.error("start", "a time such as 2026-03-01T00:00:00Z") from error
            if moment.tzinfo is None:
                raise self.error("start", "a time with its offset, such as 2026-03-01T00:00:00Z")
            self._moments[text] = moment.timestamp()
        return self._moments[text]

    def _truth(self, text: str) -> bool:
        if text not in ("true", "false", ""):
            raise self.error("healthy", "true or false")
        return text != "false"


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)
