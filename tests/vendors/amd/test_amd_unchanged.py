"""An AMD vendor sees by a glance what has changed, without a word of the kernel."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deviceplugin.errors import UnavailableError
from deviceplugin.testing.amd import amd_tree, switch_mode
from deviceplugin.testing.tree import remove, write_tree
from tests.vendors.amd.amd_nodes import NODES, mi300x, vendor_at

GPU = mi300x()
AT = f"/sys/devices/pci0000:40/{GPU.address}"
KFD = "/sys/class/kfd/kfd/topology"


def to_spx(root: Path) -> None:
    switch_mode(root, [GPU], GPU.address, "SPX")


def mode_alone(root: Path) -> None:
    write_tree(root, f"{AT}/current_compute_partition = SPX")


def memory_mode(root: Path) -> None:
    write_tree(root, f"{AT}/current_memory_partition = NPS1")


def generation(root: Path) -> None:
    write_tree(root, f"{KFD}/generation_id = 77")


def node_of_kfd_goes(root: Path) -> None:
    remove(root, f"{KFD}/nodes/3")


def device_node_goes(root: Path) -> None:
    remove(root, "/dev/dri/renderD131")


def kfd_goes(root: Path) -> None:
    remove(root, "/dev/kfd")


def unbound(root: Path) -> None:
    remove(root, f"{AT}/driver")


def other_driver(root: Path) -> None:
    remove(root, f"{AT}/driver")
    write_tree(root, f"{AT}/driver -> ../../../bus/pci/drivers/vfio-pci")


def gpu_leaves(root: Path) -> None:
    remove(root, f"/sys/bus/pci/devices/{GPU.address}")


def gpu_comes(root: Path) -> None:
    write_tree(root, amd_tree([GPU, mi300x(address="0000:27:00.0", unique_id="e3aa140f9a5f9e32")]))


def driver_version(root: Path) -> None:
    write_tree(root, "/sys/module/amdgpu/version = 6.17.1")


CHANGES = (
    to_spx,
    mode_alone,
    memory_mode,
    generation,
    node_of_kfd_goes,
    device_node_goes,
    kfd_goes,
    unbound,
    other_driver,
    gpu_leaves,
    gpu_comes,
    driver_version,
)


@pytest.mark.parametrize("node", NODES)
def test_every_node_is_unchanged_until_it_changes(node: str, tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES[node])
    assert not vendor.unchanged()
    vendor.discover()
    assert vendor.unchanged()
    assert vendor.unchanged()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_glance_sees(change: Callable[[Path], None], tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi300x-cpx"])
    vendor.discover()
    change(tmp_path)
    assert not vendor.unchanged()


@pytest.mark.parametrize("functions", ["virtfn0", "sriov_numvfs"])
def test_a_glance_sees_another_number_of_virtual_functions(functions: str, tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["gim-v620"])
    vendor.discover()
    (found,) = tmp_path.glob(f"sys/devices/*/*/{functions}")
    found.unlink()
    found.write_text("4")
    assert not vendor.unchanged()


def test_without_a_count_of_generations_the_files_of_kfd_are_read_again(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi300x-cpx"])
    remove(tmp_path, f"{KFD}/generation_id")
    vendor.discover()
    assert vendor.unchanged()
    bank = tmp_path / KFD.lstrip("/") / "nodes/3/mem_banks/0/properties"
    bank.write_text("heap_type 1\nsize_in_bytes 1073741824\n")
    assert not vendor.unchanged()


def test_a_glance_sees_the_first_gpu_of_a_node(tmp_path: Path) -> None:
    write_tree(tmp_path, "/sys/bus/pci/devices/")
    vendor = vendor_at(tmp_path, "")
    with pytest.raises(UnavailableError):
        vendor.discover()
    assert vendor.unchanged()
    write_tree(tmp_path, NODES["mi300x-cpx"])
    assert not vendor.unchanged()
