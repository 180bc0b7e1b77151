"""One daemon per node: a file lock that the second one waits for."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from deviceplugin.files.reading import ForeignFileError, foreign_problem
from deviceplugin.runtime.files import PRIVATE, trusted_directory

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


def state_problem(state_dir: Path) -> str:
    """Why others can write what we remember, empty where they cannot; blocking."""
    try:
        trusted_directory(state_dir, PRIVATE)
    except ForeignFileError as error:
        return f"{error.filename}: {error.strerror}"
    except OSError:  # it cannot be written at all: told by those who write
        return ""
    return ""


def _open(state_dir: Path) -> int:
    trusted_directory(state_dir, PRIVATE)
    path = state_dir / "lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    if problem := foreign_problem(os.fstat(descriptor)):
        os.close(descriptor)
        raise ForeignFileError(str(path), problem)
    return descriptor


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
