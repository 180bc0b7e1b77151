"""Compute modes and virtual functions: the plan, and the hands on trees with a small kernel."""

import errno
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.host.attributes import write_attribute
from deviceplugin.host.openers import UNKNOWN, read_openers
from deviceplugin.provision.journal import Journal
from deviceplugin.provision.planner import plan_gpu
from deviceplugin.provision.section import Layout, VirtualFunctions
from deviceplugin.provision.transaction import Transaction
from deviceplugin.provision.values import Plan
from deviceplugin.testing.amd import MI300X, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, write_intel_node
from deviceplugin.testing.partition_kernel import Kernel
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor.partitions import PartitionedGpu, Partitioner, Step, Verb
from deviceplugin.vendors.amd.partitioning import AmdPartitioner
from deviceplugin.vendors.intel.partitioning import IntelPartitioner

GPU = "0000:63:00.0"


def amd(root: Path, *busy: str) -> Partitioner:
    write_amd_node(root, [SimulatedGpu(address=GPU, model=MI300X)])
    return AmdPartitioner(Host(root), Kernel(root, busy=frozenset(busy)).write)


def intel(root: Path) -> Partitioner:
    write_intel_node(root, B60)
    return IntelPartitioner(Host(root), Kernel(root, intel=(B60,)).write)


def only(hands: Partitioner) -> PartitionedGpu:
    (gpu,) = hands.read()
    return gpu


def make(hands: Partitioner, layout: Layout, folder: Path) -> str:
    planned = plan_gpu(only(hands), layout, Plan())
    assert planned.state == "change", planned.reason
    journal = Journal(folder / "state", "boot")
    return Transaction(journal, hands, lambda _: ()).run(planned.steps).state


def reason(gpu: PartitionedGpu, layout: Layout) -> tuple[str, str]:
    planned = plan_gpu(gpu, layout, Plan())
    assert planned.steps == ()
    return planned.state, planned.reason


def functions(count: int, memory: str | None = None) -> Layout:
    return Layout(virtual_functions=VirtualFunctions(count=count, memory=memory))


def test_a_compute_mode_is_set_and_set_back(tmp_path: Path) -> None:
    hands = amd(tmp_path)
    assert make(hands, Layout(compute="DPX"), tmp_path) == "done"
    modes = only(hands).modes
    assert modes is not None
    assert modes.compute == "DPX"
    assert make(hands, Layout(none=True), tmp_path) == "done"
    assert plan_gpu(only(hands), Layout(compute="SPX", memory="NPS1"), Plan()).state == "as-wanted"


def test_a_compute_mode_that_the_kernel_refuses_is_left_as_it_was(tmp_path: Path) -> None:
    hands = amd(tmp_path, GPU)
    assert make(hands, Layout(compute="DPX"), tmp_path) == "undone"
    modes = only(hands).modes
    assert modes is not None
    assert modes.compute == "SPX"


def test_modes_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    gpu = only(amd(tmp_path))
    assert "provision --reload-drivers" in reason(gpu, Layout(compute="CPX", memory="NPS4"))[1]
    assert gpu.modes is not None
    four = replace(gpu, modes=replace(gpu.modes, memory="NPS4"))
    state, text = reason(four, Layout(compute="DPX"))
    assert (state, text) == ("refused", "DPX needs the memory mode NPS1 or NPS2, and it is NPS4")
    assert "the driver offers SPX, DPX, QPX, CPX" in reason(gpu, Layout(compute="TPX"))[1]
    used = replace(gpu, users=("process 7",))
    assert reason(used, Layout(compute="CPX"))[0] == "pending"
    assert reason(gpu, Layout(mig={"1g.5gb": 1}))[1].endswith("has no MIG")


