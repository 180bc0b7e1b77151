"""Notices that the configuration files changed; what is in them is not read here.

inotify says when to check, the fingerprint of the files says whether anything changed. Checks at
intervals cover file systems without events, and nodes that have no inotify instances left.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import structlog

from deviceplugin.config.files import Source, State, read_directories, read_state
from deviceplugin.runtime.inotify import Inotify, Mask

log = structlog.get_logger()

POLL_S = 5.0
POLL_WITH_INOTIFY_S = 30.0
SETTLE_S = 0.2  # a file that is being written changes again within it
_EVENTS = (
    (Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO)
    | (Mask.CLOSE_WRITE | Mask.ATTRIB | Mask.DELETE_SELF | Mask.MOVE_SELF)
    | Mask.ONLYDIR
)


async def watch_files(source: Source, changed: Callable[[], Awaitable[None]]) -> None:
    """Await `changed` after each change since `source` was read; runs until cancelled."""
    seen = source.state
    while True:
        seen = await _next_state(source.path, seen)
        await changed()


async def _next_state(path: Path, seen: State) -> State:
    """The next fingerprint that is stable."""
    while True:
        directories = await asyncio.to_thread(read_directories, path)
        with _signs(directories) as sign:  # set up before the check: no change is missed between
            while True:
                state = await asyncio.to_thread(read_state, path)
                if state != seen:
                    return await _settled(path, state)
                # The watch is kept while nothing happens: the kernel takes 10 ms to end one.
                if await sign() or await asyncio.to_thread(read_directories, path) != directories:
                    break


async def _settled(path: Path, state: State) -> State:
    while True:
        await asyncio.sleep(SETTLE_S)
        following = await asyncio.to_thread(read_state, path)
        if following == state:
            return state
        state = following


@contextlib.contextmanager
def _signs(directories: Iterable[Path]) -> Iterator[Callable[[], Awaitable[bool]]]:
    """A function that waits for a sign of change in one of the directories, or until the next check
    is due, and returns whether there was a sign."""
    try:
        inotify = Inotify()
    except OSError as error:
        log.debug("inotify_unavailable", error=str(error))
        yield _pause
        return
    with inotify:
        watched = [_watched(inotify, directory) for directory in directories]
        yield partial(_event, inotify, POLL_WITH_INOTIFY_S if all(watched) else POLL_S)


def _watched(inotify: Inotify, directory: Path) -> bool:
    try:
        inotify.add_watch(directory, _EVENTS)
    except OSError as error:  # gone, or no watches left
        log.debug("inotify_unavailable", path=str(directory), error=str(error))
        return False
    return True


async def _pause() -> bool:
    """True, so that inotify is tried again."""
    await asyncio.sleep(POLL_S)
    return True


async def _event(inotify: Inotify, wait_s: float) -> bool:
    happened = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await inotify.events()
            happened = True
            await asyncio.sleep(SETTLE_S)  # a busy directory is not checked without pause
    return happened
