"""Drivers of virtual functions: for containers or for machines, on trees with a small kernel."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.host import Host
from deviceplugin.provision.held import holders_of, touched
from deviceplugin.provision.journal import Journal
from deviceplugin.provision.planner import plan_gpu
from deviceplugin.provision.report import plan_document, plan_text
from deviceplugin.provision.section import Layout, VirtualFunctions
from deviceplugin.provision.transaction import Transaction
from deviceplugin.provision.values import Outcome, Plan, Planned
from deviceplugin.testing.amd import V620_HOST, write_amd_node
from deviceplugin.testing.intel import B60, iommu_group, vf_address, write_intel_node
from deviceplugin.testing.partition_kernel import Kernel
from deviceplugin.testing.pci_drivers import driver_of
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendor.partitions import PartitionedGpu, Partitioner, Verb
from deviceplugin.vendors.amd.partitioning import AmdPartitioner
from deviceplugin.vendors.intel.partitioning import IntelPartitioner

XE = replace(B60, total_vfs=4)
NONE = Layout(none=True)
FUNCTIONS = "0000:c3:02.0"


class Node:
    """A GPU below a tree, and the kernel that answers writes."""

    def __init__(self, folder: Path, vendor: str) -> None:
        self.root, self.state = folder / "root", folder / "state"
        if vendor == "intel":
            write_intel_node(self.root, XE)
        else:
            write_amd_node(self.root, (), [V620_HOST])
        write_tree(self.root, "/sys/bus/pci/drivers/vfio-pci/\n/sys/bus/pci/drivers/amdgpu/\n")
        self.kernel = Kernel(self.root, intel=(XE,))
        self.made: type[AmdPartitioner | IntelPartitioner] = (
            IntelPartitioner if vendor == "intel" else AmdPartitioner
        )
        self.written: list[str] = []

    @property
    def hands(self) -> Partitioner:
        return self.made(Host(self.root), self.write)

    def write(self, path: str, text: str) -> None:
        self.written.append(f"{path.removeprefix('/sys/bus/pci/')}={text.strip()}")
        self.kernel.write(path, text)

    def gpu(self) -> PartitionedGpu:
        (gpu,) = self.hands.read()
        return gpu

    def plan(self, layout: Layout) -> Planned:
        return plan_gpu(self.gpu(), layout, Plan())

    def make(self, layout: Layout) -> Outcome:
        planned = self.plan(layout)
        assert planned.state == "change", planned.reason
        journal = Journal(self.state, "boot")
        return Transaction(journal, self.hands, lambda _: ()).run(planned.steps)

    def drivers(self, count: int) -> Sequence[str | None]:
        return [driver_of(self.root, vf_address(XE, n)) for n in range(1, count + 1)]

    def autoprobe(self) -> str:
        path = self.root / f"sys/bus/pci/devices/{XE.address}/sriov_drivers_autoprobe"
        return path.read_text().strip()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, "intel")


@pytest.fixture
def host(tmp_path: Path) -> Node:
    """A GPU whose functions the gim driver makes."""
    return Node(tmp_path, "amd")


def wish(count: int, driver: str | None, memory: str | None = None) -> Layout:
    functions = {"count": count, "driver": driver, "memory": memory}
    return Layout(virtual_functions=VirtualFunctions(**functions))  # type: ignore[arg-type]  # by name


def test_functions_for_machines_are_made_without_another_driver_first(node: Node) -> None:
    assert node.make(wish(2, "vfio-pci", "4GiB")).state == "done"
    assert node.drivers(2) == ["vfio-pci", "vfio-pci"]
    assert node.plan(wish(2, "vfio-pci", "4GiB")).state == "as-wanted"
    order = [one.rpartition("/")[2] for one in node.written if "vram_quota" not in one]
    assert order[:3] == ["sriov_drivers_autoprobe=0", "sriov_numvfs=2", "driver_override=vfio-pci"]
    assert (node.root / f"dev/vfio/{iommu_group(XE, 1)}").exists()


def test_functions_go_and_the_kernel_gives_new_ones_to_a_driver_again(node: Node) -> None:
    node.make(wish(2, "vfio-pci"))
    assert node.make(NONE).state == "done"
    assert node.gpu().functions.count == 0  # type: ignore[union-attr]
    assert node.autoprobe() == "1"
    assert not (node.root / f"dev/vfio/{iommu_group(XE, 1)}").exists()


def test_functions_change_their_driver_and_stay(node: Node) -> None:
    node.make(wish(2, "xe"))
    assert node.drivers(2) == ["xe", "xe"]
    planned = node.plan(wish(2, "vfio-pci"))
    assert [step.verb for step in planned.steps] == [Verb.DRIVER]
    node.written.clear()
    assert node.make(wish(2, "vfio-pci")).state == "done"
    assert not any("numvfs" in one for one in node.written)
    assert node.make(wish(2, "xe")).state == "done"
    assert node.drivers(2) == ["xe", "xe"]
    override = node.root / f"sys/bus/pci/devices/{vf_address(XE, 1)}/driver_override"
    assert override.read_text().strip() == "(null)"


def test_another_number_of_functions_for_machines_is_made(node: Node) -> None:
    node.make(wish(2, "vfio-pci"))
    assert node.make(wish(4, "xe")).state == "done"
    assert node.drivers(4) == ["xe"] * 4
    assert node.make(wish(3, "vfio-pci")).state == "done"
    assert node.drivers(3) == ["vfio-pci"] * 3


def test_a_driver_that_takes_none_leaves_what_was(node: Node) -> None:
    node.make(wish(2, "vfio-pci"))
    node.kernel.unable = frozenset({"xe"})
    outcome = node.make(wish(3, "xe"))
    assert outcome.state == "undone"
    assert "was not taken by xe, it has no driver" in outcome.reason
    assert (node.drivers(2), node.autoprobe()) == (["vfio-pci", "vfio-pci"], "0")
    assert node.make(wish(2, "xe")).state == "undone"
    assert node.drivers(2) == ["vfio-pci", "vfio-pci"]


def test_a_driver_that_is_not_loaded_is_told(node: Node) -> None:
    remove(node.root, "/sys/bus/pci/drivers/vfio-pci")
    planned = node.plan(wish(2, "vfio-pci"))
    assert planned.state == "refused"
    assert planned.reason == "vfio-pci is not loaded on this node: modprobe vfio-pci"


def test_a_gpu_of_another_vendor_is_told_what_there_is(node: Node) -> None:
    planned = node.plan(wish(2, "amdgpu"))
    assert planned.state == "refused"
    assert planned.reason.endswith("take xe or vfio-pci, not amdgpu")


def test_without_an_iommu_no_machine_gets_a_function(node: Node) -> None:
    remove(node.root, f"/sys/devices/pci0000:00/{XE.address}/iommu_group")
    planned = node.plan(wish(2, "vfio-pci"))
    assert planned.state == "refused"
    assert f"{XE.address} is in no IOMMU group" in planned.reason
    assert node.plan(wish(2, "xe")).state == "change"


def test_a_group_with_something_else_in_it_is_refused_and_a_bridge_is_not(node: Node) -> None:
    node.make(wish(2, "xe"))
    members = f"/sys/kernel/iommu_groups/{iommu_group(XE, 2)}/devices"
    nic, bridge = "0000:05:00.0", "0000:00:01.0"
    write_tree(node.root, f"/sys/bus/pci/devices/{bridge}/class = 0x060400\n{members}/{bridge}/\n")
    assert node.plan(wish(2, "vfio-pci")).state == "change"
    write_tree(node.root, f"/sys/bus/pci/devices/{nic}/class = 0x020000\n{members}/{nic}/\n")
    planned = node.plan(wish(2, "vfio-pci"))
    assert planned.state == "refused"
    assert f"IOMMU group {iommu_group(XE, 2)} with {nic}:" in planned.reason


def test_a_group_that_turns_out_shared_leaves_what_was(node: Node) -> None:
    members = f"/sys/kernel/iommu_groups/{iommu_group(XE, 2)}/devices"
    planned = node.plan(wish(2, "vfio-pci"))
    write = node.write

    def crowded(path: str, text: str) -> None:
        write(path, text)
        if path.endswith("numvfs") and text == "2":
            write_tree(node.root, f"{members}/0000:05:00.0/\n")

    hands = IntelPartitioner(Host(node.root), crowded)
    outcome = Transaction(Journal(node.state, "boot"), hands, lambda _: ()).run(planned.steps)
    assert outcome.state == "undone"
    assert "a machine would get all of them" in outcome.reason
    assert (node.gpu().functions.count, node.autoprobe()) == (0, "1")  # type: ignore[union-attr]


def test_a_function_that_a_machine_has_is_waited_for(node: Node) -> None:
    node.make(wish(2, "vfio-pci"))
    write_tree(node.root, f"/proc/77/fd/3 -> /dev/vfio/{iommu_group(XE, 2)}\n")
    planned = node.plan(wish(2, "xe"))
    assert planned.state == "pending"
    assert f"process 77 on {vf_address(XE, 2)}" in planned.reason
    remove(node.root, "/proc/77")
    (step,) = node.plan(wish(2, "xe")).steps
    assert touched(node.gpu(), [step]) == ((), frozenset({XE.address}))
    write_tree(node.root, f"/proc/77/fd/3 -> /dev/vfio/{iommu_group(XE, 2)}\n")
    assert holders_of(node.gpu(), {}, step) == (f"process 77 on {vf_address(XE, 2)}",)


def test_a_plan_tells_where_functions_go(node: Node) -> None:
    text = plan_text(plan_document([node.plan(wish(2, "vfio-pci"))], {}))
    assert "2 virtual functions for vfio-pci" in text
    assert "drivers take new functions: no" in text
    assert "functions go 2 to vfio-pci" in text
    node.make(wish(2, "vfio-pci"))
    assert "functions go 2 to no driver" in plan_text(plan_document([node.plan(NONE)], {}))


def test_functions_of_gim_change_their_driver_and_nothing_else(host: Node) -> None:
    assert host.plan(wish(8, "vfio-pci")).state == "as-wanted"
    assert "gim driver" in host.plan(wish(4, "vfio-pci")).reason
    assert "gim driver" in host.plan(wish(8, "amdgpu", "2GiB")).reason
    assert host.plan(wish(8, "xe")).reason.endswith("take amdgpu or vfio-pci, not xe")
    assert host.make(wish(8, "amdgpu")).state == "done"
    assert driver_of(host.root, FUNCTIONS) == "amdgpu"
    assert host.make(wish(8, "vfio-pci")).state == "done"
    assert driver_of(host.root, FUNCTIONS) == "vfio-pci"


def test_functions_of_gim_that_amdgpu_does_not_take_stay_for_machines(host: Node) -> None:
    host.kernel.unable = frozenset({"amdgpu"})
    assert host.make(wish(8, "amdgpu")).state == "undone"
    assert driver_of(host.root, FUNCTIONS) == "vfio-pci"
    group = V620_HOST.group
    write_tree(host.root, f"/proc/9/fd/3 -> /dev/vfio/{group}\n")
    assert host.plan(wish(8, "amdgpu")).state == "pending"
