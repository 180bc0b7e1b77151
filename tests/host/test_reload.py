"""A module is loaded again by the node's own modprobe, and only where it would come back."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.host.reload import Module, run_program
from deviceplugin.testing.tree import write_tree

OURS = os.readlink("/proc/self/ns/mnt")


class Programs:
    """What was run, and what modinfo says."""

    def __init__(self, version: str = "AAA") -> None:
        self.ran: list[str] = []
        self.version = version

    def run(self, command: Sequence[str], timeout_s: float) -> str:
        self.ran.append(" ".join(command))
        return self.version if "modinfo" in command else ""


def host(root: Path, namespace: str, version: str = "AAA") -> Host:
    (root / "proc/1/ns").mkdir(parents=True)
    (root / "proc/1/ns/mnt").symlink_to(namespace)
    write_tree(root, f"/sys/module/amdgpu/srcversion = {version}\n")
    return Host(root)


def test_on_the_node_modprobe_is_run_as_it_is(tmp_path: Path) -> None:
    programs = Programs()
    module = Module(host(tmp_path, OURS), "amdgpu", programs.run)
    module.check()
    module.unload()
    module.load()
    assert programs.ran == [
        "modprobe --dry-run amdgpu",
        "modinfo --field srcversion amdgpu",
        "modprobe --remove amdgpu",
        "modprobe amdgpu",
    ]


def test_in_a_container_it_is_that_of_the_node(tmp_path: Path) -> None:
    programs = Programs()
    Module(host(tmp_path, "mnt:[1]"), "amdgpu", programs.run).load()
    assert programs.ran == [f"nsenter --mount={tmp_path}/proc/1/ns/mnt -- modprobe amdgpu"]


def test_another_module_than_the_one_that_is_loaded_is_not_loaded(tmp_path: Path) -> None:
    module = Module(host(tmp_path, OURS, "BBB"), "amdgpu", Programs().run)
    with pytest.raises(VendorError, match="not that of the node's /lib/modules"):
        module.check()


def test_where_the_node_is_not_seen_nothing_is_run(tmp_path: Path) -> None:
    programs = Programs()
    with pytest.raises(VendorError, match="of the node is not seen"):
        Module(Host(tmp_path), "amdgpu", programs.run).unload()
    assert programs.ran == []


@pytest.mark.slow
def test_what_a_program_says_is_told() -> None:
    assert run_program([sys.executable, "-c", "print(7)"], 60) == "7"
    with pytest.raises(VendorError, match="failed: in use"):
        run_program([sys.executable, "-c", "import sys; sys.exit('in use')"], 60)
    with pytest.raises(VendorError, match="No such file"):
        run_program(["/nowhere/modprobe"], 60)


@pytest.mark.slow
def test_a_program_that_has_not_ended_in_time_is_left_alone(tmp_path: Path) -> None:
    """It goes on: nothing ends a process that waits for a driver."""
    go, done = tmp_path / "go", tmp_path / "done"
    os.mkfifo(go)
    code = "import sys; open(sys.argv[1]).read(); open(sys.argv[2], 'w').write('7')"
    os.mkfifo(done)
    with pytest.raises(VendorError, match="has not ended after 0 s"):
        run_program([sys.executable, "-c", code, str(go), str(done)], 0)
    go.write_text("")
    assert done.read_text() == "7"
