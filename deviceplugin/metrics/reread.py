"""Values that are made from small files, and made again when the files change."""

import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.names import one_line

log = structlog.get_logger()

T = TypeVar("T")
MAX_BYTES = 256 * 1024
_Mark = tuple[tuple[int, ...], ...]


class Reread(Generic[T]):
    """The newest good value of `files`; `make` reads them, and raises OSError or ValueError.

    A bad change is logged once and the value from before it stays: a certificate that is being
    replaced costs no reader. Looking costs one stat of each file.
    """

    def __init__(self, what: str, files: Sequence[str], make: Callable[[], T]) -> None:
        self._what, self._files, self._make = what, files, make
        self._lock = threading.Lock()
        self._mark: _Mark | None = None
        self._value: T | None = None
        self._refused = ""

    def value(self) -> T:
        """Raises DevicePluginError where there has been no good one yet."""
        with self._lock:
            mark = tuple(map(_mark_of, self._files))
            if mark != self._mark:
                self._mark = mark
                self._read()
            if self._value is None:
                raise DevicePluginError(self._refused)
            return self._value

    def _read(self) -> None:
        problem = self._problem()
        if problem:
            self._refused = one_line(f"{', '.join(self._files)}: {problem}")
            log.error("metrics_file_refused", what=self._what, reason=self._refused)
        else:
            log.info("metrics_file_read", what=self._what, files=list(self._files))

    def _problem(self) -> str:
        """Make the value; why that cannot be, else nothing."""
        try:
            for path in self._files:
                check_regular(path)
            self._value = self._make()
        except (OSError, ValueError) as error:
            return str(getattr(error, "strerror", None) or error)
        return ""


def check_regular(path: str) -> None:
    """Raise ValueError for what would block or never end; OSError where nothing is there."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
        raise ValueError("a regular file of at most 256 KiB is needed")


def _mark_of(path: str) -> tuple[int, ...]:
    """Another one for another content; a Secret that is mounted is a link to a new file then."""
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
