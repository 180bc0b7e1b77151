"""A running daemon with GPUs of AMD and Intel: all go to another memory mode together, and
functions go from containers to machines, when no pod has any of them."""

from collections.abc import Iterator
from threading import Event, Thread

import pytest
from msgspec.structs import replace

from deviceplugin.host import Host
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.server import serve
from deviceplugin.testing.amd import MI300X, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, write_intel_node
from deviceplugin.testing.partition_kernel import Kernel
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor.partitions import Partitioner
from deviceplugin.vendors.amd.partitioning import AmdPartitioner
from deviceplugin.vendors.intel.partitioning import IntelPartitioner
from tests.rig import WAIT_S, Rig

pytestmark = pytest.mark.slow

GPU, CPX = "amd.com/gpu", "amd.com/cpx_nps4"
GPUS = tuple(
    SimulatedGpu(address=address, model=MI300X, hive=7, unique_id=f"{number}" * 16)
    for number, address in enumerate(("0000:05:00.0", "0000:27:00.0"), 1)
)
CONTAINERS, MACHINES = "intel.com/xe-4gb", "intel.com/xe-4gb-vfio"
XE = replace(B60, total_vfs=4, card=70, render=200, group=300)
FUNCTIONS = """
partitions: [{{virtual_functions: {{count: 4, memory: 4GiB, driver: {}}}}}]
"""
CUT = """
amd: {resource_naming: mixed}
partitions: [{select: {vendor: amd}, compute: CPX, memory: NPS4}]
"""


@pytest.fixture
def kernel(rig: Rig) -> Iterator[Kernel]:
    """With the privileged process in a thread: the tree answers no writes by itself."""
    write_amd_node(rig.host_root, GPUS)
    write_intel_node(rig.host_root, XE)
    write_tree(rig.host_root, "/sys/bus/pci/drivers/vfio-pci/\n")
    kernel = Kernel(rig.host_root, intel=(XE,), amd=GPUS)
    host = Host(rig.host_root)
    amd = AmdPartitioner(host, kernel.write, kernel)
    amd.allow_reload()
    hands: dict[str, Partitioner] = {"amd": amd, "intel": IntelPartitioner(host, kernel.write)}
    helper, stop = Helper(hands, Around(state_dir=rig.state_dir, boot="")), Event()
    thread = Thread(target=serve, args=(rig.state_dir, helper.answer, stop))
    thread.start()
    yield kernel
    stop.set()
    thread.join(WAIT_S)


async def test_all_gpus_change_when_no_pod_has_one_and_come_back(rig: Rig, kernel: Kernel) -> None:
    await rig.stub.start()
    config = rig.config("amd: {resource_naming: mixed}")
    daemon = rig.start("--config", str(config), "--vendors", "amd")
    await rig.allocatable({GPU: 2})
    await rig.stub.admit("pod", {"main": {GPU: 1}})
    config.write_text(CUT)
    await daemon.until(
        lambda: any("default/pod" in e["reason"] for e in daemon.events("partitions_waiting"))
    )
    assert kernel.amdgpu is not None
    await daemon.shows(r'^deviceplugin_partition_gpus{state="pending",vendor="amd"} 2')
    assert rig.stub.allocatable()[GPU] == 2  # what is free serves on
    rig.stub.remove_pod("pod")
    await rig.allocatable({GPU: 0, CPX: 16})
    await daemon.wait_event("partitions_changed")
    await daemon.shows(r'^deviceplugin_partition_gpus{state="as-wanted",vendor="amd"} 2')
    assert len(daemon.events("partitions_changed")) == 1
    config.write_text("amd: {resource_naming: mixed}\npartitions: [{none: true}]")
    await rig.allocatable({GPU: 2, CPX: 0})


async def test_functions_go_from_containers_to_machines_when_no_pod_has_one(
    rig: Rig, kernel: Kernel
) -> None:
    await rig.stub.start()
    config = rig.config(FUNCTIONS.format("xe"))
    daemon = rig.start("--config", str(config), "--vendors", "intel")
    await rig.allocatable({CONTAINERS: 4})
    await rig.stub.admit("pod", {"main": {CONTAINERS: 1}})
    config.write_text(FUNCTIONS.format("vfio-pci"))
    await daemon.until(
        lambda: any("default/pod" in e["reason"] for e in daemon.events("partitions_waiting"))
    )
    assert rig.stub.allocatable()[CONTAINERS] == 4
    rig.stub.remove_pod("pod")
    await rig.allocatable({CONTAINERS: 0, MACHINES: 4})
    given = (await rig.one_of_each({MACHINES: 4}))[MACHINES]
    assert "/dev/vfio/vfio" in given.devices
