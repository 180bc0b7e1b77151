"""Background work that is kept going: a failure is logged, counted and tried again."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from deviceplugin.errors import DevicePluginError

log = structlog.get_logger()


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
