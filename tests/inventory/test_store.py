"""The store of what is known: who replaces what, and when a generation is new."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, Fault, VendorStatus


def device(name: str, vendor: str = "one") -> Device:
    return Device(id=DeviceID(name), vendor=vendor)


def fault(name: str, code: str = "x") -> Fault:
    return Fault(device=DeviceID(name), source="s", code=code, reason="r")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(clock: Clock) -> InventoryStore:
    return InventoryStore(clock)


async def test_each_vendor_replaces_its_own_devices_only(store: InventoryStore) -> None:
    store.set_devices("one", [device("b"), device("a")])
    store.set_devices("two", [device("c", "two")])
    store.set_devices("one", [device("a")])
    assert list(store.current.devices) == ["a", "c"]


async def test_equal_content_makes_no_generation(store: InventoryStore) -> None:
    store.set_devices("one", [device("a")])
    store.set_faults("x", [fault("a")])
    store.set_status(VendorStatus(name="one"))
    generation = store.current.generation
    store.set_devices("one", [device("a")])
    store.set_faults("x", [fault("a")])
    store.set_status(VendorStatus(name="one"))
    assert store.current.generation == generation == 3


async def test_a_standing_fault_keeps_its_age_and_a_new_one_is_young(
    store: InventoryStore, clock: Clock
) -> None:
    store.set_faults("x", [fault("a")])
    clock.now = 200.0
    store.set_faults("x", [fault("a"), fault("a", "y")])
    assert {f.code: f.since for f in store.current.faults[DeviceID("a")]} == {"x": 100, "y": 200}


async def test_a_reporter_takes_back_its_own_faults_only(store: InventoryStore) -> None:
    store.set_faults("x", [fault("a", "x")])
    store.set_faults("y", [fault("a", "y")])
    store.set_faults("x", [])
    assert [f.code for f in store.current.faults[DeviceID("a")]] == ["y"]


@given(st.lists(st.sampled_from(["a", "b", "c"]), unique=True))
def test_the_inventory_is_sorted_whatever_the_order(names: list[str]) -> None:
    async def check() -> None:
        store = InventoryStore(time.time)
        store.set_devices("one", map(device, names))
        assert list(store.current.devices) == sorted(names)

    asyncio.run(check())
