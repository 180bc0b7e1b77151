"""Sizes of memory, part by part: what whole trees do not tell apart."""

from pathlib import Path

import pytest

from deviceplugin.host import Host
from deviceplugin.host.drm import DrmNodes
from deviceplugin.host.pci import PciFunction
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.intel.found import Board
from deviceplugin.vendors.intel.gpu import IntelGpu
from deviceplugin.vendors.intel.memory import (
    Memory,
    is_slice,
    read_local_memory,
    read_tiles,
)
from deviceplugin.vendors.intel.products import PRODUCTS
from deviceplugin.vendors.intel.quota import read_quota
from deviceplugin.vendors.intel.reader import Reader

ADDRESS = "0000:04:00.0"
D = f"/sys/bus/pci/devices/{ADDRESS}"
DEBUGFS = f"/sys/kernel/debug/dri/{ADDRESS}"
GIB = 1 << 30


def reader(root: Path, tree: str = "") -> Reader:
    write_tree(root, tree)
    return Reader(host=Host(root), query=lambda driver, node: None)


def gpu(device_id: int = 0xE211, address: str = ADDRESS, **changed: object) -> IntelGpu:
    values: dict[str, object] = {
        "function": PciFunction(
            address=address,
            vendor_id=0x8086,
            device_id=device_id,
            class_id=0x030000,
            driver="xe",
            numa_node=None,
        ),
        "product": PRODUCTS.get(device_id),
        "drm": DrmNodes(card="/dev/dri/card1", render="/dev/dri/renderD128"),
        "physical": None,
        "virtual": (),
        "total_virtual": None,
        "enabled_virtual": 0,
        "iommu_group": None,
    }
    return IntelGpu(**(values | changed))  # type: ignore[arg-type]  # one dict for all fields


@pytest.mark.parametrize(
    ("source", "slice_"),
    [("ioctl", True), ("sysfs", True), ("debugfs", True), ("bar", False), ("table", False)],
)
def test_only_the_drivers_own_number_shows_a_slice_in_a_guest(source: str, slice_: bool) -> None:
    assert is_slice(gpu(), Memory(bytes=4 * GIB, source=source)) is slice_


@pytest.mark.parametrize(("size", "slice_"), [(16 * GIB, True), (17 * GIB, False)])
def test_a_slice_has_less_than_seven_tenths_of_its_board(size: int, slice_: bool) -> None:
    assert is_slice(gpu(), Memory(bytes=size, source="ioctl")) is slice_


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (
            f"{D}/tile0/physical_vram_size_bytes = 7\n{D}/tile1/physical_vram_size_bytes = 5",
            Memory(bytes=12, source="sysfs"),
        ),
        (
            f"{D}/tile0/physical_vram_size_bytes = 7\n{D}/tile1/",
            Memory(bytes=24 * GIB, source="table"),
        ),
        (
            f"{D}/tiles/physical_vram_size_bytes = 7",
            Memory(bytes=24 * GIB, source="table"),
        ),
        (
            f"{DEBUGFS}/tile0/vram_mm = size: 7\n{DEBUGFS}/tile1/vram_mm = size: 5",
            Memory(bytes=12, source="debugfs"),
        ),
        (
            f"{DEBUGFS}/tile0/vram_mm = size: 7\n{DEBUGFS}/tile1/vram_mm = free: 5",
            Memory(bytes=24 * GIB, source="table"),
        ),
        (f"{DEBUGFS}/vram0_mm = size: 7", Memory(bytes=7, source="debugfs")),
    ],
    ids=[
        "two tiles",
        "one of two is not known",
        "no tile",
        "two in debugfs",
        "one of two in debugfs is not known",
        "old debugfs",
    ],
)
def test_the_parts_of_a_gpus_memory_are_summed_or_not_used(
    tmp_path: Path, tree: str, expected: Memory
) -> None:
    whole = gpu(total_virtual=0)
    assert read_local_memory(reader(tmp_path, tree), whole) == expected


@pytest.mark.parametrize(
    ("device_id", "tree", "tiles"),
    [
        (0x0BD5, f"{D}/drm/card1/gt/gt0/\n{D}/drm/card1/gt/gt1/", 2),
        (0x7D67, f"{D}/drm/card1/gt/gt0/\n{D}/drm/card1/gt/gt1/", 1),
        (0xE211, f"{D}/tile0/\n{D}/tile1/\n{D}/drm/card1/gt/gt0/", 2),
        (0x7D67, "", None),
    ],
    ids=["a GT a tile", "a media GT is none", "xe's tiles come first", "nothing is shown"],
)
def test_tiles_are_counted_as_the_driver_shows_them(
    tmp_path: Path, device_id: int, tree: str, tiles: int | None
) -> None:
    assert read_tiles(reader(tmp_path, tree), gpu(device_id)) == tiles


VIRTUAL = ("0000:04:00.1", "0000:04:00.2", "0000:04:00.3")
SPARE = f"{DEBUGFS}/sriov/pf"


@pytest.mark.parametrize(
    ("enabled", "tree", "share"),
    [
        (3, "", 4 * GIB),
        (4, "", 3 * GIB),
        (0, "", 4 * GIB),
        (3, f"{SPARE}/tile0/vram_spare = {3 * GIB}", 3 * GIB),
        (
            3,
            f"{SPARE}/tile0/vram_spare = {GIB}\n{SPARE}/tile1/vram_spare = {2 * GIB}",
            3 * GIB,
        ),
        (3, f"{DEBUGFS}/gt0/pf/lmem_spare = {6 * GIB}", 2 * GIB),
        (3, f"{DEBUGFS}/gt1/pf/lmem_spare = {6 * GIB}", 4 * GIB),
        (3, f"{SPARE}/tile0/vram_spare = {12 * GIB}", None),
        (3, f"{SPARE}/tile0/vram_spare = {13 * GIB}", None),
    ],
    ids=[
        "of as many as there are",
        "of more than are on the bus yet",
        "of those on the bus where the number is not known",
        "less the spare",
        "less the spare of two tiles",
        "less the spare of older kernels",
        "the first GT has it",
        "all is spare",
        "more than all is spare",
    ],
)
def test_an_even_share_is_of_what_the_gpu_does_not_keep(
    tmp_path: Path, enabled: int, tree: str, share: int | None
) -> None:
    owner = gpu(virtual=VIRTUAL, enabled_virtual=enabled, total_virtual=12)
    memory = Memory(bytes=12 * GIB, source="table")
    board = Board(gpu=owner, memory=memory, tiles=None, problems=())
    part = gpu(address=VIRTUAL[0], physical=ADDRESS)
    found = read_quota(reader(tmp_path, tree), part, board)
    assert found == (None if share is None else Memory(bytes=share, source="share of table"))


def test_no_total_and_no_functions_make_no_share(tmp_path: Path) -> None:
    owner = gpu(virtual=VIRTUAL, enabled_virtual=3, total_virtual=12)
    board = Board(gpu=owner, memory=None, tiles=None, problems=())
    assert read_quota(reader(tmp_path), gpu(address=VIRTUAL[1], physical=ADDRESS), board) is None
