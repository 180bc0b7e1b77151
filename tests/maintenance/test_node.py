"""What a node's own history says of its GPUs."""

from pathlib import Path

import pytest

from deviceplugin.maintenance.node import day_of, read_node
from deviceplugin.maintenance.signs import signs_of
from deviceplugin.maintenance.units import Kind
from deviceplugin.telemetry.history import DAY_S, FILE, HOUR_S, Event, History, Point, Series

GPUS = ("GPU-0", "GPU-1")
START = 1_700_000_000 - 1_700_000_000 % DAY_S
ROUNDS = 6


def write(folder: Path, days: int, values: dict[str, float], **events: str) -> None:
    """A minute of each hour, or of each day where there are many; `values` are those of GPU-0,
    GPU-1 has 0."""
    history = History(folder)
    for hour in range(0, 24 * days, 1 if days == 1 else 24):
        at = START + hour * HOUR_S
        points = {
            Series(metric, gpu): Point(at=at, step_s=60, mean=one, low=one, high=one, count=ROUNDS)
            for metric, value in {"answered": 1.0, **values}.items()
            for gpu in GPUS
            for one in [value if gpu == "GPU-0" or metric == "answered" else 0.0]
        }
        history.write(points, (), at)
    faults = [
        Event(at=START + HOUR_S * n, kind="fault", subject="GPU-0", text=f"{text}: it is so")
        for n, text in enumerate(events.values())
    ]
    history.write({}, faults, START + days * DAY_S)
    history.close()


def test_days_become_what_signs_are_made_of(tmp_path: Path) -> None:
    write(tmp_path, 40, {"corrected_errors": 0.1, "temperature_celsius": 61.0})
    node = read_node(tmp_path, GPUS, START + 40 * DAY_S)
    day = day_of(START + 39 * DAY_S)
    assert node.days() == [*range(day - 39, day + 1)]
    one = node.observed(day)["GPU-0"]
    assert one.days == 30
    assert one.growth["corrected_errors"] == pytest.approx(0.1 * ROUNDS * 30)
    assert one.highs["temperature_celsius"] == 61.0
    assert one.answered == 1.0
    assert node.years == pytest.approx(2 * 40 / 365.25)
    assert signs_of(node.observed(day)) == {"GPU-0": ("corrected_errors",), "GPU-1": ()}
    assert node.observed(day - 39)["GPU-0"].days == 1


def test_wear_is_that_of_the_whole_history(tmp_path: Path) -> None:
    write(tmp_path, 10, {"remapped_rows": 1 / ROUNDS, "worn_banks": 2.0, "banks": 640.0})
    wear = read_node(tmp_path, GPUS, START + 10 * DAY_S).wear("GPU-0")
    assert wear.days == 10
    assert wear.remapped == pytest.approx(10)
    assert (wear.worn_banks, wear.banks) == (2, 640)


def test_faults_that_end_work_are_failures_one_a_day(tmp_path: Path) -> None:
    write(tmp_path, 1, {}, a="nvidia.xid/79", b="nvidia.xid/13", c="nvidia.xid/48")
    node = read_node(tmp_path, GPUS, START + DAY_S)
    assert node.failures == {"GPU-0": [(day_of(START), Kind.OFF_BUS)]}


def test_hours_count_how_many_gpus_were_held(tmp_path: Path) -> None:
    write(tmp_path, 1, {"held": 1.0})
    held = read_node(tmp_path, GPUS, START + DAY_S - 1).held
    assert held == {START // HOUR_S + n: 1.0 for n in range(23)}  # the last is not over


def test_without_a_history_nothing_is_known(tmp_path: Path) -> None:
    node = read_node(tmp_path, GPUS, START)
    assert (node.years, node.days(), node.observed(1), node.held) == (0, [], {}, {})
    assert node.wear("GPU-0").days == 0
    assert not (tmp_path / FILE).exists()


def test_a_history_that_is_none_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 1000)
    with pytest.raises(OSError, match="not a database"):
        read_node(tmp_path, GPUS, START)
