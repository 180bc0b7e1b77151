"""Whether a program or a library can be somebody else's than root's.

What is run or loaded as root must be as hard to replace as root's own files: every directory and
link on the way to it counts, not the file alone.
"""

import errno
import os
import stat

from deviceplugin.files.below import Walk
from deviceplugin.files.reading import open_to_others

# Where others than root put files by design, whatever these belong to.
OPEN_PLACES = ("dev", "proc", "sys")


class UntrustedError(OSError):
    """Others can replace, or have put there, what a path leads to."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(errno.EPERM, problem, path)


def check_trusted(root: str, path: str) -> None:
    """Raise OSError where nothing is at `path` below `root`, UntrustedError where somebody else
    than root (or our own user) can have put it there or can replace it."""
    top = os.open(root or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    walk = Walk(top, _check)
    os.close(top)
    try:
        os.close(walk.open(path, os.O_PATH))
    finally:
        walk.close()


def _check(place: str, status: os.stat_result) -> None:
    """One name on the way, a link or what it is itself."""
    if place.split("/")[1] in OPEN_PLACES:
        raise UntrustedError(
            place, f"{place} is in /{place.split('/')[1]}, where anybody has files"
        )
    if status.st_uid not in (0, os.geteuid()):
        raise UntrustedError(place, f"{place} belongs to user {status.st_uid}, not to root")
    if not stat.S_ISLNK(status.st_mode) and _replaceable(status):
        mode = stat.S_IMODE(status.st_mode)
        raise UntrustedError(place, f"{place} has mode {mode:04o}, so others can write it")


def _replaceable(status: os.stat_result) -> bool:
    """By others; a sticky directory is not: nobody can replace what root has in it."""
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return False
    return open_to_others(status)
