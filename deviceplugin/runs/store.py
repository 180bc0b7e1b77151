"""Runs of 30 days in a small database of the state directory, and what runs now, over a restart.

SQLite's journal makes each write whole or nothing, whenever the process is killed. Blocking; called
on a thread of its own.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import structlog
from msgspec.structs import astuple

from deviceplugin.files.database import Form, opened, set_aside
from deviceplugin.learning.nodes import MAX_RUNS, Measured
from deviceplugin.learning.runs import Run
from deviceplugin.runs.book import Hold
from deviceplugin.runs.use import STEPS, Use
from deviceplugin.telemetry.model import Owner

log = structlog.get_logger()

T = TypeVar("T")
Row = tuple[object, ...]
FILE = "runs.db"
KEPT_S = 30 * 86_400.0
MAX_BYTES = 16 << 20
_SCHEMA = """
CREATE TABLE runs (namespace TEXT NOT NULL, owner TEXT NOT NULL, container TEXT NOT NULL,
  start REAL NOT NULL, seconds REAL NOT NULL, peak_mib REAL, mean_ratio REAL, busy_ratio REAL,
  ended REAL NOT NULL);
CREATE INDEX runs_ended ON runs (ended);
CREATE TABLE holds (namespace TEXT NOT NULL, pod TEXT NOT NULL, container TEXT NOT NULL,
  start REAL, seen REAL NOT NULL, peak_mib REAL, total REAL NOT NULL, steps TEXT NOT NULL);
"""
_FORM = Form(schema=_SCHEMA, version=1, max_bytes=MAX_BYTES, cache_kib=256)


_FORGET = """
DELETE FROM runs WHERE rowid NOT IN (SELECT rowid FROM runs ORDER BY ended DESC LIMIT ?)
"""


class RunStore:
    """The file, opened at the first use."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE
        self._database: sqlite3.Connection | None = None
        self._one = threading.RLock()  # it is written and asked on threads of their own

    def holds(self) -> list[Hold]:
        """What ran when it was last written; raises OSError."""
        return self._asked(_holds, [])

    def write(self, ended: Iterable[Measured], holds: Iterable[Hold], now: float) -> None:
        """Add runs, and replace what runs; what is too old or too much goes. Raises OSError."""
        rows = [_row(one) for one in ended], [_hold_row(hold) for hold in holds]
        self._asked(lambda database: _write(database, rows, now), None)

    def runs(self, now: float) -> list[Measured]:
        """The runs that are kept, the latest first; raises OSError."""
        return self._asked(lambda database: _runs(database, now), [])

    def close(self) -> None:
        """Let the file go."""
        with self._one:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _asked(self, ask: Callable[[sqlite3.Connection], T], instead: T) -> T:
        with self._one:
            try:
                if self._database is None:
                    self._database = opened(self._path, _FORM)
                return ask(self._database)
            except (sqlite3.OperationalError, OSError) as error:
                raise OSError(f"{self._path}: {error}") from error
            except (sqlite3.DatabaseError, ValueError) as error:
                self._set_aside(error)
                return instead

    def _set_aside(self, error: Exception) -> None:
        """No database, or a damaged one: it begins anew, the file stays for who wants it."""
        self.close()
        aside = set_aside(self._path)
        log.error("runs_damaged", file=str(self._path), kept_as=str(aside), error=str(error))


def _row(one: Measured) -> Row:
    run = one.run
    used = (run.peak_mib, one.mean_ratio, run.busy_ratio)
    return (*run.group, run.start, run.seconds, *used, run.end)


def _hold_row(hold: Hold) -> Row:
    who, use = hold.who, hold.use
    steps = json.dumps(use.steps)
    return (*astuple(who), hold.start, hold.seen, use.peak_mib, use.total, steps)


def _write(database: sqlite3.Connection, rows: tuple[list[Row], list[Row]], now: float) -> None:
    ended, holds = rows
    with database:
        database.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", ended)
        database.execute("DELETE FROM holds")
        database.executemany("INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?, ?)", holds)
        database.execute("DELETE FROM runs WHERE ended < ?", (now - KEPT_S,))
        if ended:
            database.execute(_FORGET, (MAX_RUNS,))


def _runs(database: sqlite3.Connection, now: float) -> list[Measured]:
    rows = database.execute(
        "SELECT namespace, owner, container, start, seconds, peak_mib, mean_ratio, busy_ratio"
        " FROM runs WHERE ended >= ? ORDER BY ended DESC, start",
        (now - KEPT_S,),
    )
    return [
        Measured(
            run=Run(
                namespace=namespace,
                owner=owner,
                container=container,
                start=start,
                seconds=seconds,
                peak_mib=peak,
                busy_ratio=busy,
            ),
            mean_ratio=mean,
        )
        for namespace, owner, container, start, seconds, peak, mean, busy in rows
    ]


def _holds(database: sqlite3.Connection) -> list[Hold]:
    rows = database.execute("SELECT * FROM holds")
    return [
        Hold(
            who=Owner(namespace=namespace, pod=pod, container=container),
            start=start,
            seen=seen,
            use=Use(peak_mib=peak, total=total, steps=_steps(steps)),
        )
        for namespace, pod, container, start, seen, peak, total, steps in rows
    ]


def _steps(text: str) -> list[int]:
    """Raises ValueError for what is none."""
    steps = [int(count) for count in json.loads(text)]
    if len(steps) != STEPS:
        raise ValueError(f"{len(steps)} steps of utilisation, {STEPS} are known here")
    return steps
