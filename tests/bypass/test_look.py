"""Which processes are found, and in which pods."""

from pathlib import Path

import pytest

from deviceplugin.bypass.judge import Opener
from deviceplugin.bypass.look import NO_PROC, look
from deviceplugin.host import Host
from tests.bypass.node import ID, IN_DOCKER, IN_POD, ON_HOST, add_pod, add_process

NODES = frozenset({"/dev/nvidia0", "/dev/dri/renderD128"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add_process(tmp_path / "host", 1, "0::/init.scope", namespace=1)
    own = tmp_path / "own/proc/self/ns"
    own.mkdir(parents=True)
    (own / "pid").symlink_to("pid:[9]")
    return tmp_path


def seen(root: Path) -> tuple[Opener, ...]:
    found = look(Host(root / "host"), Host(root / "own"), NODES)
    assert not found.problem
    return found.openers


def test_a_process_of_a_pod_is_found_with_its_name(root: Path) -> None:
    add_pod(root / "host", "team", "train")
    add_process(root / "host", 70, IN_POD, "/dev/nvidia0", "/dev/nvidiactl")
    (one,) = seen(root)
    assert one == Opener(
        pid=70, nodes=frozenset({"/dev/nvidia0"}), pod=("team", "train"), container=ID[:12]
    )


def test_a_container_outside_of_pods_is_found_by_its_id(root: Path) -> None:
    add_process(root / "host", 70, IN_DOCKER, "/dev/dri/renderD128")
    (one,) = seen(root)
    assert (one.pod, one.container) == (None, ID[:12])


@pytest.mark.parametrize(
    ("cgroup", "nodes", "namespace"),
    [
        (ON_HOST, ("/dev/nvidia0",), 5),
        (IN_POD, ("/dev/null",), 5),
        (IN_POD, ("/dev/nvidia0",), 9),
    ],
    ids=["of-the-host", "no-gpu", "of-this-daemon"],
)
def test_others_are_not(root: Path, cgroup: str, nodes: tuple[str, ...], namespace: int) -> None:
    add_pod(root / "host", "team", "train")
    add_process(root / "host", 70, cgroup, *nodes, namespace=namespace)
    assert seen(root) == ()


def test_a_pod_without_a_known_name_is_counted_and_not_judged(root: Path) -> None:
    add_process(root / "host", 70, IN_POD, "/dev/nvidia0")
    found = look(Host(root / "host"), Host(root / "own"), NODES)
    assert (found.openers, found.unseen) == ((), 1)


def test_without_the_host_s_proc_nobody_can_look(tmp_path: Path) -> None:
    assert look(Host(tmp_path), Host(tmp_path), NODES).problem == NO_PROC
