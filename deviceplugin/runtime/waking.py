"""Waiting until something is due, or until somebody wants it earlier."""

import asyncio
import contextlib


async def woken(event: asyncio.Event, wait_s: float | None) -> bool:
    """Whether the event came within the time, for ever without one; it is cleared then."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await event.wait()
        event.clear()
        return True
    return False
