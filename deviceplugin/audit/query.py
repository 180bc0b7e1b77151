"""Records of a log that somebody asks for."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec import Struct

from deviceplugin.audit.record import Record, read_line
from deviceplugin.audit.segments import Segment, read_lines, segments_of

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


class Query(Struct, frozen=True, kw_only=True):
    """What records must have; an empty text asks for nothing. `since` and `until` are times as
    records have them, `kind` is a type or the beginning of one, `pod` may have its namespace."""

    since: str = ""
    until: str = ""
    kind: str = ""
    pod: str = ""
    device: str = ""

    def takes(self, record: Record) -> bool:
        """Whether it asks for this one."""
        if (self.since and record.time < self.since) or (self.until and record.time >= self.until):
            return False
        if self.kind and not f"{record.kind}.".startswith(f"{self.kind}."):
            return False
        if self.pod and not self._is_of_pod(record):
            return False
        return not self.device or self.device in _devices(record)

    def _is_of_pod(self, record: Record) -> bool:
        namespace, slash, name = self.pod.rpartition("/")
        of_pod = record.data.get("pod") == name
        return of_pod and (not slash or record.data.get("namespace") == namespace)

    def may_be_in(self, segment: Segment, following: Segment | None) -> bool:
        """Whether a file can have such records: it begins on its day and ends where the next one
        begins."""
        late = bool(self.until) and segment.day > self.until[:10]
        return not late and not (
            self.since and following is not None and following.day < self.since[:10]
        )


def parse_time(text: str) -> str:
    """A day or a time as records have them; without a zone it is UTC. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(text) from error
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.isoformat(timespec="microseconds")[:-6] + "Z"


def records_of(directory: Path, query: Query) -> Iterator[tuple[Record, bytes]]:
    """The records that `query` asks for, each with its line; raises OSError."""
    segments: Sequence[Segment | None] = [*segments_of(directory), None]
    for segment, following in pairwise(segments):
        if segment is not None and query.may_be_in(segment, following):
            for line in _lines_there(segment.path):
                record = read_line(line[:-1]) if line.endswith(b"\n") else None
                if record is not None and query.takes(record):
                    yield record, line


def _lines_there(path: Path) -> Iterator[bytes]:
    """None of a file that is past its time meanwhile."""
    try:
        yield from read_lines(path)
    except FileNotFoundError:
        return


def _devices(record: Record) -> set[Any]:
    found: set[Any] = {record.subject, record.data.get("device")}
    for key in ("devices", "ids"):
        more = record.data.get(key)
        found.update(one for one in more if isinstance(one, str)) if isinstance(more, list) else ()
    return found
