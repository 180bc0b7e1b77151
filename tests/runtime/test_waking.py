"""What is due is waited for, unless somebody wants it earlier."""

import asyncio

from deviceplugin.runtime.waking import woken


async def test_an_event_ends_the_wait_and_is_cleared() -> None:
    event = asyncio.Event()
    waiting = asyncio.ensure_future(woken(event, None))
    await asyncio.sleep(0)
    event.set()
    assert await waiting
    assert not event.is_set()


async def test_without_one_the_time_ends_it() -> None:
    event = asyncio.Event()
    assert not await woken(event, 0.0)
    assert not await woken(event, -1.0)


async def test_an_event_that_came_before_ends_the_wait_at_once() -> None:
    event = asyncio.Event()
    event.set()
    assert await woken(event, None)
