"""Programs that run beside us as our children: where their output goes, and what they leave behind.

A command that prints something and ends is in `commands.py`.

A program outlives us where we are killed, so its output goes to a file of its own: a pipe of ours
would end it with the first line that it writes then.
"""

import asyncio
import ctypes
import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

from deviceplugin.names import one_line

MAX_OUTPUT_BYTES = 1 << 20  # of the file, and as much of the one before it
_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LINE_BYTES = 400
_LOOK_S = 0.02
_PR_SET_CHILD_SUBREAPER = 36


def open_output(path: Path) -> int:
    """The file open for a child to add its output to it; what earlier children left there stays
    beside it as `.old`, once it is large. Raises OSError."""
    if _size(path) > MAX_OUTPUT_BYTES // 2:
        os.replace(path, path.with_name(f"{path.name}.old"))
    descriptor = os.open(path, _OPEN, 0o640)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return descriptor


def bound_output(path: Path) -> None:
    """Empty a file that has become too large; whoever adds to it goes on at its new end."""
    with suppress(OSError):
        if _size(path) > MAX_OUTPUT_BYTES:
            os.truncate(path, 0)


def last_line(path: Path) -> str:
    """The last line of the output, as it can be shown; empty where there is none."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, _size(path) - _LINE_BYTES))
        lines = file.read(_LINE_BYTES).decode("utf-8", "replace").splitlines()
        return one_line(next((line for line in reversed(lines) if line.strip()), ""))
    return ""


def adopt_orphans() -> None:
    """Have processes that a child of ours leaves become our children, so that we can end them."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def end_group(group: int, patience_s: float) -> None:
    """End and reap what is left of the process group of a child that has ended.

    Asked first, made to end after `patience_s`; one that the kernel does not let go of by then is
    left alone after as long again.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGKILL):
        until_s = loop.time() + patience_s
        if not _signalled(group, number):
            return
        while loop.time() < until_s:
            _reap(group)
            if not _signalled(group, 0):
                return
            await asyncio.sleep(_LOOK_S)


def _signalled(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except OSError:  # nobody is left, or nobody of ours
        return False
    return True


def _reap(group: int) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG) != (0, 0):
            pass


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
