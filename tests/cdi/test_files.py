"""Files that are there whole or not at all, and CDI files among them."""

import json
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deviceplugin.cdi.files import CdiFiles, write_cdi_files
from deviceplugin.errors import FilesError
from deviceplugin.model import CdiSpec, ContainerEdits, DeviceNode
from deviceplugin.runtime.files import write_atomically

KIND = "k8s.device-plugin.example.com/gpu"
FILE = "k8s.device-plugin.example.com-gpu.json"


def spec(*names: str) -> CdiSpec:
    node = DeviceNode(path="/dev/x", host_path="/dev/x")
    return CdiSpec(kind=KIND, devices={n: ContainerEdits(device_nodes=(node,)) for n in names})


def test_equal_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    assert write_atomically(path, b"one")
    before = path.stat().st_ino
    assert not write_atomically(path, b"one")
    assert path.stat().st_ino == before
    assert write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_the_mode_is_not_the_temporary_files(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(path, b"x")
    assert os.listdir(tmp_path) == ["file"]


def test_a_cdi_file_is_written_for_its_kind_and_removed_without_devices(tmp_path: Path) -> None:
    write_cdi_files(tmp_path, [spec("b", "a")])
    content = json.loads((tmp_path / FILE).read_text())
    assert [d["name"] for d in content["devices"]] == ["a", "b"]
    write_cdi_files(tmp_path, [spec()])
    assert os.listdir(tmp_path) == []
    write_cdi_files(tmp_path, [spec()])


def test_a_device_without_edits_is_left_out_as_runtimes_would_refuse_the_whole_file(
    tmp_path: Path,
) -> None:
    empty = {"lame": ContainerEdits(), "dumb": ContainerEdits()}
    both = CdiSpec(kind=KIND, devices={**empty, **spec("a").devices})
    write_cdi_files(tmp_path, [both])
    content = json.loads((tmp_path / FILE).read_text())
    assert [d["name"] for d in content["devices"]] == ["a"]
    write_cdi_files(tmp_path, [CdiSpec(kind=KIND, devices=empty, common=both.devices["a"])])
    assert os.listdir(tmp_path) == []


def test_other_programs_cdi_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "nvidia.yaml").write_text("theirs")
    write_cdi_files(tmp_path, [spec()])
    assert os.listdir(tmp_path) == ["nvidia.yaml"]


def test_a_kind_that_two_vendors_claim_is_the_earlier_ones(tmp_path: Path) -> None:
    files = CdiFiles(tmp_path, ("first", "second"))
    files.write("second", [spec("theirs")])
    with capture_logs() as logs:
        files.write("first", [spec("ours")])
        for _ in range(2):
            with pytest.raises(FilesError, match="is that of vendor first"):
                files.write("second", [spec("theirs")])
    assert [d["name"] for d in json.loads((tmp_path / FILE).read_text())["devices"]] == ["ours"]
    refused = [entry for entry in logs if entry["event"] == "vendor_conflict"]
    assert [entry["vendor"] for entry in refused] == ["second"]  # told once


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FilesError, match="file: it is a regular file, not a directory"):
        CdiFiles(tmp_path / "file", ()).write("one", [spec("a")])
