"""One daemon per node: a file lock that the second one waits for."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

log = structlog.get_logger()

POLL_S = 0.2


@asynccontextmanager
async def only_daemon(state_dir: Path) -> AsyncIterator[None]:
    """Hold the lock of `state_dir`, waiting for whoever has it.

    A directory that cannot be written costs the protection, not the node's devices.
    """
    try:
        descriptor = await asyncio.to_thread(_open, state_dir)
    except OSError as error:
        log.warning("no_lock", state_dir=str(state_dir), error=str(error))
        yield
        return
    try:
        await _wait(descriptor, state_dir)
        yield
    finally:
        os.close(descriptor)


def _open(state_dir: Path) -> int:
    state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(state_dir / "lock", flags, 0o600)


async def _wait(descriptor: int, state_dir: Path) -> None:
    told = False
    while not _locked(descriptor):
        if not told:
            log.warning("waiting_for_other_daemon", lock=str(state_dir / "lock"))
            told = True
        await asyncio.sleep(POLL_S)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
