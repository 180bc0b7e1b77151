"""What is kept of the past, and that it is bounded and survives."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

import pytest

from deviceplugin.telemetry.history import (
    DAY_S,
    FAULT,
    FILE,
    HOUR_S,
    KEPT_S,
    MAX_BYTES,
    MAX_EVENTS,
    MINUTE_S,
    Event,
    History,
    Point,
    Series,
    Sums,
)

POWER = Series("power_watts", "GPU-0")
START = 1_700_000_000 - 1_700_000_000 % HOUR_S


def minute(at: int, mean: float = 1.0, low: float = 1.0, high: float = 1.0) -> Point:
    return Point(at=at, step_s=MINUTE_S, mean=mean, low=low, high=high, count=6)


class Opening(Protocol):
    def __call__(self, directory: Path, max_bytes: int = ...) -> History: ...


@pytest.fixture
def opened() -> Iterator[Opening]:
    """Histories that are closed at the end."""
    with ExitStack() as stack:

        def one(directory: Path, max_bytes: int = MAX_BYTES) -> History:
            history = History(directory, max_bytes)
            stack.callback(history.close)
            return history

        yield one


def test_a_minute_is_its_mean_lowest_and_highest() -> None:
    sums = Sums()
    sums.at = START
    for value in (1.0, 5.0, 3.0):
        sums.add(POWER, value)
    point = Point(at=START, step_s=MINUTE_S, mean=3, low=1, high=5, count=3)
    assert sums.take() == {POWER: point}
    assert sums.take() == {}


def test_minutes_and_events_are_read_again_by_another(tmp_path: Path, opened: Opening) -> None:
    event = Event(at=START + 5, kind="fault", subject="GPU-0", text="nvidia.xid/79: lost")
    writer = opened(tmp_path)
    points = [minute(START + MINUTE_S * n, mean=n, low=0, high=n) for n in range(3)]
    for point in points:
        writer.write({POWER: point}, [event] if point.at == START else [], START)
    other = opened(tmp_path)
    assert other.query(POWER, START, START + HOUR_S) == tuple(points)
    assert other.query(POWER, START + MINUTE_S * 2, START + HOUR_S)[-1:] == tuple(points[-1:])
    assert other.events(START, START + HOUR_S) == (event,)
    assert other.series() == (POWER,)


def test_hours_stay_when_minutes_are_gone(tmp_path: Path, opened: Opening) -> None:
    history = opened(tmp_path)
    for n, value in enumerate((2.0, 4.0)):
        point = minute(START + n * MINUTE_S, mean=value, low=value - 1, high=value + 1)
        history.write({POWER: point}, (), START)
    later = START + KEPT_S[MINUTE_S] + HOUR_S
    history.write({POWER: minute(later)}, (), later)
    hour, last = history.query(POWER, START, later)
    assert (hour.step_s, hour.mean, hour.low, hour.high, hour.count) == (HOUR_S, 3, 1, 5, 12)
    assert last == minute(later)


def test_days_stay_when_hours_are_gone(tmp_path: Path, opened: Opening) -> None:
    history = opened(tmp_path)
    day = START - START % DAY_S
    for n, value in enumerate((2.0, 4.0)):
        history.write({POWER: minute(day + n * HOUR_S, mean=value, low=0, high=9)}, (), day)
    later = day + KEPT_S[HOUR_S] + 2 * DAY_S
    history.write({POWER: minute(later)}, (), later)
    first, last = history.query(POWER, day, later)
    assert (first.step_s, first.at, first.mean, first.high, first.count) == (DAY_S, day, 3, 9, 12)
    assert last == minute(later)
    assert [point.at for point in history.steps(DAY_S, POWER, day, later)] == [day, later]


def test_faults_are_kept_as_long_as_days_other_events_as_long_as_hours(
    tmp_path: Path, opened: Opening
) -> None:
    history = opened(tmp_path)
    kinds = (FAULT, "recovery")
    history.write({}, [Event(at=START, kind=k, subject="x", text="y") for k in kinds], START)
    later = START + KEPT_S[HOUR_S] + HOUR_S
    history.write({}, (), later)
    assert [event.kind for event in history.events(0, later)] == [FAULT]
    later = START + KEPT_S[DAY_S] + HOUR_S
    history.write({}, (), later)
    assert history.events(0, later) == ()


def test_of_many_events_the_last_are_kept(tmp_path: Path, opened: Opening) -> None:
    history = opened(tmp_path)
    events = [Event(at=START + n, kind=FAULT, subject="x", text="") for n in range(MAX_EVENTS + 5)]
    history.write({}, events, START)
    history.write({}, (), START + HOUR_S)
    assert [event.at for event in history.events(0, START + 6)] == [START + 5, START + 6]


def test_another_process_reads_and_cannot_write(tmp_path: Path) -> None:
    history, reader = History(tmp_path), History(tmp_path, writes=False)
    assert reader.series() == ()
    history.write({POWER: minute(START)}, (), START)
    assert reader.query(POWER, START, START + HOUR_S) == (minute(START),)
    with pytest.raises(OSError, match="readonly"):
        reader.write({POWER: minute(START)}, (), START)
    history.write({POWER: minute(START + MINUTE_S)}, (), START)
    assert len(reader.query(POWER, START, START + HOUR_S)) == 2
    history.close()
    reader.close()


def test_a_file_that_is_no_database_is_an_oserror_to_who_only_reads(
    tmp_path: Path, opened: Opening
) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 1000)
    reader = History(tmp_path, writes=False)
    with pytest.raises(OSError, match=FILE):
        reader.series()
    reader.close()


def test_what_is_past_its_time_goes(tmp_path: Path, opened: Opening) -> None:
    history = opened(tmp_path)
    event = Event(at=START, kind="allocation", subject="x", text="y")
    history.write({POWER: minute(START)}, [event], START)
    later = START + KEPT_S[DAY_S] + 2 * DAY_S
    history.write({POWER: minute(later)}, (), later)
    assert [point.at for point in history.query(POWER, START, later)] == [later]
    assert history.events(0, later) == ()


def test_a_full_file_loses_its_older_half_and_goes_on(tmp_path: Path, opened: Opening) -> None:
    limit = (4 << 20) + 256 * 1024
    history = opened(tmp_path, max_bytes=limit)
    names = [Series("power_watts", f"GPU-{n}") for n in range(90)]
    for n in range(200):
        at = START + n * MINUTE_S
        history.write({name: minute(at) for name in names}, (), at)
    assert (tmp_path / FILE).stat().st_size < limit
    points = history.query(names[0], START, START + HOUR_S * 24)
    minutes = [point.at for point in points if point.step_s == MINUTE_S]
    assert minutes[-1] >= START + 190 * MINUTE_S
    assert minutes[0] > START


def test_a_damaged_file_is_set_aside(tmp_path: Path, opened: Opening) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 1000)
    history = opened(tmp_path)
    history.write({POWER: minute(START)}, (), START)
    history.write({POWER: minute(START)}, (), START)
    assert (tmp_path / "history.damaged").exists()
    assert history.query(POWER, START, START + HOUR_S) == (minute(START),)


def test_a_folder_that_cannot_be_written_is_an_oserror(tmp_path: Path, opened: Opening) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        opened(tmp_path / "file" / "state").write({POWER: minute(START)}, (), START)


WRITER = """
import sys
from pathlib import Path
from tests.telemetry.test_history import *
history = History(Path(sys.argv[1]))
for n in range(10**6):
    history.write({POWER: minute(START + n * MINUTE_S)}, (), START)
    print(n, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path, opened: Opening) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        written = [int(writer.stdout.readline()) for _ in range(5)]
        os.kill(writer.pid, signal.SIGKILL)
    points = opened(tmp_path).query(POWER, START, START + KEPT_S[MINUTE_S])
    assert len(points) >= len(written)
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
