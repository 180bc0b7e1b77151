"""When the files of the configuration changed; nothing about what is in them.

Events of inotify say when to look, the files' state says whether anything changed. A look every
few seconds makes up for file systems without events and for nodes whose inotify is used up.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import structlog
from asyncinotify import Inotify, Mask

from deviceplugin.config_source import Source, State, read_directories, read_state

log = structlog.get_logger()

POLL_S = 5.0
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
    """The next state that lasts."""
    while True:
        directories = await asyncio.to_thread(read_directories, path)
        with _signs(directories) as sign:  # set up before the look: nothing is lost between
            while True:
                state = await asyncio.to_thread(read_state, path)
                if state != seen:
                    return await _settled(path, state)
                # What is watched stays so while nothing happens: the kernel takes 10 ms to end it.
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
    """Something that waits for a sign of change in one of the directories, POLL_S at most, and
    says whether there was one."""
    try:
        inotify = Inotify()
    except OSError as error:
        log.debug("inotify_unavailable", error=str(error))
        yield _pause
        return
    with inotify:
        for directory in directories:
            with contextlib.suppress(OSError):  # gone, or no watches left: there is the look
                inotify.add_watch(directory, _EVENTS)
        yield partial(_event, inotify)


async def _pause() -> bool:
    """True, so that events are tried to be had again."""
    await asyncio.sleep(POLL_S)
    return True


async def _event(inotify: Inotify) -> bool:
    happened = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(POLL_S):
            await inotify.get()
            happened = True
            await asyncio.sleep(SETTLE_S)  # a busy directory is not looked at without end
    return happened
