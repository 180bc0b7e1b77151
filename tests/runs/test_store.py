"""The file of runs: what stays, for how long, and what a damaged or forbidden one costs."""

import sqlite3
from pathlib import Path

import pytest
import structlog

from deviceplugin.learning.nodes import MAX_RUNS, Measured
from deviceplugin.learning.runs import Run
from deviceplugin.runs.book import Hold
from deviceplugin.runs.store import FILE, KEPT_S, MAX_BYTES, RunStore
from deviceplugin.runs.use import Use
from tests.runs.made import NOW, owner


def ended(at: float, name: str = "train") -> Measured:
    run = Run(
        namespace="ml",
        owner=name,
        container="main",
        start=at - 60,
        seconds=60.0,
        peak_mib=12.5,
        busy_ratio=0.9,
    )
    return Measured(run=run, mean_ratio=0.4)


def test_runs_and_what_runs_are_there_after_a_restart(tmp_path: Path) -> None:
    use = Use(peak_mib=3.0)
    use.add(None, 0.5)
    holds = [
        Hold(who=owner("a"), start=NOW - 9, seen=NOW, use=use),
        Hold(who=owner("b"), start=None, seen=NOW),
    ]
    store = RunStore(tmp_path)
    store.write([ended(NOW)], holds, NOW)
    store.close()
    again = RunStore(tmp_path)
    assert again.runs(NOW) == [ended(NOW)]
    assert again.holds() == holds
    again.write([], [], NOW)
    assert again.holds() == []
    again.close()


def test_only_root_reads_the_file_as_it_names_pods(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write([], [], NOW)
    store.close()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_runs_of_more_than_30_days_ago_are_gone(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write([ended(NOW - KEPT_S + 1, "young"), ended(NOW - KEPT_S - 1, "old")], [], NOW)
    assert [one.run.owner for one in store.runs(NOW)] == ["young"]
    assert store.runs(NOW + 2) == []
    store.close()


def test_there_are_never_more_than_so_many_the_latest(tmp_path: Path) -> None:
    store, name = RunStore(tmp_path), "x" * 253
    store.write([ended(NOW + number, name) for number in range(MAX_RUNS)], [], NOW)
    store.write([ended(NOW + MAX_RUNS, name)], [], NOW)
    kept = store.runs(NOW)
    assert len(kept) == MAX_RUNS
    assert (kept[0].run.end, kept[-1].run.end) == (NOW + MAX_RUNS, NOW + 1)
    store.close()
    assert (tmp_path / FILE).stat().st_size < MAX_BYTES / 2


@pytest.mark.parametrize("content", [b"no database" * 500, None], ids=["text", "newer"])
def test_a_damaged_file_is_set_aside_and_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / FILE
    if content is not None:
        file.write_bytes(content)
    else:
        database = sqlite3.connect(file)
        database.execute("PRAGMA user_version = 7")
        database.close()
    store = RunStore(tmp_path)
    with structlog.testing.capture_logs() as logs:
        assert store.holds() == []
    store.write([ended(NOW)], [], NOW)
    assert len(store.runs(NOW)) == 1
    store.close()
    assert [one["event"] for one in logs] == ["runs_damaged"]
    assert file.with_suffix(".damaged").exists()


def test_steps_that_are_none_are_a_damaged_file(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write([], [Hold(who=owner("a"), start=NOW, seen=NOW, use=Use(steps=[1]))], NOW)
    with structlog.testing.capture_logs() as logs:
        assert store.holds() == []
    store.close()
    assert [one["event"] for one in logs] == ["runs_damaged"]


def test_a_folder_that_cannot_be_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = RunStore(tmp_path / "file" / "below")
    with pytest.raises(OSError, match=FILE):
        store.write([], [], NOW)
