"""The inventory store, waiting for values, and guarded work."""

import asyncio
import re
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.errors import CallTimeoutError, LibraryError, VendorError
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, Fault, VendorStatus
from deviceplugin.runtime.guard import start_guarded
from deviceplugin.runtime.keep import keep
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.threads import DriverThread
from tests.rig import WAIT_S


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


async def test_a_slow_reader_skips_to_the_newest() -> None:
    latest = Latest(0)
    seen = []

    async def read() -> None:
        async for value in latest.changes():
            seen.append(value)
            if value == 3:
                return

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    for value in (1, 2, 3):
        latest.set(value)
    await reader
    assert seen == [0, 3]


async def test_waiting_for_a_value_counts_the_present_one() -> None:
    assert await Latest(5).until(lambda value: value > 4) == 5


async def test_a_call_gives_its_result_from_the_vendors_thread() -> None:
    thread = DriverThread("example")
    assert await thread.call(threading.current_thread, WAIT_S) is not threading.main_thread()


async def test_a_call_that_hangs_costs_those_behind_it_no_more_than_their_deadlines() -> None:
    thread, gate = DriverThread("example"), threading.Event()
    for _ in range(3):
        with pytest.raises(CallTimeoutError, match="example: no answer within"):
            await thread.call(gate.wait, 0.02)
    gate.set()
    assert await thread.call(lambda: "answer", WAIT_S) == "answer"


@pytest.mark.parametrize(
    ("raised", "caught"),
    [(LibraryError("call", 15, "lost"), LibraryError), (ValueError("odd"), VendorError)],
)
async def test_whatever_a_vendor_raises_is_a_vendors_error(
    raised: Exception, caught: type[Exception]
) -> None:
    def fail() -> None:
        raise raised

    with pytest.raises(caught, match=re.escape(str(raised))):
        await DriverThread("example").call(fail, WAIT_S)


async def test_a_round_has_an_error_in_the_place_of_a_call_that_fails() -> None:
    def fail() -> str:
        raise ValueError("odd")

    thread = DriverThread("example")
    first, failed, last = await thread.call_each([lambda: "a", fail, lambda: "c"], WAIT_S)
    assert (first, last) == ("a", "c")
    assert isinstance(failed, VendorError)
    assert not thread.busy


async def test_a_round_ends_at_the_first_call_that_hangs() -> None:
    thread, gate = DriverThread("example"), threading.Event()
    made: list[str] = []
    calls: list[Callable[[], object]] = [
        lambda: made.append("a"),
        gate.wait,
        lambda: made.append("c"),
    ]
    first, hung = await thread.call_each(calls, 3)  # time enough for the first
    assert first is None
    assert isinstance(hung, CallTimeoutError)
    assert thread.busy
    gate.set()
    assert await thread.call(lambda: made, WAIT_S) == ["a"]


async def test_the_deadline_of_a_round_is_that_of_each_call() -> None:
    """Ten calls, each much shorter than the deadline, together longer."""
    gate = threading.Event()
    calls = [lambda: gate.wait(0.35)] * 10
    assert await DriverThread("example").call_each(calls, 3) == [False] * 10


async def test_a_kept_task_outlives_its_failures() -> None:
    done = asyncio.Event()
    failures: list[str] = []

    async def once() -> None:
        if len(failures) < 2:
            raise ValueError("again")
        done.set()

    task = asyncio.create_task(keep("task", once, 0.0, failures.append))
    await done.wait()
    task.cancel()
    await asyncio.wait([task])
    assert failures == ["task", "task"]


def test_a_guarded_thread_ends_quietly_with_its_failure() -> None:
    def fail() -> None:
        raise ValueError("odd")

    thread = start_guarded("example", fail)
    thread.join(WAIT_S)
    assert not thread.is_alive()


@given(st.lists(st.sampled_from(["a", "b", "c"]), unique=True))
def test_the_inventory_is_sorted_whatever_the_order(names: list[str]) -> None:
    async def check() -> None:
        store = InventoryStore(time.time)
        store.set_devices("one", map(device, names))
        assert list(store.current.devices) == sorted(names)

    asyncio.run(check())


async def test_a_closed_thread_ends_after_the_calls_that_were_made() -> None:
    thread, gate = DriverThread("example"), threading.Event()
    worker = await thread.call(threading.current_thread, WAIT_S)
    slow = asyncio.create_task(thread.call(gate.wait, WAIT_S))
    await asyncio.sleep(0)
    thread.close()
    late = asyncio.create_task(thread.call(threading.current_thread, WAIT_S))
    gate.set()
    assert await slow
    other = await late
    for ended in (worker, other):
        await asyncio.to_thread(ended.join, WAIT_S)
        assert not ended.is_alive()
