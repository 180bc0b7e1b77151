"""The files: an hour each, for their time, in a folder of ours alone."""

import json
from pathlib import Path

import pytest

from deviceplugin.profiling.files import Files

HOUR = 3600.0
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
LINE = {"device": "GPU-0", "compute_utilization": None}


def test_a_file_holds_an_hour_and_is_ours_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a/profiling"
    files = Files(folder, 10 * HOUR)
    for seconds in (0, 10, HOUR):
        files.write([LINE], NOW + seconds)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["profile-20270115T08.jsonl", "profile-20270115T09.jsonl"]
    first = folder / names[0]
    assert [json.loads(line) for line in first.read_text().splitlines()] == [LINE, LINE]
    assert (first.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)


def test_what_is_older_than_its_time_goes_and_nothing_else(tmp_path: Path) -> None:
    files = Files(tmp_path, 2 * HOUR)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "profile-99999999T99.jsonl").write_text("no day")
    for hour in range(6):
        files.write([LINE], NOW + hour * HOUR)
    names = sorted(path.name for path in tmp_path.iterdir())
    ours = [f"profile-20270115T{hour}.jsonl" for hour in (10, 11, 12, 13)]
    assert names == ["notes.txt", *ours, "profile-99999999T99.jsonl"]


def test_there_is_a_most_of_all_files_together(tmp_path: Path) -> None:
    files = Files(tmp_path, 1000 * HOUR, max_bytes=800)
    for hour in range(20):
        for _ in range(2):
            files.write([LINE], NOW + hour * HOUR)
    with pytest.raises(OSError, match="as many bytes as an hour may have"):
        files.write([LINE], NOW + 19 * HOUR)
    assert 700 <= sum(path.stat().st_size for path in tmp_path.iterdir()) <= 800


def test_a_link_is_not_followed_and_a_folder_of_others_is_not_used(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        Files(tmp_path / "link", HOUR).write([LINE], NOW)
    theirs.chmod(0o777)
    with pytest.raises(PermissionError, match="others can write it"):
        Files(theirs, HOUR).write([LINE], NOW)
    theirs.chmod(0o700)
    (tmp_path / "secret").write_text("secret")
    (theirs / "profile-20270115T08.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        Files(theirs, HOUR).write([LINE], NOW)
    assert (tmp_path / "secret").read_text() == "secret"
