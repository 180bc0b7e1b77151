"""Limits that are written into the cgroups of pods that run, by what the ledger says."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from deviceplugin.enforcement.cgroups import Tree
from deviceplugin.enforcement.held import grants_of
from deviceplugin.enforcement.pods import Outcome, keep_limits, wanted_of
from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.host import Host
from deviceplugin.resources.entries import Holder
from tests.enforcement.builders import CARD, GPU, World
from tests.enforcement.kernel import AMD, CAPACITY, GIB, TILES, KernelTree

UID = "6f1c0a4e-3c0b-4c51-9d0e-8a2f4a1b2c3d"
SCOPE = UID.replace("-", "_")
ID = "ab" * 32
MAIN = Holder(namespace="ml", pod="train", container="main")
DRIVERS = {
    "cgroupfs": f"kubepods/burstable/pod{UID}",
    "systemd": f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SCOPE}.slice",
}


@pytest.fixture
def kernel(tmp_path: Path) -> KernelTree:
    logs = tmp_path / "var/log"
    (logs / f"pods/ml_train_{UID}/main").mkdir(parents=True)
    (logs / "containers").mkdir()
    (logs / f"containers/train_ml_main-{ID}.log").touch()
    return KernelTree(tmp_path / "sys/fs/cgroup")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.held_by(MAIN, GPU, 0, 1, 2)
    world.held_by(MAIN, CARD, 0, 1)
    return world


def kept(world: World, tree: Tree) -> Outcome:
    granted = grants_of(world.entries, world.listed(), world.devices)
    return keep_limits(tree, wanted_of(Host(world.root), tree, granted, CAPACITY), minimum=False)


@pytest.mark.parametrize("pod", DRIVERS.values(), ids=DRIVERS)
def test_a_pod_and_its_container_are_held_to_their_slices(
    world: World, kernel: KernelTree, pod: str
) -> None:
    scope = f"cri-containerd-{ID}.scope" if pod.endswith(".slice") else ID
    cgroup = kernel.make(f"{pod}/{scope}")
    assert kept(world, kernel.tree) == Outcome(written=2, failed={})
    limits = {AMD: 3 * GIB, TILES[0]: GIB, TILES[1]: GIB}
    assert kernel.tree.limits(cgroup) == kernel.tree.limits(cgroup.parent) == limits
    assert kept(world, kernel.tree) == Outcome(written=0, failed={})


def test_a_container_that_already_has_more_is_reported_and_tried_again(
    world: World, kernel: KernelTree
) -> None:
    cgroup = kernel.make(f"{DRIVERS['cgroupfs']}/{ID}")
    kernel.tree.limit(cgroup, {})
    kernel.use(cgroup, AMD, 4 * GIB)
    outcome = kept(world, kernel.tree)
    assert "already uses more" in outcome.failed[MAIN]
    assert (kernel.tree.limits(cgroup.parent) or {})[AMD] == 3 * GIB
    kernel.use(cgroup, AMD, GIB)
    assert kept(world, kernel.tree).failed == {}
    assert (kernel.tree.limits(cgroup) or {})[AMD] == 3 * GIB


def test_what_a_limit_needs_is_said_where_names_of_pods_are_not_mounted(world: World) -> None:
    kernel = KernelTree(world.root / "else/cgroup")
    kernel.make(f"{DRIVERS['cgroupfs']}/{ID}")
    assert kept(world, kernel.tree) == Outcome(written=0, failed={})


async def test_a_killed_daemon_leaves_nothing_that_its_successor_does_not_put_right(
    world: World, kernel: KernelTree
) -> None:
    """Killed at each of its writes, one after the other."""
    section = EnforcementSection(memory="cgroup")
    for step in itertools.count():
        place = kernel.make(f"{DRIVERS['cgroupfs']}/{ID}")
        if not killed_at(world, kernel, section, step):
            break
        await world.enforcer(section, kernel.tree).look()
        for cgroup in (place, place.parent):
            limits = {AMD: 3 * GIB, TILES[0]: GIB, TILES[1]: GIB}
            assert kernel.tree.limits(cgroup) == limits, step
        kernel.end(place.parent)
    assert step > 6


class KilledError(BaseException):
    """The process is gone."""


def killed_at(world: World, kernel: KernelTree, section: EnforcementSection, step: int) -> bool:
    """Whether a daemon came to its write number `step`."""
    left: Iterator[int] = iter(range(step))

    def write(path: Path, text: str) -> None:
        if next(left, None) is None:
            raise KilledError
        kernel.write(path, text)

    granted = grants_of(world.entries, world.listed(), world.devices)
    tree = Tree(kernel.root, write)
    try:
        wanted = wanted_of(Host(world.root), tree, granted, CAPACITY)
        keep_limits(tree, wanted, minimum=section.minimum)
    except KilledError:
        return True
    return False
