"""Whether the lines of a log are those that were written: each names the hash of the one before."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct, field

from deviceplugin.audit.record import FIRST, Link, Record, digest_of, read_line
from deviceplugin.audit.segments import read_head, read_lines, segments_of

MOST_PROBLEMS = 1000


class Report(Struct):
    """What was found: `lost` are records that the log itself says it could not take."""

    records: int = 0
    files: int = 0
    lost: int = 0
    last: Link = Link()
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Rest:
    """Bytes that are no records, until one names them."""

    def __init__(self) -> None:
        self.size, self._hash = 0, hashlib.sha256()

    def add(self, line: bytes) -> None:
        self.size += len(line)
        self._hash.update(line)

    def is_named_by(self, record: Record) -> bool:
        named = record.data.get("bytes"), record.data.get("sha256")
        return record.kind == "recovered" and named == (self.size, self._hash.hexdigest())


class Check:
    """Takes one line after the other; `head` is how far the log had come when that was last
    written down, `anchor` the hash of a line that was noted elsewhere."""

    def __init__(self, head: Link | None = None, anchor: str = "") -> None:
        self.report = Report()
        self._head, self._anchor = head, anchor
        self._before: Link | None = None
        self._start, self._rest = FIRST, _Rest()
        self._expired: set[object] = set()
        self._anchored = False

    def feed(self, line: bytes, file: str) -> None:
        """The next line, with its end."""
        record = read_line(line[:-1]) if line.endswith(b"\n") else None
        if record is None:
            self._rest.add(line)
            return
        self._check_rest(record, file)
        found = Link(int(record.sequence), digest_of(line[:-1]))
        self._check_link(record, found, file)
        self._take(record, file)
        if self._head and self._head.sequence == found.sequence and self._head != found:
            self._tell(file, f"record {found.sequence} is not the one that was written")
        self._anchored |= found.digest == self._anchor
        self.report.records += 1
        self._before = self.report.last = found

    def end(self, *, whole: bool) -> Report:
        """The report; of a `whole` log it is also asked whether its beginning and its end are
        there."""
        if self._rest.size:
            text = f"{self._rest.size} bytes at the end are no record"
            behind = whole and self._head and self.report.last.sequence >= self._head.sequence
            (self.report.notes if behind else self.report.problems).append(f"{text} (yet)")
        if whole:
            self._check_ends()
        if self._anchor and not self._anchored:
            self.report.problems.append(f"no record has the hash {self._anchor}")
        return self.report

    def _check_rest(self, record: Record, file: str) -> None:
        rest, self._rest = self._rest, _Rest()
        if rest.is_named_by(record):
            self.report.notes.append(f"{file}: a line was not finished when the daemon ended")
        elif rest.size or record.kind == "recovered":
            self._tell(file, f"{rest.size} bytes before record {record.sequence} are no records")

    def _check_link(self, record: Record, found: Link, file: str) -> None:
        before = self._before
        if before is None:
            self._start = record.previoushash
            if self._start == FIRST and found.sequence != 1:
                self._tell(file, f"records 1 to {found.sequence - 1} are missing")
        elif found.sequence != before.sequence + 1:
            self._tell(file, _jump(before.sequence, found.sequence))
        elif record.previoushash != before.digest:
            text = f"record {before.sequence} is not the one that was written"
            self._tell(file, f"{text}: record {found.sequence} names another hash")

    def _take(self, record: Record, file: str) -> None:
        lost = record.data.get("lost")
        if record.kind == "gap" and isinstance(lost, int):
            self.report.lost += lost
        elif record.kind == "broken":
            self._tell(file, f"the daemon found at its start: {record.data.get('reason')}")
        elif record.kind == "expired":
            self._expired.add(record.data.get("last"))

    def _check_ends(self) -> None:
        report, head = self.report, self._head
        if self._start != FIRST and self._start not in self._expired:
            report.problems.append("what was before the first record is missing")
        if head is None:
            report.problems.append("head.json is missing: whether the end is there nobody can say")
        elif head.sequence > report.last.sequence:
            text = f"the log ends at record {report.last.sequence}"
            report.problems.append(f"{text}, it was written up to {head.sequence}")

    def _tell(self, file: str, text: str) -> None:
        if len(self.report.problems) < MOST_PROBLEMS:
            self.report.problems.append(f"{file}: {text}")


def _jump(before: int, found: int) -> str:
    if found > before + 1:
        return f"records {before + 1} to {found - 1} are missing"
    return f"record {found} stands behind record {before}"


def verify_log(directory: Path, anchor: str = "") -> Report:
    """The log of a daemon, which may go on writing; raises OSError."""
    check = Check(read_head(directory), anchor)  # first: the files have at least that
    return _checked(check, [one.path for one in segments_of(directory)], whole=True)


def verify_files(paths: Iterable[Path], anchor: str = "") -> Report:
    """Files that were copied or exported, in their order; raises OSError."""
    return _checked(Check(anchor=anchor), paths, whole=False)


def _checked(check: Check, paths: Iterable[Path], *, whole: bool) -> Report:
    for path in paths:
        try:
            for line in read_lines(path):
                check.feed(line, path.name)
        except FileNotFoundError:
            if not whole:
                raise
            continue  # past its time meanwhile: the chain says whether that was so
        check.report.files += 1
    return check.end(whole=whole)
