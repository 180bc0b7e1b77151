"""Limits in a cgroup tree that answers as the kernel's does."""

from pathlib import Path

import pytest

from deviceplugin.enforcement.cgroups import LimitError, Tree
from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.enforcement.standing import read_standing
from deviceplugin.host import Host
from tests.enforcement.kernel import AMD, CAPACITY, GIB, TILES, KernelTree

ID = "0123456789abcdef" * 4
UID = "6f1c0a4e-3c0b-4c51-9d0e-8a2f4a1b2c3d"
SCOPE = UID.replace("-", "_")
# Where containers are: both cgroup drivers, every class of service, and a node in a container.
PLACES = {
    "cgroupfs, guaranteed": f"kubepods/pod{UID}/{ID}",
    "cgroupfs, burstable": f"kubepods/burstable/pod{UID}/{ID}",
    "cgroupfs, best effort": f"kubepods/besteffort/pod{UID}/{ID}",
    "systemd, guaranteed": f"kubepods.slice/kubepods-pod{SCOPE}.slice/cri-containerd-{ID}.scope",
    "systemd, burstable": "kubepods.slice/kubepods-burstable.slice/"
    f"kubepods-burstable-pod{SCOPE}.slice/crio-{ID}.scope",
    "systemd, best effort": "kubepods.slice/kubepods-besteffort.slice/"
    f"kubepods-besteffort-pod{SCOPE}.slice/cri-containerd-{ID}.scope",
    "a node in a container": f"system.slice/docker-{'ab' * 32}.scope/kubelet/kubepods/burstable/"
    f"pod{UID}/{ID}",
    "a kubelet below a slice": "kubelet.slice/kubelet-kubepods.slice/"
    f"kubelet-kubepods-pod{SCOPE}.slice/cri-containerd-{ID}.scope",
}


@pytest.fixture
def kernel(tmp_path: Path) -> KernelTree:
    return KernelTree(tmp_path / "sys/fs/cgroup")


@pytest.mark.parametrize("path", PLACES.values(), ids=PLACES)
def test_a_container_is_found_and_held_wherever_it_is(kernel: KernelTree, path: str) -> None:
    cgroup = kernel.make(path)
    assert kernel.tree.containers() == {ID: cgroup}
    kernel.tree.limit(cgroup, {AMD: 4 * GIB})
    assert kernel.tree.limits(cgroup) == {AMD: 4 * GIB, TILES[0]: None, TILES[1]: None}
    with pytest.raises(MemoryError):
        kernel.use(cgroup, AMD, 5 * GIB)


@pytest.mark.parametrize("path", PLACES.values(), ids=PLACES)
def test_the_controller_is_enabled_from_the_root_to_the_pods(kernel: KernelTree, path: str) -> None:
    kernel.make(path)
    assert "cgroup.subtree_control" in kernel.tree.path_problem()
    kernel.tree.enable()
    assert kernel.tree.path_problem() == ""


def test_several_regions_have_limits_of_their_own_and_a_minimum_if_it_is_wanted(
    kernel: KernelTree,
) -> None:
    cgroup = kernel.make(PLACES["cgroupfs, burstable"])
    kernel.tree.limit(cgroup, {TILES[0]: GIB, TILES[1]: 2 * GIB}, minimum=True)
    assert kernel.tree.limits(cgroup) == {AMD: None, TILES[0]: GIB, TILES[1]: 2 * GIB}
    minimum = (cgroup / "dmem.min").read_text()
    assert f"{TILES[0]} {GIB}\n" in minimum
    assert f"{TILES[1]} {2 * GIB}\n" in minimum


def test_a_limit_below_the_use_is_busy_in_older_kernels(kernel: KernelTree) -> None:
    cgroup = kernel.make(PLACES["cgroupfs, burstable"])
    kernel.tree.limit(cgroup, {})
    kernel.use(cgroup, AMD, 5 * GIB)
    with pytest.raises(LimitError, match="already uses more") as failure:
        kernel.tree.limit(cgroup, {AMD: 4 * GIB})
    assert failure.value.busy
    kernel.busy = False
    kernel.tree.limit(cgroup, {AMD: 4 * GIB})


