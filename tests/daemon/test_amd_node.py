"""The daemon as a process on simulated AMD nodes: every tree, and what changes while it runs."""

from collections.abc import Sequence

import grpc
import pytest
import pytest_asyncio

from deviceplugin.testing.amd import V620_HOST, SimulatedGpu, amd_tree, switch_mode
from deviceplugin.testing.plugin_client import RpcError
from deviceplugin.testing.tree import remove, write_tree
from tests.rig import DaemonProcess, Rig
from tests.vendors.amd.amd_nodes import NODES, mi300x, recorded_tree

GPU, CPX = "amd.com/gpu", "amd.com/cpx_nps4"
VM_SLICE = "amd.com/mxgpu-4gb-vfio"
KUBEVIRT = "PCI_RESOURCE_AMD_COM_MXGPU-4GB-VFIO"
MIXED_NAMES = "amd: {resource_naming: mixed}"

CAPACITY = {
    "demo": {GPU: 1, CPX: 8, VM_SLICE: 8},
    "mi210-x8": {GPU: 8},
    "mi300x-spx": {GPU: 1},
    "mi300x-cpx": {CPX: 8},
    "mi300x-cpx-dotted": {CPX: 8},
    "mi308x-cpx": {CPX: 8},
    "gim-v620": {VM_SLICE: 8},
    "gim-mi300x": {"amd.com/mxgpu-192gb-vfio": 1},
    "gim-mi25": {VM_SLICE: 4},
    "guest-mi300x-vf": {GPU: 1},
    "guest-v620-vf": {"amd.com/mxgpu-4gb": 1},
    "no-numa": {GPU: 1},
    "broken": {GPU: 7},
}


async def serving(rig: Rig, tree: str, config: str = MIXED_NAMES) -> DaemonProcess:
    """A daemon on the node of `tree` that has listed something."""
    write_tree(rig.host_root, tree)
    await rig.stub.start()
    return rig.start("--config", str(rig.config(config)), "--vendors", "amd")


def test_every_tree_has_its_expectation() -> None:
    assert CAPACITY.keys() == NODES.keys()


@pytest.mark.parametrize("node", CAPACITY)
async def test_a_node_serves_what_its_tree_holds(rig: Rig, node: str) -> None:
    await serving(rig, NODES[node])
    await rig.capacity(CAPACITY[node])
    assert rig.stub.allocatable() == CAPACITY[node]
    for name, given in (await rig.one_of_each(CAPACITY[node])).items():
        if name.endswith("-vfio"):
            (address,) = [value for key, value in given.envs.items() if key.startswith("PCI_")]
            assert address in rig.stub.devices(name)
            assert "/dev/vfio/vfio" in given.devices
        else:
            assert given.envs == {}
            assert [path[:16] for path in given.devices] == ["/dev/kfd", "/dev/dri/renderD"]
            assert {node.permissions for node in given.devices.values()} == {"rw"}
    assert rig.stub.violations == []
    assert rig.stub.crashes == []


async def test_naming_single_offers_partitions_as_gpus(rig: Rig) -> None:
    await serving(rig, NODES["demo"], "amd: {resource_naming: single}")
    await rig.capacity({GPU: 9, VM_SLICE: 8})


@pytest.mark.parametrize(
    ("archive", "capacity"),
    [
        ("amd-kfd-mi210-x8.tar.xz", {GPU: 8}),
        ("amd-kfd-mi300x-cpx-x8.tar.xz", {CPX: 63}),
    ],
)
async def test_a_recorded_machine_is_served_whole(
    rig: Rig, archive: str, capacity: dict[str, int]
) -> None:
    daemon = await serving(rig, recorded_tree(archive))
    await rig.capacity(capacity)
    (name,) = capacity
    await rig.stub.admit("pod", {"main": {name: capacity[name]}})
    nodes = rig.stub.merged("pod", "main").devices
    assert len(nodes) == capacity[name] + 1
    assert {event["code"] for event in daemon.events("fault")} == (
        {"partition_missing"} if name == CPX else set()
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cpx(shared: Rig) -> Rig:
    """A daemon that serves an MI300X in CPX."""
    await serving(shared, NODES["mi300x-cpx"])
    await shared.capacity({CPX: 8})
    return shared


@pytest.mark.parametrize(
    "ids",
    [["amd-0000000000000000"], ["amd-e3aa140f9a5f9e31"], ["../../etc"], []],
    ids=["no such GPU", "a GPU in partitions", "no id at all", "nothing"],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_unknown_ids_are_refused(cpx: Rig, ids: Sequence[str]) -> None:
    (daemon,) = cpx.daemons
    told = len(daemon.events("allocate_refused", resource=CPX))
    with pytest.raises(RpcError) as refused:
        await cpx.stub.allocate(CPX, ids)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    await daemon.until(lambda: len(daemon.events("allocate_refused", resource=CPX)) == told + 1)


async def test_two_functions_in_one_request_give_both_addresses(rig: Rig) -> None:
    await serving(rig, NODES["gim-v620"])
    await rig.capacity({VM_SLICE: 8})
    ids = ["0000:c3:02.4", "0000:c3:02.1"]
    answer = await rig.stub.allocate(VM_SLICE, ids)
    (container,) = answer.container_responses
    assert container.envs[KUBEVIRT] == "0000:c3:02.1,0000:c3:02.4"
    paths = [device.container_path for device in container.devices]
    assert paths == ["/dev/vfio/vfio", "/dev/vfio/219", "/dev/vfio/222"]


async def test_cpx_to_spx_turns_eight_devices_into_one_and_back(rig: Rig) -> None:
    """Ids of partitions that are gone stay as tombstones: what counts is what is allocatable."""
    gpus: tuple[SimulatedGpu, ...] = (mi300x(),)
    await serving(rig, amd_tree(gpus))
    await rig.capacity({CPX: 8})
    for _ in range(2):
        gpus = switch_mode(rig.host_root, gpus, gpus[0].address, "SPX")
        await rig.allocatable({GPU: 1, CPX: 0})
        gpus = switch_mode(rig.host_root, gpus, gpus[0].address, "CPX")
        await rig.allocatable({GPU: 0, CPX: 8})
    assert rig.stub.crashes == []


async def test_a_function_bound_elsewhere_and_back_leaves_and_returns(rig: Rig) -> None:
    await serving(rig, NODES["gim-v620"])
    await rig.capacity({VM_SLICE: 8})
    driver = f"/sys/devices/pci0000:40/{V620_HOST.vf_address(0)}/driver"
    remove(rig.host_root, driver)
    await rig.allocatable({VM_SLICE: 7})
    write_tree(rig.host_root, f"{driver} -> ../../../bus/pci/drivers/vfio-pci")
    await rig.allocatable({VM_SLICE: 8})


async def test_a_vfio_node_that_goes_takes_its_function_off_the_list_of_healthy_ones(
    rig: Rig,
) -> None:
    daemon = await serving(rig, NODES["gim-v620"])
    await rig.capacity({VM_SLICE: 8})
    remove(rig.host_root, "/dev/vfio/219")
    await rig.allocatable({VM_SLICE: 7})
    fault = await daemon.wait_event("fault", code="vfio_node_missing")
    assert "/dev/vfio/219" in fault["reason"]
