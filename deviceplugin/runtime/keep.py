"""Background work that is kept going: a failure is logged, counted and tried again."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from deviceplugin.errors import DevicePluginError

log = structlog.get_logger()

RETRY_S = 5.0
STOP_S = 1.5  # for tasks to end; children end in it


async def keep(
    name: str,
    once: Callable[[], Awaitable[None]],
    pause_s: float,
    failed: Callable[[str], None] = lambda name: None,
) -> None:
    """Run `once` for ever, `pause_s` seconds apart; a failure is logged, counted and outlived."""
    while True:
        try:
            await once()
        except DevicePluginError as error:
            failed(name)
            log.warning("task_failed", task=name, error=str(error), retry_s=pause_s)
        except Exception as error:
            failed(name)
            log.exception("task_failed", task=name, error=str(error), retry_s=pause_s)
        await asyncio.sleep(pause_s)


class Keeper:
    """Tasks that are kept going and end together; `failed` is given the name of each failure."""

    def __init__(self, failed: Callable[[str], None] = lambda name: None) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def another(self) -> "Keeper":
        """An empty one that counts failures with this one."""
        return Keeper(self._failed)

    def start(self, name: str, once: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
        """Keep `once` going, with a pause of RETRY_S, until it is cancelled."""
        task = asyncio.create_task(keep(name, once, RETRY_S, self._failed), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Let every task end."""
        for task in self._tasks:
            task.cancel()

    async def end(self, within_s: float | None = STOP_S) -> None:
        """Let every task end, and wait for that so many seconds at most; None has no limit."""
        self.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