def test_functions_are_made_with_their_memory_and_removed(tmp_path: Path) -> None:
    hands = intel(tmp_path)
    assert make(hands, functions(4, "4GiB"), tmp_path) == "done"
    made = only(hands).functions
    assert made is not None
    assert (made.count, made.quota_bytes) == (4, 4 << 30)
    assert plan_gpu(only(hands), functions(4, "4GiB"), Plan()).state == "as-wanted"
    file = f"sys/bus/pci/devices/{B60.address}/sriov_admin/vf{{}}/profile/vram_quota"
    quotas = [(tmp_path / file.format(number)).read_text().strip() for number in (1, 4, 5)]
    assert quotas == [str(4 << 30), str(4 << 30), "0"]
    assert make(hands, functions(2, "8GiB"), tmp_path) == "done"
    assert (tmp_path / file.format(3)).read_text().strip() == "0"
    assert make(hands, functions(3), tmp_path) == "done"
    assert (tmp_path / file.format(1)).read_text().strip() == "0"  # equal shares again
    assert make(hands, Layout(none=True), tmp_path) == "done"
    assert only(hands).functions.count == 0  # type: ignore[union-attr]


def test_a_step_of_another_vendor_is_refused(tmp_path: Path) -> None:
    step = Step(gpu=B60.address, verb=Verb.COMPUTE, name="CPX")
    with pytest.raises(VendorError, match="knows no compute_mode"):
        intel(tmp_path / "i").apply(step)
    with pytest.raises(VendorError, match="knows no create"):
        amd(tmp_path / "a").apply(Step(gpu=GPU, verb=Verb.CREATE, name="1g.5gb"))


def test_a_quota_that_the_driver_rounds_up_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    hands = intel(tmp_path)
    assert make(hands, functions(3, "1000MB"), tmp_path) == "done"
    assert plan_gpu(only(hands), functions(3, "1000MB"), Plan()).state == "as-wanted"


def test_functions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    gpu = only(intel(tmp_path))
    assert gpu.functions is not None
    assert "sriov_totalvfs is 12" in reason(gpu, functions(13))[1]
    small = replace(gpu, functions=replace(gpu.functions, memory_bytes=8 << 30))
    assert "are more than" in reason(small, functions(4, "4GiB"))[1]
    old = replace(gpu, functions=replace(gpu.functions, quotas=False))
    assert "are more than" in reason(gpu, functions(12, "4GiB"))[1]  # no B60 has 48 GiB
    assert "has no vram_quota" in reason(old, functions(4, "4GiB"))[1]
    i915 = Layout(virtual_functions=VirtualFunctions(count=1, driver="i915"))
    assert reason(gpu, i915)[1].endswith("take xe or vfio-pci, not i915")


def test_functions_in_use_are_waited_for(tmp_path: Path) -> None:
    hands = intel(tmp_path)
    assert make(hands, functions(2), tmp_path) == "done"
    write_tree(tmp_path, "/proc/77/fd/3 -> /dev/dri/renderD129\n")
    state, text = reason(only(hands), functions(4))
    assert state == "pending"
    assert "process 77 on 0000:04:00.1" in text
    assert reason(only(hands), functions(2))[0] == "as-wanted"


def test_openers_are_those_of_the_nodes_alone(tmp_path: Path) -> None:
    write_tree(tmp_path, "/proc/7/fd/3 -> /dev/dri/card1\n/proc/8/fd/3 -> /dev/null\n/proc/self/\n")
    assert read_openers(Host(tmp_path), ["/dev/dri/card1"]) == ("process 7",)
    assert read_openers(Host(tmp_path), []) == ()
    write_tree(tmp_path, "/proc/9/fd = no directory that can be read\n")
    assert read_openers(Host(tmp_path), ["/dev/dri/card2"]) in ((), (UNKNOWN,))


def test_an_attribute_is_written_and_not_created(tmp_path: Path) -> None:
    write_tree(tmp_path, "/sys/one = 1\n")
    write_attribute(Host(tmp_path), "/sys/one", "2")
    assert (tmp_path / "sys/one").read_text().startswith("2")
    with pytest.raises(VendorError, match=os.strerror(errno.ENOENT)):
        write_attribute(Host(tmp_path), "/sys/two", "2")
    assert not (tmp_path / "sys/two").exists()
