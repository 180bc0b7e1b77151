"""A running daemon on an AMD node: all GPUs go to another memory mode together, when no pod has any
of them."""

from collections.abc import Iterator
from threading import Event, Thread

import pytest

from deviceplugin.host import Host
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.server import serve
from deviceplugin.testing.amd import MI300X, SimulatedGpu, write_amd_node
from deviceplugin.testing.partition_kernel import Kernel
from deviceplugin.vendors.amd.partitioning import AmdPartitioner
from tests.rig import WAIT_S, Rig

pytestmark = pytest.mark.slow

GPU, CPX = "amd.com/gpu", "amd.com/cpx_nps4"
GPUS = tuple(
    SimulatedGpu(address=address, model=MI300X, hive=7, unique_id=f"{number}" * 16)
    for number, address in enumerate(("0000:05:00.0", "0000:27:00.0"), 1)
)
CUT = """
amd: {resource_naming: mixed}
partitions: [{select: {vendor: amd}, compute: CPX, memory: NPS4}]
"""


@pytest.fixture
def kernel(rig: Rig) -> Iterator[Kernel]:
    """With the privileged process in a thread: the tree answers no writes by itself."""
    write_amd_node(rig.host_root, GPUS)
    kernel = Kernel(rig.host_root, amd=GPUS)
    hands = AmdPartitioner(Host(rig.host_root), kernel.write, kernel)
    hands.allow_reload()
    helper, stop = Helper({"amd": hands}, Around(state_dir=rig.state_dir, boot="")), Event()
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
