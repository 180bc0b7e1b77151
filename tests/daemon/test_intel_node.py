"""The daemon as a process on simulated Intel nodes: every tree, and what changes while it runs."""

from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from deviceplugin.testing.intel import B60, iommu_group, set_vfs, vf_address, write_intel_node
from deviceplugin.testing.plugin_client import RpcError
from deviceplugin.testing.tree import remove, write_tree
from tests.rig import DaemonProcess, Rig

TREES = Path(__file__).parents[1] / "vendors" / "intel" / "trees"
GPU, SLICE, VM_SLICE = "intel.com/gpu", "intel.com/xe-4gb", "intel.com/xe-4gb-vfio"
KUBEVIRT = "PCI_RESOURCE_INTEL_COM_XE-4GB-VFIO"
QUOTA = 4227858432

CAPACITY = {
    "b60": {GPU: 1},
    "b60-6vf": {SLICE: 4, VM_SLICE: 2},
    "b60-6vf-debugfs": {SLICE: 4, VM_SLICE: 2},
    "b60-6vf-debugfs-gt": {SLICE: 4, VM_SLICE: 2},
    "b60-6vf-nothing-readable": {SLICE: 4, VM_SLICE: 2},
    "flex170-4vf-iov": {SLICE: 4},
    "flex170-4vf-prelim-iov": {SLICE: 4},
    "guest-vf": {GPU: 1},
    "integrated-3vf": {"intel.com/gpu-vf": 2, "intel.com/gpu-vf-vfio": 1},
    "integrated-and-discrete": {GPU: 2},
    "max1550": {GPU: 1},
    "max1550-4vf": {"intel.com/xe-30gb": 4},
}
FRAMEBUFFER = "/dev/dri/by-path/platform-simple-framebuffer.0-card -> ../card9"


def tree(name: str) -> str:
    """The text of a tree of the vendor's own tests."""
    return (TREES / f"{name}.tree").read_text()


async def serving(rig: Rig, text: str, config: str = "{}") -> DaemonProcess:
    """A daemon on the node of `text`."""
    write_tree(rig.host_root, text)
    await rig.stub.start()
    return rig.start("--config", str(rig.config(config)), "--vendors", "intel")


def test_every_tree_has_its_expectation() -> None:
    assert {path.stem for path in TREES.glob("*.tree")} == {*CAPACITY, "survivability"}


@pytest.mark.parametrize("name", CAPACITY)
async def test_a_node_serves_what_its_tree_holds(rig: Rig, name: str) -> None:
    await serving(rig, tree(name))
    await rig.capacity(CAPACITY[name])
    assert rig.stub.allocatable() == CAPACITY[name]
    for resource, given in (await rig.one_of_each(CAPACITY[name])).items():
        if resource.endswith("-vfio"):
            (address,) = [value for key, value in given.envs.items() if key.startswith("PCI_")]
            assert address in rig.stub.devices(resource)
            assert "/dev/vfio/vfio" in given.devices
        else:
            assert given.envs == {}
            kinds = [path.rstrip("0123456789") for path in sorted(given.devices)]
            assert kinds == ["/dev/dri/card", "/dev/dri/renderD"]
            assert list(given.mounts) == ["/dev/dri/by-path"]
    assert rig.stub.violations == []
    assert rig.stub.crashes == []


async def test_a_gpu_with_broken_firmware_is_told_and_not_served(rig: Rig) -> None:
    daemon = await serving(rig, tree("survivability"))
    assert "firmware" in (await daemon.wait_event("fault", code="survivability_mode"))["action"]
    await daemon.answers("/readyz")
    assert rig.stub.capacity() == {}


