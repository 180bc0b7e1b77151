"""Whatever is edited, cut, moved or left out of a log is found."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from deviceplugin.audit.segments import read_lines, segments_of
from deviceplugin.audit.verify import verify_log
from tests.audit_log.logs import NOON, chain_in, event, written

COUNT = 12
SETTINGS = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of several files, and one whose last is open."""
    directory = tmp_path_factory.mktemp("whole")
    written(directory, COUNT, segment_bytes=1500)
    assert len(segments_of(directory)) >= 3
    assert verify_log(directory).problems == []
    return directory


def copied(whole: Path, to: Path) -> Path:
    shutil.rmtree(to / "log", ignore_errors=True)
    shutil.copytree(whole, to / "log")
    for one in segments_of(to / "log"):
        one.path.chmod(0o640)
    return to / "log"


def lines_of(directory: Path) -> Sequence[tuple[Path, list[bytes]]]:
    return [(one.path, list(read_lines(one.path))) for one in segments_of(directory)]


def write(files: Sequence[tuple[Path, list[bytes]]]) -> None:
    for path, lines in files:
        path.write_bytes(b"".join(lines))


@SETTINGS
@given(st.data())
def test_every_changed_byte_is_found(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    log = copied(whole, tmp_path)
    path = data.draw(st.sampled_from([one.path for one in segments_of(log)]))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert verify_log(log).problems != []


@SETTINGS
@given(st.data())
def test_every_cut_is_found(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Of bytes, from anywhere to anywhere in a file, its end included."""
    log = copied(whole, tmp_path)
    path = data.draw(st.sampled_from([one.path for one in segments_of(log)]))
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    path.write_bytes(content[:start] + content[end:])
    assert verify_log(log).problems != []


@SETTINGS
@given(st.data())
def test_lines_that_are_missing_moved_or_doubled_are_found(
    whole: Path, tmp_path: Path, data: st.DataObject
) -> None:
    log = copied(whole, tmp_path)
    files = lines_of(log)
    places = [(f, n) for f, (_, lines) in enumerate(files) for n in range(len(lines))]
    file, number = data.draw(st.sampled_from(places))
    kind = data.draw(st.sampled_from(["missing", "doubled", "swapped"]))
    line = files[file][1][number]
    if kind == "missing":
        del files[file][1][number]
    elif kind == "doubled":
        to, at = data.draw(st.sampled_from(places))
        files[to][1].insert(at, line)
    else:
        to, at = data.draw(st.sampled_from(places))
        assume((to, at) != (file, number))
        files[file][1][number], files[to][1][at] = files[to][1][at], line
    write(files)
    assert verify_log(log).problems != []


@SETTINGS
@given(st.data())
def test_files_that_are_missing_are_found(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    log = copied(whole, tmp_path)
    paths = [one.path for one in segments_of(log)]
    for path in data.draw(st.sets(st.sampled_from(paths), min_size=1)):
        path.unlink()
    assert verify_log(log).problems != []


@SETTINGS
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 400)), min_size=1, max_size=6),
    st.integers(600, 4000),
)
def test_a_log_is_whole_wherever_its_daemon_is_killed(
    tmp_path: Path, runs: list[tuple[int, int]], segment_bytes: int
) -> None:
    """Each run writes some records, and a part of one more."""
    log = tmp_path / "killed"
    shutil.rmtree(log, ignore_errors=True)
    for number, (count, part) in enumerate(runs):
        chain = chain_in(log, segment_bytes=segment_bytes)
        chain.open(NOON)
        for one in range(count):
            chain.append([event(number * 10 + one)])
            if one % 2:
                chain.sync()
        chain.close()
        whole = b'{"specversion":"1.0","id":"' + b"x" * 400
        with segments_of(log)[-1].path.open("ab") as file:
            file.write(whole[:part])
    chain = chain_in(log, segment_bytes=segment_bytes)
    chain.open(NOON)
    chain.append([event(99)])
    chain.sync()
    assert verify_log(log).problems == []
