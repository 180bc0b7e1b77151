"""Guarded tasks: the one place that catches every exception, tells it and tries again."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

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
        except Exception as error:
            failed(name)
            log.exception("task_failed", task=name, error=str(error), retry_s=pause_s)
        await asyncio.sleep(pause_s)
