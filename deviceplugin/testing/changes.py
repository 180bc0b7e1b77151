"""Waiting for the stub's state to change, without polling. No state of the kubelet lives here."""

import asyncio
from collections.abc import Callable


class Changes:
    """Wakes every waiter after each change; a waiter tests its own predicate again."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Wake all waiters; call it after the state has changed."""
        changed, self._next = self._next, asyncio.Event()
        changed.set()

    async def until(self, predicate: Callable[[], object]) -> None:
        """Return once the predicate is true; it is tested now and after each change."""
        while not predicate():
            await self._next.wait()
