"""State files of every released version load for ever; those of a later one lose nothing.

A release adds its file to `state/`; no file there is ever changed.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from deviceplugin.health.file import FILE, read_state, saved, write_state
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, FaultClass, Health

RELEASED = sorted((Path(__file__).parent / "state").glob("*.json"))
ONE, TWO, THREE = (DeviceID(f"GPU-00000000-0000-0000-0000-00000000000{n}") for n in (1, 2, 3))


def of_a_later_version() -> dict[str, Any]:
    """The newest file as a later version might write it: more keys everywhere, a new class."""
    document: dict[str, Any] = json.loads(RELEASED[-1].read_text())
    document |= {"version": 7, "maintenance": {"GPU-x": [1, 2]}}
    for name in ("faults", "boots", "cordons"):
        for entry in document[name]:
            entry["noted_by"] = {"operator": name}
    document["faults"][1]["kind"] = "poisoned"
    return document


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_the_file_of_a_released_version_loads(tmp_path: Path, path: Path) -> None:
    (tmp_path / FILE).write_bytes(path.read_bytes())
    with capture_logs() as logs:
        state = read_state(tmp_path)
    assert logs == []
    kinds = {key[0]: record.fault.kind for key, record in state.records.faults.items()}
    assert kinds == {ONE: FaultClass.REBOOT, TWO: FaultClass.RESET}
    assert state.records.cordons[THREE].reason == "new paste"
    assert state.records.reset_counters == {ONE: 123456}
    assert len(state.records.boots) == 1
    assert json.loads(saved(state.records, state.document)) == json.loads(path.read_bytes())


def test_the_file_of_a_later_version_loses_no_fault_and_no_cordon(tmp_path: Path) -> None:
    later = of_a_later_version()
    (tmp_path / FILE).write_text(json.dumps(later))
    with capture_logs() as logs:
        state = read_state(tmp_path)
    assert logs == []
    kinds = {key[0]: record.fault.kind for key, record in state.records.faults.items()}
    assert kinds == {ONE: FaultClass.REBOOT, TWO: FaultClass.HARDWARE}
    assert set(state.records.cordons) == {THREE}


async def test_keys_of_a_later_version_are_written_back(tmp_path: Path) -> None:
    later = of_a_later_version()
    (tmp_path / FILE).write_text(json.dumps(later))
    store = InventoryStore(lambda: 1764200000.0)
    gpus = [Device(id=gpu, vendor="nvidia") for gpu in (ONE, TWO, THREE)]
    store.set_devices("nvidia", gpus)
    tracker = FaultTracker(store, FaultPolicy(), boot=None)
    await tracker.load(tmp_path)
    assert {store.current.health_of(gpu) for gpu in gpus} == {Health.UNHEALTHY}
    tracker.forget(gpus[0])
    tracker.cordon(gpus[0], "dusty")
    saving = asyncio.create_task(tracker.keep_saved(tmp_path))
    await asyncio.sleep(0)  # the task has begun
    assert await tracker.settled() == ""
    saving.cancel()
    await asyncio.wait([saving])
    written = json.loads((tmp_path / FILE).read_bytes())
    assert written["version"] == 1
    assert written["maintenance"] == later["maintenance"]
    assert written["boots"] == later["boots"]
    (fault,) = written["faults"]
    assert fault == later["faults"][1] | {"kind": "hardware"}
    dusty, old = written["cordons"]
    assert old == later["cordons"][0]
    assert dusty == {"device": ONE, "reason": "dusty", "since": 1764200000.0}


def test_another_cordon_has_no_keys_of_the_one_before(tmp_path: Path) -> None:
    later = of_a_later_version()
    write_state(tmp_path, json.dumps(later).encode())
    state = read_state(tmp_path)
    moved = json.loads(
        saved(state.records, {**state.document, "cordons": [{**later["cordons"][0], "since": 5.0}]})
    )
    assert "noted_by" not in moved["cordons"][0]
