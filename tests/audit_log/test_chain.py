"""The log on the disk: it goes on after every end, is sealed each day, and kept for its time."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deviceplugin.audit.record import FIRST, MAX_LINE, Event, digest_of
from deviceplugin.audit.segments import HEAD, read_lines, segments_of
from deviceplugin.audit.verify import verify_files, verify_log
from tests.audit_log.logs import DAY_S, NOON, chain_in, event, kinds, records, written


def test_each_line_is_a_cloudevent_that_names_the_hash_of_the_one_before(tmp_path: Path) -> None:
    written(tmp_path, 3)
    (segment,) = segments_of(tmp_path)
    before = FIRST
    for number, (line, record) in enumerate(
        zip(read_lines(segment.path), records(tmp_path), strict=True)
    ):
        assert record.previoushash == before
        assert record.sequence == f"{number + 1:012d}"
        assert (record.specversion, record.source) == ("1.0", "/deviceplugin/nodes/node-1")
        assert record.type == "deviceplugin.allocation.granted"
        before = digest_of(line[:-1])
    assert len({record.id for record in records(tmp_path)}) == 3


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    written(tmp_path, 2)
    written(tmp_path, 2)
    report = verify_log(tmp_path)
    assert (report.records, report.files, report.problems, report.notes) == (4, 1, [], [])


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_line_that_was_not_finished_is_closed_and_named(tmp_path: Path, cut: int) -> None:
    chain = written(tmp_path, 2)
    (segment,) = segments_of(tmp_path)
    with segment.path.open("ab") as file:  # killed in the middle of the third
        file.write(next(iter(read_lines(segment.path)))[:cut])
    chain.open(NOON)
    chain.append([event(3)])
    chain.sync()
    report = verify_log(tmp_path)
    assert kinds(tmp_path)[2:] == ["recovered", "allocation.granted"]
    assert report.problems == []
    assert report.notes == [f"{segment.path.name}: a line was not finished when the daemon ended"]


def test_a_file_that_has_no_whole_line_yet_is_gone_on_with(tmp_path: Path) -> None:
    chain = written(tmp_path, 2)
    chain.open(NOON)
    chain.seal(NOON)
    chain.close()
    segments_of(tmp_path)[-1].path.write_bytes(b'{"specver')
    chain.open(NOON)
    chain.append([event(3)])
    chain.sync()
    assert verify_log(tmp_path).problems == []
    assert kinds(tmp_path)[-3:] == ["sealed", "recovered", "allocation.granted"]


def test_each_day_is_sealed_and_the_hash_is_logged(tmp_path: Path) -> None:
    chain = written(tmp_path, 2)
    with capture_logs() as logs:
        chain.open(NOON)
        chain.append([event(3), event(4, NOON + DAY_S)])
        chain.sync()
    first, second = segments_of(tmp_path)
    assert (first.first, second.first) == (1, 5)
    assert first.path.stat().st_mode & 0o777 == 0o440
    (sealed,) = [log for log in logs if log["event"] == "audit_sealed"]
    assert sealed["hash"] == digest_of(list(read_lines(first.path))[-1][:-1])
    assert verify_log(tmp_path, sealed["hash"]).problems == []
    assert verify_log(tmp_path, "0" * 64).problems == [f"no record has the hash {'0' * 64}"]


def test_a_day_without_records_makes_no_file(tmp_path: Path) -> None:
    chain = written(tmp_path, 1)
    chain.open(NOON)
    for day in range(1, 5):
        chain.keep_time(NOON + day * DAY_S)
    assert len(segments_of(tmp_path)) == 2


def test_a_clock_that_goes_back_ends_no_file(tmp_path: Path) -> None:
    chain = written(tmp_path, 1)
    chain.open(NOON)
    chain.append([event(2, NOON - 3 * DAY_S), event(3)])
    chain.sync()
    assert len(segments_of(tmp_path)) == 1
    assert verify_log(tmp_path).problems == []


def test_a_large_file_is_sealed(tmp_path: Path) -> None:
    chain = written(tmp_path, 20, segment_bytes=2000)
    assert len(segments_of(tmp_path)) > 3
    chain.open(NOON)
    sizes = [one.path.stat().st_size for one in segments_of(tmp_path)]
    assert chain.size_bytes == sum(sizes)
    assert verify_log(tmp_path).problems == []


def test_files_past_their_time_are_removed_and_the_log_stays_whole(tmp_path: Path) -> None:
    chain = written(tmp_path, 1)
    chain.retention_s = 3 * DAY_S
    chain.open(NOON)
    for day in range(10):
        chain.append([event(day, NOON + day * DAY_S)])
    chain.sync()
    report = verify_log(tmp_path)
    assert segments_of(tmp_path)[0].day == "2024-10-10"
    assert "expired" in kinds(tmp_path)
    assert report.problems == []
    segments_of(tmp_path)[0].path.unlink()
    assert verify_log(tmp_path).problems == ["what was before the first record is missing"]


def test_a_clock_that_jumps_ahead_costs_two_files(tmp_path: Path) -> None:
    chain = written(tmp_path, 1)
    chain.open(NOON)
    for day in range(10):
        chain.append([event(day, NOON + day * DAY_S)])
    chain.retention_s = 30 * DAY_S
    chain.append([event(11, NOON + 5000 * DAY_S)])
    assert len(segments_of(tmp_path)) == 11 - 2
    chain.sync()
    assert verify_log(tmp_path).problems == []


def test_a_full_disk_takes_nothing_and_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    chain = written(tmp_path, 2)
    full = chain_in(tmp_path, spare_bytes=1 << 60)
    full.open(NOON)
    with pytest.raises(OSError, match="MiB of the disk are free"):
        full.append([event(3)])
    assert not full.is_open
    chain.open(NOON)
    chain.append([event(4)])
    chain.sync()
    assert (verify_log(tmp_path).problems, verify_log(tmp_path).records) == ([], 3)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_is_cut_is_taken_back(tmp_path: Path) -> None:
    chain = written(tmp_path, 2)
    size = segments_of(tmp_path)[0].path.stat().st_size
    chain.open(NOON)
    with largest_file(size + 100), pytest.raises(OSError, match="File too large"):
        chain.append([event(3)])
    assert segments_of(tmp_path)[0].path.stat().st_size == size
    chain.open(NOON)
    chain.append([event(3)])
    chain.sync()
    report = verify_log(tmp_path)
    assert (report.records, report.problems, report.notes) == (3, [], [])


def test_a_file_that_is_removed_while_it_is_written_is_found_and_told(tmp_path: Path) -> None:
    chain = written(tmp_path, 2)
    chain.open(NOON)
    segments_of(tmp_path)[0].path.unlink()
    chain.append([event(3)])
    with pytest.raises(OSError, match="was removed"):
        chain.sync()
    with capture_logs() as logs:
        chain.open(NOON)
    assert [log["event"] for log in logs] == ["audit_chain_broken"]
    chain.sync()
    assert any("the daemon found" in text for text in verify_log(tmp_path).problems)


def test_a_cut_that_is_made_while_no_daemon_runs_stays_visible(tmp_path: Path) -> None:
    chain = written(tmp_path, 5)
    (segment,) = segments_of(tmp_path)
    segment.path.write_bytes(b"".join(list(read_lines(segment.path))[:3]))
    chain.open(NOON)
    chain.append([event(9)])
    chain.sync()
    problems = verify_log(tmp_path).problems
    assert any("records 4 to 5 are missing" in text for text in problems)
    assert any("the log ends at record 3, it was written up to 5" in text for text in problems)


def test_a_log_without_its_head_is_not_known_to_be_whole(tmp_path: Path) -> None:
    written(tmp_path, 2)
    (tmp_path / HEAD).unlink()
    (problem,) = verify_log(tmp_path).problems
    assert "head.json is missing" in problem


def test_copied_files_are_checked_against_each_other(tmp_path: Path) -> None:
    written(tmp_path, 20, segment_bytes=2000)
    paths = [one.path for one in segments_of(tmp_path)]
    assert verify_files(paths[1:]).problems == []
    assert verify_files([paths[0], *paths[2:]]).problems != []


def test_what_is_too_long_or_no_text_is_a_record_all_the_same(tmp_path: Path) -> None:
    chain = chain_in(tmp_path)
    chain.open(NOON)
    chain.append(
        [
            Event(kind="fault", at=NOON, data={"text": "x" * (2 * MAX_LINE)}),
            Event(kind="fault", at=NOON, subject="\udc80", data={"text": "\udcff"}),
            Event(kind="fault", at=NOON, data={"text": object()}),
        ]
    )
    chain.sync()
    assert verify_log(tmp_path).problems == []
    long, surrogate, thing = records(tmp_path)
    assert long.data["cut_bytes"] > 2 * MAX_LINE
    assert surrogate.subject == "\\udc80"
    assert "unreadable" in thing.data
