"""Opens what lies below a directory, as a process opens it whose root that directory is.

Absolute links begin at the directory and `..` stays below it. The kernel does that by openat2
(Linux 5.6); where it or a seccomp filter has no such call, it is done name by name.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from functools import cache
from typing import Any

MAX_LINKS = 40  # the kernel's own limit
_OPENAT2 = 437  # of all architectures that Python and a container have here (asm-generic)
_NO_MAGICLINKS, _IN_ROOT = 0x02, 0x10  # linux/openat2.h
_TRIES = 5  # EAGAIN: a directory on the way was moved meanwhile
# ENOSYS is an old kernel, EPERM a seccomp filter that does not know the call (man 2 seccomp).
_WITHOUT = frozenset({errno.ENOSYS, errno.EPERM, errno.EAGAIN})


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_below(root: str, path: str, flags: int) -> int:
    """A descriptor of `path` below `root`; raises OSError. Nothing is created.

    With the root "/" or "" it is a plain open.
    """
    if root in ("", "/"):
        return os.open(path, flags | os.O_CLOEXEC)
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            return _by_kernel(top, path, flags | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _WITHOUT:
                raise
        return open_by_name(top, path, flags | os.O_CLOEXEC)
    finally:
        os.close(top)


def _by_kernel(top: int, path: str, flags: int) -> int:
    call, (how, size), name = _openat2(), _how(flags), os.fsencode(path)
    for _ in range(_TRIES):
        found: int = call(_OPENAT2, top, name, how, size)
        if found >= 0:
            return found
        if ctypes.get_errno() != errno.EAGAIN:
            break
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)


@cache
def _openat2() -> Callable[..., int]:
    """The C library has no function of its own for it."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.argtypes = (
        *(ctypes.c_long, ctypes.c_long, ctypes.c_char_p),
        *(ctypes.c_void_p, ctypes.c_size_t),
    )
    call.restype = ctypes.c_long
    return call


@cache
def _how(flags: int) -> tuple[Any, int]:  # Any: what ctypes passes by reference
    """Made once for each of the few sets of flags: it takes longer than the call."""
    how = _How(flags, 0, _IN_ROOT | _NO_MAGICLINKS)
    return ctypes.pointer(how), ctypes.sizeof(how)


def open_by_name(top: int, path: str, flags: int) -> int:
    """As `open_below`, without openat2: every name is opened in the directory before it."""
    walk = Walk(top)
    try:
        return walk.open(path, flags)
    finally:
        walk.close()


class Walk:
    """Where a walk is: the directories from the top on, each held open. `seen` is told of each name
    on the way, with its path from the top and what it is itself."""

    def __init__(self, top: int, seen: Callable[[str, os.stat_result], None] | None = None) -> None:
        self._held = [os.dup(top)]
        self._names: list[str] = []
        self._links = 0
        self._seen = seen

    def open(self, path: str, flags: int) -> int:
        """A descriptor of `path`; raises OSError, and whatever `seen` raises."""
        left = path.split("/")[::-1]
        while left:
            name = left.pop()
            if name in ("", "."):
                continue
            if name == "..":
                self._up()
                continue
            last = not any(part not in ("", ".") for part in left)
            target = self._target(name, follow=not (last and flags & os.O_NOFOLLOW))
            if target is not None:
                self._restart(target)
                left += target.split("/")[::-1]
            elif last:
                return os.open(name, flags | os.O_NOFOLLOW, dir_fd=self._held[-1])
            else:
                self._down(name)
        return os.open(".", flags, dir_fd=self._held[-1])

    def close(self) -> None:
        """Let the directories go."""
        while self._held:
            os.close(self._held.pop())

    def _target(self, name: str, *, follow: bool) -> str | None:
        """Where the link `name` leads, None where it is none or is not to be followed."""
        status = os.stat(name, dir_fd=self._held[-1], follow_symlinks=False)
        if self._seen:
            self._seen("/" + "/".join((*self._names, name)), status)
        if not follow or not stat.S_ISLNK(status.st_mode):
            return None
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        return os.readlink(name, dir_fd=self._held[-1])

    def _restart(self, target: str) -> None:
        while target.startswith("/") and self._names:
            self._up()

    def _down(self, name: str) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._held.append(os.open(name, flags, dir_fd=self._held[-1]))
        self._names.append(name)

    def _up(self) -> None:
        if self._names:
            os.close(self._held.pop())
            self._names.pop()
