"""A vendor's thread: results, errors, deadlines, and its end."""

import asyncio
import re
import threading
from collections.abc import Callable

import pytest

from deviceplugin.errors import CallTimeoutError, LibraryError, VendorError
from deviceplugin.runtime.threads import DriverThread
from tests.rig import WAIT_S


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
