"""An event loop that outlives single inputs, so that servers need not be made for each of them."""

import asyncio
import atexit
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
DEADLINE_S = 240.0
# gRPC has one queue a process: what is left of the loop of an earlier test comes to ours.
OF_OTHER_LOOPS = "Exception in callback PollerCompletionQueue._handle_events"
_endings: list[Callable[[], Awaitable[object]]] = []


class Complaints(logging.Handler):
    """Errors and tracebacks that libraries log: asyncio, gRPC."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if OF_OTHER_LOOPS not in text:
            self.told.append(f"{record.name}: {text} {record.exc_info or ''}")

    def take(self) -> list[str]:
        taken, self.told = self.told, []
        return taken


@cache
def complaints() -> Complaints:
    handler = Complaints()
    logging.getLogger().addHandler(handler)
    return handler


@cache
def loop() -> asyncio.AbstractEventLoop:
    """Ours; whatever runs on it and complains is heard."""
    made = asyncio.new_event_loop()
    atexit.register(_end)
    complaints()
    return made


def run(work: Coroutine[Any, Any, T]) -> T:
    """To its end, within a deadline, and without a complaint from any library."""

    async def bounded() -> T:
        async with asyncio.timeout(DEADLINE_S):
            return await work

    complaints().take()  # of an input that failed before
    result = loop().run_until_complete(bounded())
    assert complaints().take() == []
    return result


def at_the_end(ending: Callable[[], Awaitable[object]]) -> None:
    """Run it before the loop is closed."""
    _endings.append(ending)


def _end() -> None:
    logging.getLogger().removeHandler(complaints())
    for ending in reversed(_endings):
        loop().run_until_complete(ending())
    loop().close()
