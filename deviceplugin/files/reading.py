"""The one way by which files are read: regular ones, without waiting, no more than is asked for."""

import errno
import os
import stat
from pathlib import Path

from deviceplugin.files.below import open_below

_PART_BYTES = 1 << 16
_ATTRIBUTE_BYTES = 4096
_KINDS = (
    (stat.S_ISREG, "a regular file"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class IrregularFileError(OSError):
    """Something is there that is not a regular file; `kind` says what it is."""

    def __init__(self, path: str, kind: str) -> None:
        self.kind = kind
        super().__init__(errno.EINVAL, f"it is {kind}, not a regular file", path)


class ForeignFileError(PermissionError):
    """A file of ours belongs to, or can be written by, somebody else."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(errno.EPERM, problem, path)


def read_regular(path: str | Path, size: int, root: str = "", *, attribute: bool = False) -> bytes:
    """The first `size` bytes of the file that `path` leads to, below `root` where that is given.

    Of an `attribute` in sysfs one read gives all, at most a page (kernel,
    Documentation/filesystems/sysfs.rst), so its end is not asked for. Raises OSError,
    IrregularFileError for a pipe, a device and whatever else is not a file.
    """
    descriptor = open_regular(path, root)
    return _read(descriptor, size, enough=_ATTRIBUTE_BYTES if attribute else 0)


def open_regular(path: str | Path, root: str = "", flags: int = 0) -> int:
    """A descriptor to read the file that `path` leads to, below `root` where that is given.

    Without waiting for the other end of a pipe, and without becoming a terminal's owner. Raises
    OSError, IrregularFileError for what is not a file.
    """
    path, flags = str(path), flags | os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = open_below(root, path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and flags & os.O_NOFOLLOW:
            raise IrregularFileError(path, "a link") from error
        if error.errno == errno.ENXIO and _is_socket(root, path):
            raise IrregularFileError(path, "a socket") from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise IrregularFileError(path, kind_of(mode))
    return descriptor


def read_own(path: str | Path, size: int) -> bytes:
    """The first `size` bytes of a file that this process wrote itself, at some time.

    Raises OSError, ForeignFileError where others can have written it; a link is not followed.
    """
    descriptor = open_regular(path, flags=os.O_NOFOLLOW)
    problem = foreign_problem(os.fstat(descriptor))
    if problem:
        os.close(descriptor)
        raise ForeignFileError(str(path), problem)
    return _read(descriptor, size)


def foreign_problem(status: os.stat_result) -> str | None:
    """Why a file or a directory is not ours alone to write, None where it is."""
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, not to {os.geteuid()}"
    if open_to_others(status):
        return f"its mode {stat.S_IMODE(status.st_mode):04o} lets others write it"
    return None


def open_to_others(status: os.stat_result) -> bool:
    """Whether its mode lets others than its user, or root's group, write it."""
    return bool(status.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0)))


def kind_of(mode: int) -> str:
    """What something is that is not a regular file, in words."""
    return next((text for is_one, text in _KINDS if is_one(mode)), "something else")


def _is_socket(root: str, path: str) -> bool:
    """A device without its driver cannot be opened for the same reason."""
    try:
        descriptor = open_below(root, path, os.O_PATH)
    except OSError:
        return False
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _read(descriptor: int, size: int, enough: int = 0) -> bytes:
    """By descriptor, which takes half the time of a file object: a node of 63 partitions has 700
    files at every look. A first part of less than `enough` bytes is all."""
    try:
        content = os.read(descriptor, min(_PART_BYTES, size))
        if len(content) in (0, size) or len(content) < enough:
            return content
        parts = [content]
        left = size - len(content)
        while left > 0 and (part := os.read(descriptor, min(_PART_BYTES, left))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
