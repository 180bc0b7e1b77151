"""The operator's door: who may speak, what may be said, and what a bad request costs."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.errors import DevicePluginError
from deviceplugin.health.metrics import DeviceInfoCollector, HealthCollector
from deviceplugin.health.operations import HealthOperations
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.metrics.registry import Registry
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.runtime.control import FILE, Control, ControlError, ask_daemon

GPU = Device(id=DeviceID("GPU-a"), vendor="nvidia", pci_address="0000:07:00.0")
PART = Device(id=DeviceID("MIG-a"), vendor="nvidia", parent=GPU.id, pci_address="0000:07:00.0")


@pytest.fixture
def state_dir(short_dir: Path) -> Path:
    return short_dir


@pytest.fixture
def store() -> InventoryStore:
    store = InventoryStore(lambda: 100.0, HealthSection())
    store.set_devices("nvidia", [GPU, PART])
    return store


@pytest.fixture
async def desk(store: InventoryStore) -> FaultTracker:
    return FaultTracker(store, FaultPolicy(), "boot")


@pytest.fixture
async def door(
    state_dir: Path, store: InventoryStore, desk: FaultTracker
) -> AsyncIterator[FaultTracker]:
    control = Control(HealthOperations(store, desk).table())
    serving = asyncio.create_task(control.serve(state_dir))
    await control.listening.wait()
    yield desk
    serving.cancel()
    await asyncio.wait([serving])
    assert not (state_dir / FILE).exists()


async def ask(state_dir: Path, **request: str) -> dict[str, Any]:
    return await asyncio.to_thread(ask_daemon, state_dir, request)


async def say(state_dir: Path, line: bytes) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(state_dir / FILE))
    writer.write(line)
    answer: dict[str, Any] = json.loads(await reader.read())
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_gpu_can_be_named_by_its_address(
    state_dir: Path, door: FaultTracker, store: InventoryStore
) -> None:
    answer = await ask(state_dir, operation="cordon", device="0000:07:00.0", reason=" new  paste")
    assert answer == {"device": "GPU-a"}
    (fault,) = store.current.faults[GPU.id]
    assert fault.reason == "cordoned by an operator: new paste"
    assert store.current.health_of(PART) == "Unhealthy"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"\n", "not a request"),
        (b"nonsense\n", "not a request"),
        (b'{"operation": "health", "more": 1}\n', "not a request"),
        (b'{"operation": "reboot"}\n', "unknown operation"),
        (b'{"operation": "cordon", "device": "x", "reason": "r"}\n', "no device"),
        (b'{"operation": "cordon", "device": "GPU-a", "reason": " "}\n', "a cordon has a reason"),
        (b"x" * 200000 + b"\n", "at most 65536 bytes"),
    ],
)
async def test_a_bad_request_is_answered_with_what_is_wrong(
    state_dir: Path, door: FaultTracker, line: bytes, text: str
) -> None:
    answer = await say(state_dir, line)
    assert answer["ok"] is False
    assert text in answer["error"]
    assert (await ask(state_dir, operation="health"))["devices"][0]["id"] == "GPU-a"


async def test_only_the_owner_may_open_the_socket(state_dir: Path, door: FaultTracker) -> None:
    assert (state_dir / FILE).stat().st_mode & 0o777 == 0o600


async def test_a_socket_left_by_a_killed_daemon_is_replaced(
    state_dir: Path, store: InventoryStore, desk: FaultTracker
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(state_dir / FILE))
    control = Control(HealthOperations(store, desk).table())
    serving = asyncio.create_task(control.serve(state_dir))
    await control.listening.wait()
    assert (await ask(state_dir, operation="health"))["vendors"] == []
    serving.cancel()
    await asyncio.wait([serving])


async def test_a_path_that_is_too_long_is_named(store: InventoryStore, desk: FaultTracker) -> None:
    with pytest.raises(DevicePluginError, match="at most 107 bytes"):
        await Control(HealthOperations(store, desk).table()).serve(Path("/tmp") / ("x" * 120))


def test_without_a_daemon_the_command_says_so(state_dir: Path) -> None:
    with pytest.raises(ControlError, match="no daemon answers"):
        ask_daemon(state_dir, {"operation": "health"})


async def test_conditions_and_events_are_series(store: InventoryStore, desk: FaultTracker) -> None:
    fault = Fault(device=GPU.id, source="nvidia.xid", code="79", reason="r", kind=FaultClass.REBOOT)
    desk.record_event(fault)
    desk.record_event(fault)
    registry = Registry()
    registry.register(
        HealthCollector(lambda: store.current, lambda: desk.records.value, desk.event_counts)
    )
    text = registry.text()
    assert 'deviceplugin_device_condition{condition="unhealthy",device="MIG-a"} 1.0' in text
    assert (
        'deviceplugin_health_events_total{code="79",device="GPU-a",source="nvidia.xid"} 2.0' in text
    )
    assert "deviceplugin_remembered_faults 1.0" in text


def test_the_info_series_says_what_an_id_stands_for(store: InventoryStore) -> None:
    registry = Registry()
    registry.register(DeviceInfoCollector(lambda: store.current, lambda: "node-1"))
    (line,) = [x for x in registry.text().splitlines() if 'device="MIG-a"' in x]
    assert line.startswith("deviceplugin_device_info{")
    for label in ('node="node-1"', 'pci_address="0000:07:00.0"', 'parent="GPU-a"', 'index=""'):
        assert label in line
