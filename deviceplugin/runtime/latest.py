"""The newest value of something and a way to wait for the next one: level, not edge."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """A value with one writer, on the loop; readers that fall behind skip to the newest."""

    def __init__(self, value: T) -> None:
        self.value = value
        self._changed = asyncio.Event()

    def set(self, value: T) -> bool:
        """Replace the value and wake all waiters; an equal value changes nothing."""
        if value == self.value:
            return False
        self.value = value
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return True

    async def changes(self) -> AsyncIterator[T]:
        """The current value at once, then each newest one after a change, for ever."""
        while True:
            value, changed = self.value, self._changed
            yield value
            await changed.wait()

    async def next(self, seen: T) -> T:
        """Wait until the value is another object than `seen`, then give it."""
        while self.value is seen:
            await self._changed.wait()
        return self.value

    async def until(self, wanted: Callable[[T], bool]) -> T:
        """Wait for a value that `wanted` accepts; the current one counts."""
        while not wanted(self.value):
            await self._changed.wait()
        return self.value
