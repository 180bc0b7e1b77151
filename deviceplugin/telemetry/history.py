"""What was, in a small database of the state directory: minutes of a day, hours of 30 days, days of
13 months.

SQLite's own journal makes each write whole or nothing, whenever the process is killed. The file has
at most MAX_BYTES: when it is full the oldest goes. Blocking; called on a thread of its own.
"""

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from deviceplugin.files.database import Form, opened, set_aside

log = structlog.get_logger()

FILE = "history.db"
MAX_BYTES = 32 << 20
_JOURNAL_BYTES = 4 << 20  # kept free for the journal of one write
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400  # days of UTC
KEPT_S = {MINUTE_S: DAY_S, HOUR_S: 30 * DAY_S, DAY_S: 400 * DAY_S}
MAX_SERIES = 2000
MAX_EVENTS = 50_000
FAULT = "fault"  # these events are kept as long as days, others as long as hours
_SCHEMA = """
CREATE TABLE series (id INTEGER PRIMARY KEY, metric TEXT NOT NULL, subject TEXT NOT NULL,
  UNIQUE (metric, subject));
CREATE TABLE points (step INTEGER NOT NULL, series INTEGER NOT NULL, at INTEGER NOT NULL,
  mean REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (step, series, at)) WITHOUT ROWID;
CREATE TABLE events (at REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
  text TEXT NOT NULL);
CREATE INDEX events_at ON events (at);
"""


class Series(Struct, frozen=True, order=True):
    """A metric of a device (by id) or of a resource (by name)."""

    metric: str
    subject: str