def test_an_unknown_region_is_an_error_that_names_it(kernel: KernelTree) -> None:
    cgroup = kernel.make(PLACES["cgroupfs, burstable"])
    with pytest.raises(LimitError, match=r"drm/0000:99:00.0/vram 1: the kernel does not know"):
        kernel.tree.limit(cgroup, {"drm/0000:99:00.0/vram": 1})


def test_a_container_that_has_ended_needs_no_limit(kernel: KernelTree) -> None:
    cgroup = kernel.make(PLACES["cgroupfs, burstable"])
    kernel.end(cgroup)
    kernel.tree.limit(cgroup, {AMD: GIB})

    def vanishing(path: Path, text: str) -> None:
        kernel.end(path.parent) if path.name == "dmem.max" else None
        kernel.write(path, text)

    kernel.make(PLACES["cgroupfs, burstable"])
    Tree(kernel.root, vanishing).limit(cgroup, {AMD: GIB})
    assert not cgroup.exists()


def test_a_controller_that_cannot_be_enabled_is_an_error(kernel: KernelTree) -> None:
    cgroup = kernel.make(PLACES["systemd, burstable"])
    (kernel.root / "cgroup.controllers").write_text("cpu memory\n")
    with pytest.raises(LimitError, match="not enabled there"):
        kernel.tree.limit(cgroup, {AMD: GIB})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("cgroup.controllers", "is no cgroup tree of version 2"),
        ("dmem.capacity", "is not the host's whole tree"),
    ],
)
def test_a_tree_without_what_it_needs_holds_nothing(
    kernel: KernelTree, change: str, reason: str
) -> None:
    (kernel.root / change).unlink()
    assert reason in kernel.tree.problem()


def test_a_kernel_without_the_controller_holds_nothing(kernel: KernelTree) -> None:
    (kernel.root / "cgroup.controllers").write_text("cpu memory\n")
    assert "no dmem controller" in kernel.tree.problem()


def test_what_holds_is_said_by_kernel_path_region_and_runtime(kernel: KernelTree) -> None:
    host = Host(kernel.root.parents[2])
    section = EnforcementSection(memory="nri")
    kernel.make(PLACES["cgroupfs, burstable"])
    assert "not enabled" in read_standing(host, section, connected=True).problem
    kernel.tree.enable()
    assert "does not serve" in read_standing(host, section, connected=False).problem
    standing = read_standing(host, section, connected=True)
    assert standing.problem == ""
    assert standing.held == {"0000:c6:00.0", "0000:03:00.0"}
    assert standing.capacity == CAPACITY
    late = read_standing(host, EnforcementSection(memory="cgroup"), connected=True)
    assert "after the container has started" in late.problem
    assert read_standing(host, EnforcementSection(), connected=True).held == frozenset()


def real_tree() -> Path | None:
    """Where this machine has cgroups of version 2."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    return None


def test_a_real_tree_says_what_it_can_keep() -> None:
    """Where the machine's kernel has the controller, a limit is set; elsewhere the reason is the
    kernel's own."""
    root = real_tree()
    if root is None:
        pytest.skip("no cgroup tree of version 2 on this machine")
    cgroup = root / "deviceplugin-test"
    try:
        cgroup.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    try:
        tree = Tree(root)
        if problem := tree.problem():
            assert "dmem" in problem
            with pytest.raises(LimitError, match=r"dmem|not enabled"):
                tree.limit(cgroup, {AMD: GIB})
        else:
            limits = {region: size // 4096 * 4096 // 2 for region, size in tree.capacity().items()}
            tree.limit(cgroup, limits)
            assert (tree.limits(cgroup) or {}).items() >= limits.items()
    finally:
        cgroup.rmdir()
