"""Limits that the privileged process writes: the daemon's container only reads cgroups."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from deviceplugin.enforcement.cgroups import LimitError
from deviceplugin.enforcement.helper import AskingTree, tree_of, write_limit
from deviceplugin.enforcement.pods import Outcome
from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.host import Host
from deviceplugin.kubelet.socket import is_listening
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.protocol import FILE, Limit, Look, ask_helper
from deviceplugin.provision.server import serve
from tests.enforcement.builders import World
from tests.enforcement.kernel import AMD, GIB, TILES, KernelTree
from tests.enforcement.test_pods import DRIVERS, ID, MAIN, UID, kept, kernel, world
from tests.rig import WAIT_S

__all__ = ["kernel", "world"]  # fixtures
ASKED_S = 5.0


def helper_of(kernel: KernelTree, root: Path) -> Helper:
    limit = partial(write_limit, kernel.tree)
    return Helper({}, Around(state_dir=root / "state", boot="boot", limit=limit))


@pytest.fixture
def served(kernel: KernelTree, tmp_path: Path) -> Iterator[Path]:
    """The socket of a process that sets limits."""
    stop, path = Event(), tmp_path / "state" / FILE
    helper = helper_of(kernel, tmp_path)
    serving = Thread(target=serve, args=(path.parent, helper.answer, stop))
    serving.start()
    waited = Event()
    while not is_listening(path):
        waited.wait(0.01)
    yield path
    stop.set()
    serving.join(WAIT_S)


def asking(kernel: KernelTree, path: Path) -> AskingTree:
    return AskingTree(kernel.root, lambda request: ask_helper(path, request, ASKED_S))


@pytest.mark.parametrize("pod", DRIVERS.values(), ids=DRIVERS)
def test_what_the_daemon_asks_for_is_written_by_the_other_process(
    world: World, kernel: KernelTree, served: Path, pod: str
) -> None:
    scope = f"cri-containerd-{ID}.scope" if pod.endswith(".slice") else ID
    cgroup, tree = kernel.make(f"{pod}/{scope}"), asking(kernel, served)
    assert tree.path_problem()
    tree.enable()
    assert not tree.path_problem()
    assert kept(world, tree) == Outcome(written=2, failed={})
    limits = {AMD: 3 * GIB, TILES[0]: GIB, TILES[1]: GIB}
    assert kernel.tree.limits(cgroup) == kernel.tree.limits(cgroup.parent) == limits
    assert kept(world, tree) == Outcome(written=0, failed={})


def test_a_limit_is_set_while_a_change_of_partitions_runs(
    kernel: KernelTree, tmp_path: Path
) -> None:
    kernel.make(f"{DRIVERS['cgroupfs']}/{ID}")
    helper = helper_of(kernel, tmp_path)
    helper.rest(0.0)  # as a change that runs: nothing else begins
    assert not helper.answer(Limit(container=ID, regions={AMD: GIB})).error
    assert kernel.tree.containers()[ID].joinpath("dmem.max").read_text().startswith(f"{AMD} {GIB}")


def test_why_a_limit_cannot_be_set_comes_back(
    world: World, kernel: KernelTree, served: Path
) -> None:
    cgroup = kernel.make(f"{DRIVERS['cgroupfs']}/{ID}")
    kernel.tree.limit(cgroup, {})
    kernel.use(cgroup, AMD, 4 * GIB)
    assert "already uses more" in kept(world, asking(kernel, served)).failed[MAIN]


def test_where_nobody_answers_the_limit_counts_as_not_set(
    world: World, kernel: KernelTree, tmp_path: Path
) -> None:
    kernel.make(f"{DRIVERS['cgroupfs']}/{ID}")
    tree = asking(kernel, tmp_path / "absent.sock")
    assert "deviceplugin provision does not answer" in kept(world, tree).failed[MAIN]
    with pytest.raises(LimitError, match="does not answer"):
        tree.enable()


def test_a_cgroup_that_is_gone_needs_no_limit(kernel: KernelTree, tmp_path: Path) -> None:
    helper = helper_of(kernel, tmp_path)
    assert not helper.answer(Limit(container="cd" * 32, regions={AMD: GIB})).error
    assert not helper.answer(Limit(pod=UID, regions={AMD: GIB})).error
    asking(kernel, tmp_path / "absent.sock").limit(kernel.root / "gone", {AMD: GIB})


@pytest.mark.parametrize(
    "request_",
    [
        Limit(container="../../system.slice", regions={AMD: GIB}),
        Limit(pod="../x", regions={AMD: GIB}),
        Limit(container=ID, regions={"drm/../etc/passwd": GIB}),
        Limit(container=ID, regions={f"{AMD} 1\nx": GIB}),
        Limit(container=ID, regions={AMD: -1}),
        Limit(container=ID, regions={AMD: 1 << 62}),
    ],
    ids=["a path", "a pod's path", "no region", "two lines", "less than nothing", "more than any"],
)
def test_what_no_daemon_asks_for_is_refused(
    kernel: KernelTree, tmp_path: Path, request_: Limit
) -> None:
    kernel.make(f"{DRIVERS['cgroupfs']}/{ID}")
    before = sorted(path.read_text() for path in kernel.root.rglob("dmem.*"))
    assert helper_of(kernel, tmp_path).answer(request_).error.startswith("not ")
    assert sorted(path.read_text() for path in kernel.root.rglob("dmem.*")) == before


def test_a_process_that_only_cuts_gpus_sets_no_limits(tmp_path: Path) -> None:
    helper = Helper({}, Around(state_dir=tmp_path, boot="boot"))
    assert helper.answer(Limit()).error == "no limits are set here"
    assert not helper.answer(Look()).error


def test_the_daemon_writes_itself_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    for writer, kind in (("daemon", False), ("helper", True)):
        section = EnforcementSection(writer=writer)  # type: ignore[arg-type]  # one of two
        tree = tree_of(Host(tmp_path), section, tmp_path)
        assert isinstance(tree, AskingTree) is kind
