"""The files of the log, and the end of the one that is written; blocks."""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from deviceplugin.audit.record import MAX_LINE, Link, Record, digest_of, read_line
from deviceplugin.files.reading import read_own
from deviceplugin.runtime.files import write_atomically

DIRECTORY = "audit"  # in the state directory
HEAD = "head.json"
SEALED = "sealed"
_NAME = re.compile(r"audit-([0-9]{12})-([0-9]{4}-[0-9]{2}-[0-9]{2})\.jsonl")
_TAIL = 4 * MAX_LINE


class Segment(Struct, frozen=True, order=True):
    """A file, by the number of its first record and the day on which it was begun: the numbers
    order files whatever the clock did."""

    first: int
    day: str
    path: Path

    @property
    def ends_at(self) -> float:
        """When its day was over (Unix seconds)."""
        return datetime.fromisoformat(self.day).replace(tzinfo=UTC).timestamp() + 86400


class Tail(Struct, frozen=True):
    """The last whole record of a file (None: there is none), its hash, and the bytes behind it."""

    record: Record | None
    digest: str
    rest: bytes


def new_segment(directory: Path, first: int, day: str) -> Segment:
    """The file that begins with record `first`."""
    return Segment(first, day, directory / f"audit-{first:012d}-{day}.jsonl")


def segments_of(directory: Path) -> list[Segment]:
    """All files, the oldest first; raises OSError."""
    found = []
    for path in directory.iterdir():
        if (match := _NAME.fullmatch(path.name)) and _is_day(match[2]):
            found.append(Segment(int(match[1]), match[2], path))
    return sorted(found)


def _is_day(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def read_tail(path: Path) -> Tail:
    """The end of a file; raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - _TAIL))
        block = file.read(_TAIL)
    if start:
        block = block[block.find(b"\n") + 1 :]
    rest = b""
    lines = block.splitlines(keepends=True)
    for line in reversed(lines):
        whole = line.endswith(b"\n")
        record = read_line(line[:-1]) if whole else None
        if record is not None:
            return Tail(record, digest_of(line[:-1]), rest)
        rest = line + rest
    return Tail(None, "", rest)


def read_lines(path: Path) -> Iterator[bytes]:
    """Each line with its end; one that is longer than any of ours comes in pieces."""
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE + 2):
            yield line


def read_head(directory: Path) -> Link | None:
    """How far the log had come when that was last written down, None where nothing says so."""
    try:
        return msgspec.json.decode(read_own(directory / HEAD, 1 << 12), type=Link)
    except (OSError, msgspec.MsgspecError):
        return None


def write_head(directory: Path, head: Link) -> None:
    """Raises OSError."""
    write_atomically(directory / HEAD, msgspec.json.encode(head), 0o640)
