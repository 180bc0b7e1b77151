"""The daemon: starts its parts, asks them, reloads them and ends them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypeVar

from deviceplugin.config.config import Config
from deviceplugin.metrics.http import loop_alive, pages_of
from deviceplugin.metrics.registry import Registry
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.part import Operation, Page, Part

T = TypeVar("T")


class Tables:
    """What the parts give to others: series, operations of the control socket, pages."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.operations: dict[str, Operation] = {}
        self.routes: dict[str, Page] = {}

    def take(self, part: Part[Config]) -> None:
        """Add those of `part`; raises ValueError for a name that another part has taken."""
        self.registry.register_all(part.collectors())
        _add(self.operations, part.operations())
        _add(self.routes, part.routes())


def _add(table: dict[str, T], more: Mapping[str, T]) -> None:
    if taken := table.keys() & more.keys():
        raise ValueError(f"two parts of the daemon have {', '.join(sorted(taken))}")
    table.update(more)


class Daemon:
    """Serves by its parts until cancelled; made on the loop.

    Their order is what they rely on: a part starts after the ones before it have started, ends
    before they end, and is reloaded after them; the first that has a problem says why the daemon
    is not ready.
    """

    def __init__(self, parts: Sequence[Part[Config]], tables: Tables, keeper: Keeper) -> None:
        self.parts, self._keeper = tuple(parts), keeper
        alive = partial(loop_alive, asyncio.get_running_loop())
        tables.routes |= pages_of(tables.registry, alive, self.problem, self.remarks)
        for part in self.parts:
            tables.take(part)

    async def run(self) -> None:
        """Start one part after the other, then serve; ends when cancelled."""
        async with AsyncExitStack() as stack:
            for part in self.parts:
                await stack.enter_async_context(self._running(part))
            await asyncio.Future()

    @asynccontextmanager
    async def _running(self, part: Part[Config]) -> AsyncIterator[None]:
        keeper = self._keeper.another()
        async with part.serving():
            for name, once in part.tasks().items():
                keeper.start(name, once)
            try:
                yield
            finally:
                await keeper.end()

    def problem(self) -> str:
        """Why the daemon is not ready, empty when it is; from any thread."""
        return next((text for part in self.parts if (text := part.problem())), "")

    def remarks(self) -> Sequence[str]:
        """What who asks a daemon that is ready should know; from any thread."""
        return [text for part in self.parts if (text := part.remark())]


async def use_all(parts: Sequence[Part[Config]], config: Config) -> None:
    """Serve by another configuration, without an end of any stream; returns once it is in force.

    Raises ConfigError with everything as it was.
    """
    for part in parts:
        part.check(config)
    async with AsyncExitStack() as stack:  # one that fails keeps no other from following
        for part in reversed(parts):
            stack.push_async_callback(part.use, config)
