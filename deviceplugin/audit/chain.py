"""The log as it is written: lines behind lines, files sealed, files past their time removed.

It blocks, and belongs to one thread. Whatever raises OSError leaves the log as it was, closed; the
next call opens it again.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from deviceplugin.audit.record import Event, Link, day_of, digest_of, line_of
from deviceplugin.audit.segments import (
    SEALED,
    Segment,
    Tail,
    new_segment,
    read_head,
    read_tail,
    segments_of,
    write_head,
)
from deviceplugin.runtime.files import own_directory

log = structlog.get_logger()

SEGMENT_BYTES = 16 << 20
SPARE_BYTES = 64 << 20  # of the disk, for whoever else writes there
MOST_EXPIRED = 2  # at once: a clock that jumps ahead costs no more
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Chain:
    """The log in `directory`; `source` is what its records say they come from."""

    def __init__(
        self,
        directory: Path,
        source: str,
        segment_bytes: int = SEGMENT_BYTES,
        spare_bytes: int = SPARE_BYTES,
    ) -> None:
        self.directory, self._source = directory, source
        self._segment_bytes, self.spare_bytes = segment_bytes, spare_bytes
        self.retention_s = float("inf")
        self._file: int | None = None
        self._segment: Segment | None = None
        self._size, self._others = 0, 0
        self.link = self._synced = Link()

    @property
    def is_synced(self) -> bool:
        """Whether all that was written outlives a loss of power."""
        return self.link == self._synced

    @property
    def is_open(self) -> bool:
        """Whether records can be added."""
        return self._file is not None

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return self._size + self._others

    def append(self, events: Sequence[Event]) -> None:
        """Write these records, all of them or none but for those before the end of a file."""
        waiting: list[Event] = []
        for event in events:
            if self._is_due(event.at):
                self._put(waiting)
                waiting = []
                self.seal(event.at)
            waiting.append(event)
        self._put(waiting)

    def sync(self) -> None:
        """What was written outlives a loss of power, and is known to have been there."""
        if self._file is None or self._segment is None:
            return
        if not _is_at(self._segment.path, self._file):
            self.close()
            raise OSError(errno.ENOENT, "the file that is written was removed")
        if not self.is_synced:
            os.fsync(self._file)
            write_head(self.directory, self.link)
            self._synced = self.link

    def open(self, now: float) -> None:
        """Go on where the log ends; a line that was not finished is closed and said to be so."""
        own_directory(self.directory)
        segments, head = segments_of(self.directory), read_head(self.directory)
        tails = [read_tail(one.path) for one in reversed(segments[-2:])]
        known = next((tail for tail in tails if tail.record), Tail(None, "", b""))
        self.link = _link_of(known)
        problem = _problem(self.link, head)
        if head is not None and head.sequence > self.link.sequence:  # no number is used twice
            self.link = Link(head.sequence, self.link.digest)
        self._others = sum(one.path.stat().st_size for one in segments)
        self._size = 0
        is_sealed = bool(tails and tails[0].record and tails[0].record.kind == SEALED)
        if segments and (not is_sealed or tails[0].rest):
            self._others -= segments[-1].path.stat().st_size
            self._begin(segments[-1])
        else:
            self._begin(new_segment(self.directory, self.link.sequence + 1, day_of(now)))
        self._close_rest(tails[0].rest if tails else b"", now)
        if problem:
            log.error("audit_chain_broken", reason=problem)
            self._put([Event(kind="broken", at=now, data={"reason": problem})])

    def keep_time(self, now: float) -> None:
        """Seal what is of a day that is over."""
        if self._is_due(now):
            self.seal(now)

    def seal(self, now: float) -> None:
        """End the file with a record that says so, and begin the next one."""
        segment = self._segment
        if segment is None or self._file is None:
            return
        records = self.link.sequence + 1 - segment.first
        data = {"file": segment.path.name, "records": records}
        self._put([Event(kind=SEALED, at=now, data=data)])
        self.sync()
        os.fchmod(self._file, 0o440)
        log.info("audit_sealed", file=segment.path.name, records=records, hash=self.link.digest)
        self._others += self._size
        self.close()
        self._begin(new_segment(self.directory, self.link.sequence + 1, day_of(now)))
        self.expire(now)

    def expire(self, now: float) -> None:
        """Remove files that are past their time: first it is recorded, then done."""
        old = [
            one
            for one in segments_of(self.directory)
            if one != self._segment and one.ends_at + self.retention_s <= now
        ]
        for one in old[:MOST_EXPIRED]:
            data = {"file": one.path.name, "last": read_tail(one.path).digest}
            self._put([Event(kind="expired", at=now, data=data)])
            self.sync()
            self._others -= one.path.stat().st_size
            one.path.unlink()

    def close(self) -> None:
        """Until the next call of `open`."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _is_due(self, now: float) -> bool:
        segment = self._segment
        if segment is None or self.link.sequence < segment.first:
            return False
        return self._size >= self._segment_bytes or day_of(now) > segment.day

    def _begin(self, segment: Segment) -> None:
        self._file = os.open(segment.path, _APPEND, 0o640)
        self._segment, self._size = segment, os.fstat(self._file).st_size

    def _close_rest(self, rest: bytes, now: float) -> None:
        if not rest:
            return
        if not rest.endswith(b"\n"):
            self._write(b"\n")
            rest += b"\n"
        data = {"bytes": len(rest), "sha256": digest_of(rest)}
        self._put([Event(kind="recovered", at=now, data=data)])

    def _put(self, events: Sequence[Event]) -> None:
        link, lines = self.link, []
        for event in events:
            line = line_of(event, self._source, link)
            link = Link(link.sequence + 1, digest_of(line))
            lines.append(line + b"\n")
        if lines:
            self._write(b"".join(lines))
            self.link = link

    def _write(self, content: bytes) -> None:
        """Whole, or not at all where the disk lets a part be taken back."""
        if self._file is None:
            raise OSError(errno.EBADF, "the log is closed")
        try:
            self._check_space(len(content))
            left = memoryview(content)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            self.close()
            raise
        self._size += len(content)

    def _check_space(self, more: int) -> None:
        disk = os.statvfs(self.directory)
        if disk.f_bavail * disk.f_frsize < self.spare_bytes + more:
            text = f"less than {self.spare_bytes >> 20} MiB of the disk are free"
            raise OSError(errno.ENOSPC, text)


def _link_of(tail: Tail) -> Link:
    return Link(int(tail.record.sequence), tail.digest) if tail.record else Link()


def _problem(link: Link, head: Link | None) -> str:
    """Why the files are not those that were written."""
    if head is None or link.sequence > head.sequence or link == head:
        return ""
    if link.sequence == head.sequence:
        return f"record {head.sequence} is not the one that was written"
    return f"the log ends at record {link.sequence}, it was written up to {head.sequence}"


def _is_at(path: Path, file: int) -> bool:
    try:
        found, ours = path.lstat(), os.fstat(file)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)
