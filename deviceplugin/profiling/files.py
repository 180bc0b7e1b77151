"""The files of profiles: one an hour, in a folder of ours alone, old ones removed. Blocking.

The folder may lie in /tmp, where anybody has files: it is never followed as a link, and one that
others can write is refused.
"""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

MAX_BYTES = 256 << 20
_HOURS_PART = 8  # of all bytes, what one hour may have
_PATTERN = "profile-%Y%m%dT%H.jsonl"
_NAME = re.compile(r"profile-\d{8}T\d{2}\.jsonl")


class Files:
    """Writes lines; raises OSError where that cannot be done."""

    def __init__(self, folder: Path, retention_s: float, max_bytes: int = MAX_BYTES) -> None:
        self._folder, self._retention_s, self._max_bytes = folder, retention_s, max_bytes
        self._name = ""

    def write(self, lines: Iterable[Mapping[str, Any]], now: float) -> None:
        """Add lines to the file of the hour; at its first one, old files go."""
        text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        name = datetime.fromtimestamp(now, UTC).strftime(_PATTERN)
        folder = _opened(self._folder)
        try:
            if name != self._name:
                self._expire(folder, now)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o600, dir_fd=folder)
            self._name = name
            with os.fdopen(descriptor, "wb") as file:
                if os.fstat(descriptor).st_size + len(text) > self._max_bytes // _HOURS_PART:
                    raise OSError(f"{name} has as many bytes as an hour may have")
                file.write(text)
        finally:
            os.close(folder)

    def _expire(self, folder: int, now: float) -> None:
        """What is older than its time, and the oldest of more than there may be beside the file
        of the hour."""
        size, most = 0, self._max_bytes - self._max_bytes // _HOURS_PART
        for name in sorted(filter(_is_ours, os.listdir(folder)), reverse=True):
            size += os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
            if now - _end(name) > self._retention_s or size > most:
                os.unlink(name, dir_fd=folder)


def _is_ours(name: str) -> bool:
    try:
        return bool(_NAME.fullmatch(name) and datetime.strptime(name, _PATTERN))  # noqa: DTZ007
    except ValueError:  # no day or no hour
        return False


def _end(name: str) -> float:
    """When the hour of a file was over; its own times are whoever's copied it."""
    begin = datetime.strptime(name, _PATTERN).replace(tzinfo=UTC)
    return begin.timestamp() + 3600


def _opened(folder: Path) -> int:
    """The folder, made where it is not there; raises OSError where it is not ours alone."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder, flags)
    about = os.fstat(descriptor)
    if about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        os.close(descriptor)
        raise PermissionError(f"{folder}: others can write it; remove it, or name another folder")
    return descriptor
