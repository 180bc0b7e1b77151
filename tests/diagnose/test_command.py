"""`deviceplugin diagnose` and `deviceplugin support-bundle` on simulated nodes."""

import asyncio
import json
import tarfile
from pathlib import Path

import pytest

from tests.diagnose.node import Node
from tests.rig import Rig, run_command, two_a100

pytestmark = pytest.mark.slow


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    return Node(tmp_path).flags(tmp_path / "state")


def test_a_node_that_is_well_ends_with_0_and_changes_nothing(
    flags: list[str], tmp_path: Path
) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    done = run_command("diagnose", "--window=0", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Node gpu-node-7, ")
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_failed_check_ends_with_1(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "cdi/bad.json").write_text("{")
    done = run_command("diagnose", "--format=json", "--window=0", *flags)
    document = json.loads(done.stdout)
    assert (done.returncode, document["verdict"]) == (1, "fail")
    (failed,) = (one for one in document["checks"] if one["verdict"] == "fail")
    assert failed["subject"].endswith("cdi/bad.json")


def test_a_form_that_does_not_exist_is_named(flags: list[str]) -> None:
    done = run_command("diagnose", "--format=xml", *flags)
    assert done.returncode == 2
    assert "junit" in done.stderr


def test_the_archive_names_neither_node_nor_gpus(flags: list[str], tmp_path: Path) -> None:
    path = tmp_path / "out.tar.gz"
    done = run_command("support-bundle", f"--output={path}", *flags)
    assert done.returncode == 0, done.stderr
    with tarfile.open(path) as archive:
        members = [archive.extractfile(name) for name in archive.getnames()]
        text = b"".join(member.read() for member in members if member)
    for name in (b"gpu-node-7", b"e3aa140f9a5f9e30", b"GPU-00000000-0000-0000-0000"):
        assert name not in text
    assert b"pcie_width" in text
    again = run_command("support-bundle", f"--output={path}", *flags)
    assert again.returncode == 2
    assert "--output" in again.stderr
    assert "File exists" in again.stderr


async def test_the_running_daemon_and_the_kubelet_are_asked(rig: Rig) -> None:
    two_a100(rig.host_root)
    await rig.stub.start()
    rig.start()
    await rig.stub.wait_registered("nvidia.com/gpu")
    await rig.allocatable({"nvidia.com/gpu": 2})
    places = [f"--host-root={rig.host_root}", f"--kubelet-dir={rig.kubelet_dir}"]
    places += [f"--cdi-dir={rig.cdi_dir}", f"--state-dir={rig.state_dir}"]
    done = await asyncio.to_thread(run_command, "diagnose", "--format=json", "--window=0", *places)
    checks = json.loads(done.stdout)["checks"]
    (found,) = (one for one in checks if one["check"] == "registration")
    assert (found["subject"], found["value"]) == ("nvidia.com/gpu", "2 of 2 healthy ids")
    (kubelet,) = (one for one in checks if one["check"] == "kubelet")
    assert kubelet["verdict"] == "pass"