async def test_a_simple_framebuffers_stale_link_breaks_nothing(rig: Rig) -> None:
    await serving(rig, tree("b60") + "\n" + FRAMEBUFFER)
    await rig.capacity({GPU: 1})
    given = (await rig.one_of_each([GPU]))[GPU]
    assert list(given.mounts) == ["/dev/dri/by-path"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def six_slices(shared: Rig) -> Rig:
    """A daemon that serves four slices for containers and two for virtual machines."""
    await serving(shared, tree("b60-6vf"))
    await shared.capacity({SLICE: 4, VM_SLICE: 2})
    return shared


@pytest.mark.parametrize("ids", [["0000:04:00.0"], ["0000:04:00.5"], ["card1"]])
@pytest.mark.asyncio(loop_scope="module")
async def test_unknown_ids_are_refused(six_slices: Rig, ids: list[str]) -> None:
    """The divided GPU itself, a slice of the other resource, and no id at all."""
    with pytest.raises(RpcError) as refused:
        await six_slices.stub.allocate(SLICE, ids)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.asyncio(loop_scope="module")
async def test_two_functions_in_one_request_give_both_addresses(six_slices: Rig) -> None:
    ids = sorted(six_slices.stub.devices(VM_SLICE))
    await six_slices.stub.admit("machine", {"compute": {VM_SLICE: 2}})
    given = six_slices.stub.merged("machine", "compute")
    six_slices.stub.remove_pod("machine")
    assert given.envs == {KUBEVIRT: ",".join(ids)}
    assert len([path for path in given.devices if path.startswith("/dev/vfio/")]) == 3


async def test_a_container_with_two_resources_sees_the_links_of_both(rig: Rig) -> None:
    """The kubelet asks for each apart and mounts one of the two answers."""
    write_intel_node(rig.host_root, B60)
    set_vfs(rig.host_root, B60, 2, [QUOTA, 2 * QUOTA])
    daemon = await serving(rig, "")
    await rig.capacity({SLICE: 1, "intel.com/xe-8gb": 1})
    await rig.stub.admit("both", {"compute": {SLICE: 1, "intel.com/xe-8gb": 1}})
    (mount,) = rig.stub.merged("both", "compute").mounts.values()
    folder = rig.host_root / str(mount.host_path).lstrip("/")
    ids = [vf_address(B60, number) for number in (1, 2)]
    both = {f"pci-{one}-{kind}" for one in ids for kind in ("card", "render")}
    await daemon.until(lambda: {path.name for path in folder.iterdir()} == both)
    rig.stub.remove_pod("both")
    await daemon.until(lambda: len(list(folder.iterdir())) == 2)


async def test_a_pinned_slice_tells_the_container_its_size(rig: Rig) -> None:
    instance = "{name: xe-4gb, memory: 4GiB, compute_units: 64, execution_units: 32}"
    await serving(rig, tree("b60-6vf"), f"intel_xe: {{instances: [{instance}]}}")
    await rig.capacity({SLICE: 4, VM_SLICE: 2})
    given = (await rig.one_of_each([SLICE]))[SLICE]
    assert given.envs == {"INTEL_XE_MEMORY": "4GiB", "INTEL_XE_COMPUTE_UNITS": "64"}


async def test_numvfs_from_0_to_6_and_back_moves_the_resources_each_time(rig: Rig) -> None:
    """Ids that are gone stay as tombstones: what counts is what is allocatable."""
    write_intel_node(rig.host_root, B60)
    daemon = await serving(rig, "")
    await rig.capacity({GPU: 1})
    for _ in range(3):
        set_vfs(rig.host_root, B60, 6, QUOTA, ["xe", "xe", "xe", "xe", "vfio-pci", "vfio-pci"])
        await rig.allocatable({GPU: 0, SLICE: 4, VM_SLICE: 2})
        set_vfs(rig.host_root, B60, 0)
        await rig.allocatable({GPU: 1, SLICE: 0, VM_SLICE: 0})
    assert rig.stub.crashes == []
    assert daemon.events("task_failed") == []


async def test_functions_bound_elsewhere_move_from_one_resource_to_the_other(rig: Rig) -> None:
    write_intel_node(rig.host_root, B60)
    set_vfs(rig.host_root, B60, 6, QUOTA)
    await serving(rig, "")
    await rig.capacity({SLICE: 6})
    set_vfs(rig.host_root, B60, 6, QUOTA, ["vfio-pci", "vfio-pci"])
    await rig.allocatable({SLICE: 4})
    await rig.allocatable({VM_SLICE: 2})


async def test_a_card_that_is_removed_leaves_the_node(rig: Rig) -> None:
    await serving(rig, tree("integrated-and-discrete"))
    await rig.capacity({GPU: 2})
    remove(rig.host_root, "/sys/bus/pci/devices/0000:04:00.0")
    await rig.allocatable({GPU: 1})


async def test_a_vfio_node_that_goes_takes_its_function_off_the_list_of_healthy_ones(
    rig: Rig,
) -> None:
    write_intel_node(rig.host_root, B60)
    set_vfs(rig.host_root, B60, 6, QUOTA, ["xe"] * 4 + ["vfio-pci"] * 2)
    daemon = await serving(rig, "")
    await rig.capacity({SLICE: 4, VM_SLICE: 2})
    remove(rig.host_root, f"/dev/vfio/{iommu_group(B60, 5)}")
    await rig.allocatable({VM_SLICE: 1})
    fault = await daemon.wait_event("fault", code="vfio_node_missing")
    assert fault["device"] == vf_address(B60, 5)