class Point(Struct, frozen=True, kw_only=True):
    """Of the `step_s` seconds from `at` (Unix seconds) on: mean, lowest and highest value, and of
    how many values."""

    at: int
    step_s: int
    mean: float
    low: float
    high: float
    count: int


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened: `kind` is fault, recovery or allocation."""

    at: float
    kind: str
    subject: str
    text: str


class Sums:
    """The values of one step that is not over."""

    def __init__(self) -> None:
        self.at = 0
        self._values: dict[Series, list[float]] = {}

    def add(self, series: Series, value: float) -> None:
        """One value more: sum, lowest, highest, count."""
        sums = self._values.get(series)
        if sums is None:
            self._values[series] = [value, value, value, 1.0]
            return
        sums[0] += value
        sums[1] = min(sums[1], value)
        sums[2] = max(sums[2], value)
        sums[3] += 1

    def take(self) -> Mapping[Series, Point]:
        """The points of the step, which begins anew."""
        values, self._values = self._values, {}
        return {
            series: Point(
                at=self.at, step_s=MINUTE_S, mean=v[0] / v[3], low=v[1], high=v[2], count=int(v[3])
            )
            for series, v in values.items()
        }


class History:
    """The file, opened when something is first written or asked for; one that does not write raises
    OSError where the file cannot be read."""

    def __init__(self, state_dir: Path, max_bytes: int = MAX_BYTES, *, writes: bool = True) -> None:
        self._path, self._max_bytes, self._writes = state_dir / FILE, max_bytes, writes
        self._database: sqlite3.Connection | None = None
        self._ids: dict[Series, int] = {}
        self._forgot = 0  # hours since 1970: forgetting looks at all rows
        self._one = threading.RLock()  # it is written and asked on threads of their own

    def write(self, points: Mapping[Series, Point], events: Iterable[Event], now: float) -> None:
        """Add the points of a minute, and events; what is too old goes.

        Raises OSError where the file cannot be written.
        """
        with self._one:
            self._try(points, tuple(events), now)

    def _try(self, points: Mapping[Series, Point], events: tuple[Event, ...], now: float) -> None:
        try:
            self._write(points, events, now)
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise OSError(f"{self._path}: {error}") from error
            self._halve()
        except sqlite3.DatabaseError as error:
            self._set_aside(error)

    def query(self, series: Series, start: float, end: float) -> tuple[Point, ...]:
        """The points from `start` to `end` (Unix seconds), oldest first: minutes where they are
        kept, else hours, else days."""
        found: tuple[Point, ...] = ()
        for step_s in sorted(KEPT_S):
            points = self.steps(step_s, series, start, end)
            if found:
                points = tuple(p for p in points if p.at + step_s <= found[0].at)
            found = (*points, *found)
        return found

    def events(self, start: float, end: float) -> tuple[Event, ...]:
        """What happened from `start` to `end`, oldest first."""
        rows = self._rows(
            "SELECT at, kind, subject, text FROM events WHERE at BETWEEN ? AND ? ORDER BY at",
            (start, end),
        )
        return tuple(Event(at=a, kind=k, subject=s, text=t) for a, k, s, t in rows)

    def series(self) -> tuple[Series, ...]:
        """All that there is something of."""
        rows = self._rows("SELECT metric, subject FROM series ORDER BY metric, subject", ())
        return tuple(Series(metric, subject) for metric, subject in rows)

    def close(self) -> None:
        """Let the file go."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def steps(self, step_s: int, series: Series, start: float, end: float) -> tuple[Point, ...]:
        """The points of one length (a key of KEPT_S) that lie in the time, oldest first."""
        rows = self._rows(
            "SELECT at, mean, low, high, count FROM points JOIN series ON series.id = points.series"
            " WHERE step = ? AND metric = ? AND subject = ? AND at BETWEEN ? AND ? ORDER BY at",
            (step_s, series.metric, series.subject, start - step_s, end),
        )
        return tuple(
            Point(at=at, step_s=step_s, mean=mean, low=low, high=high, count=count)
            for at, mean, low, high, count in rows
        )

    def _rows(self, question: str, values: tuple[object, ...]) -> list[Any]:  # as the row is
        if self._database is None and not self._path.exists():
            return []
        with self._one:
            try:
                return self._opened().execute(question, values).fetchall()
            except sqlite3.DatabaseError as error:
                if self._writes:
                    raise
                raise OSError(f"{self._path}: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            limit = self._max_bytes - _JOURNAL_BYTES
            self._database = opened(self._path, _form(limit)) if self._writes else _read(self._path)
        return self._database

    def _write(self, points: Mapping[Series, Point], events: tuple[Event, ...], now: float) -> None:
        database = self._opened()
        with database:
            for series, point in points.items():
                number = self._number(database, series)
                if number is not None:
                    _add(database, number, point)
            database.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?)",
                [(e.at, e.kind, e.subject, e.text[:500]) for e in events],
            )
            if int(now) // HOUR_S != self._forgot:
                _forget(database, now)
                self._forgot = int(now) // HOUR_S

    def _number(self, database: sqlite3.Connection, series: Series) -> int | None:
        """None for one more than there may be."""
        if series not in self._ids:
            row = database.execute(
                "SELECT id FROM series WHERE metric = ? AND subject = ?",
                (series.metric, series.subject),
            ).fetchone()
            if row is None:
                (count,) = database.execute("SELECT count(*) FROM series").fetchone()
                if count >= MAX_SERIES:
                    return None
                row = database.execute(
                    "INSERT INTO series (metric, subject) VALUES (?, ?) RETURNING id",
                    (series.metric, series.subject),
                ).fetchone()
            self._ids[series] = int(row[0])
        return self._ids[series]

    def _halve(self) -> None:
        """The file is full: the older half of what it has most of, and of the events, goes."""
        self._ids.clear()
        database = self._opened()
        with database:
            step_s, middle = database.execute(
                "SELECT step, avg(at) FROM points GROUP BY step ORDER BY count(*) DESC LIMIT 1"
            ).fetchone() or (MINUTE_S, None)
            database.execute("DELETE FROM points WHERE step = ? AND at < ?", (step_s, middle))
            database.execute("DELETE FROM events WHERE at < (SELECT avg(at) FROM events)")
        log.warning("history_full", file=str(self._path), of_seconds=step_s, dropped_before=middle)

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """No database, or a damaged one: history begins anew, the file stays for who wants it."""
        self.close()
        self._ids.clear()
        aside = set_aside(self._path)
        log.error("history_damaged", file=str(self._path), kept_as=str(aside), error=str(error))


def _form(max_bytes: int) -> Form:
    return Form(schema=_SCHEMA, version=1, max_bytes=max_bytes, cache_kib=512)


def _read(path: Path) -> sqlite3.Connection:
    """For a process beside the one that writes."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)


def _add(database: sqlite3.Connection, series: int, point: Point) -> None:
    """A minute, and its part of the hour and of the day."""
    values = (point.mean, point.low, point.high, point.count)
    database.execute(
        "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?)",
        (MINUTE_S, series, point.at, *values),
    )
    database.executemany(
        "INSERT INTO points VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " mean = (mean * count + excluded.mean * excluded.count) / (count + excluded.count),"
        " low = min(low, excluded.low), high = max(high, excluded.high),"
        " count = count + excluded.count",
        [(step_s, series, point.at - point.at % step_s, *values) for step_s in (HOUR_S, DAY_S)],
    )


def _forget(database: sqlite3.Connection, now: float) -> None:
    for step_s, kept_s in KEPT_S.items():
        database.execute("DELETE FROM points WHERE step = ? AND at < ?", (step_s, now - kept_s))
    database.execute(
        "DELETE FROM events WHERE at < ? AND (kind != ? OR at < ?)",
        (now - KEPT_S[HOUR_S], FAULT, now - KEPT_S[DAY_S]),
    )
    database.execute(
        "DELETE FROM events WHERE rowid <= (SELECT max(rowid) FROM events) - ?", (MAX_EVENTS,)
    )
