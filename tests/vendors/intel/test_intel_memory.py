"""Local memory: the order of its sources, and what each of them may hold."""

import ctypes
import errno
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.host import MAX_FILE_BYTES
from deviceplugin.testing.intel import B60, FLEX_170, MAX_1550, IntelGpu, write_intel_node
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.intel.memory import parse_bar_bytes, parse_vram_size
from deviceplugin.vendors.intel.reader import (
    I915_QUERY,
    XE_DEVICE_QUERY,
    parse_regions,
    query_i915,
    query_memory,
    query_xe,
)
from tests.vendors.intel.conftest import FindDevice, MakeVendor

D = f"/sys/devices/pci0000:00/{B60.address}"
DEBUGFS = f"/sys/kernel/debug/dri/{B60.address}"
GIB = 1 << 30
A770 = replace(B60, device_id=0x56A0, driver="i915", total_vfs=0, bar_bytes=8 * GIB)
UNKNOWN = replace(B60, device_id=0xE2FF)
SMALL_BAR = 256 << 20


def region(kind: int, size: int) -> bytes:
    return struct.pack("=HHIQ72x", kind, 0, 4096, size)


def reply(header: str, *regions: bytes) -> bytes:
    return struct.pack(header, len(regions)) + b"".join(regions)


@pytest.mark.parametrize(
    ("gpu", "extra", "told", "expected"),
    [
        (B60, f"{D}/tile0/physical_vram_size_bytes = 25669140480", 1, (25669140480, "sysfs")),
        (B60, "", 25669140480, (25669140480, "ioctl")),
        (B60, f"{DEBUGFS}/tile0/vram_mm = size: 25669140480", None, (25669140480, "debugfs")),
        (B60, "/sys/kernel/debug/dri/1/vram0_mm = size: 7", None, (7, "debugfs")),
        (B60, "", None, (24 * GIB, "table")),
        (A770, "", None, (8 * GIB, "bar")),
        (replace(A770, bar_bytes=SMALL_BAR), "", None, (16 * GIB, "table")),
        (UNKNOWN, "", None, (32 * GIB, "bar")),
        (replace(UNKNOWN, bar_bytes=SMALL_BAR), "", None, None),
        (FLEX_170, "", 1, (16 * GIB, "sysfs")),
        (MAX_1550, "", None, (128 * GIB, "sysfs")),
        (replace(MAX_1550, lmem_bytes=64 * GIB), "", None, (128 * GIB, "sysfs")),
    ],
    ids=[
        "xe's early file is best",
        "then the driver's answer",
        "then debugfs",
        "debugfs of old kernels",
        "the table if the BAR is rounded up",
        "the BAR if the board is a smaller one",
        "no BAR that was not resized",
        "the BAR of an unknown product",
        "nothing is known",
        "i915's file",
        "a total of two tiles",
        "one tile's size of two",
    ],
)
def test_memory_is_from_the_best_source_there_is(
    gpu: IntelGpu,
    extra: str,
    told: int | None,
    expected: tuple[int, str] | None,
    root: Path,
    make_vendor: MakeVendor,
    device: FindDevice,
) -> None:
    write_intel_node(root, gpu)
    write_tree(root, extra)
    found = device(make_vendor(query=lambda driver, node: told).discover(), gpu.address)
    assert found.resource == "intel.com/gpu"
    known = (found.memory_bytes, found.attributes.get("memory_source"))
    assert known == (expected or (None, None))


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_is_none_is_not_a_size(
    size: int, root: Path, make_vendor: MakeVendor, device: FindDevice
) -> None:
    write_intel_node(root, replace(FLEX_170, lmem_bytes=size))
    found = device(make_vendor().discover(), FLEX_170.address)
    assert found.attributes["memory_source"] == "table"


def test_a_file_that_fails_is_named_and_the_next_source_asked(
    root: Path, make_vendor: MakeVendor, device: FindDevice
) -> None:
    class BrokenHost(Host):
        def read_bytes(self, host_path: str, size: int = MAX_FILE_BYTES) -> bytes | None:
            if host_path.endswith("lmem_total_bytes"):
                raise DiscoveryError(f"{host_path}: {os.strerror(errno.EIO)}")
            return super().read_bytes(host_path, size)

    write_intel_node(root, FLEX_170)
    discovery = make_vendor(host=BrokenHost(root)).discover()
    assert device(discovery, FLEX_170.address).memory_bytes == 16 * GIB
    assert device(discovery, FLEX_170.address).resource == "intel.com/gpu"
    (fault,) = discovery.faults
    assert fault.code == "value_unreadable"
    assert "lmem_total_bytes" in fault.reason


def test_debugfs_that_only_root_may_read_is_no_fault(root: Path, make_vendor: MakeVendor) -> None:
    class DeniedHost(Host):
        def read_bytes(self, host_path: str, size: int = MAX_FILE_BYTES) -> bytes | None:
            if host_path.startswith("/sys/kernel/debug"):
                raise DiscoveryError(f"{host_path}: {os.strerror(errno.EACCES)}")
            return super().read_bytes(host_path, size)

    write_intel_node(root, B60)
    write_tree(root, f"{DEBUGFS}/tile0/vram_mm = size: 1")
    assert make_vendor(host=DeniedHost(root)).discover().faults == ()


def test_a_gpu_of_an_unknown_product_is_offered_without_a_name(
    root: Path, make_vendor: MakeVendor, device: FindDevice
) -> None:
    write_intel_node(root, UNKNOWN)
    assert device(make_vendor().discover(), UNKNOWN.address).product is None


@pytest.mark.parametrize(
    ("text", "line", "size"),
    [
        ("0x0 0x0 0x0\n0x1000 0x1fff 0x200", 1, 4096),
        ("0x0 0x0 0x0", 0, None),
        ("0x1000 0x1fff 0x200", 2, None),
        ("0x1000", 0, None),
        ("what is this", 0, None),
    ],
    ids=["used", "unused", "short file", "short line", "no numbers"],
)
def test_a_bar_is_its_end_less_its_start(text: str, line: int, size: int | None) -> None:
    assert parse_bar_bytes(text, line) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("  use_type: 1\n  size: 25669140480\n  usage: 4096\n", 25669140480),
        ("visible_size: 256MiB", None),
        ("size: 0", None),
        ("", None),
    ],
    ids=["a manager's file", "another size", "zero", "empty"],
)
def test_a_managers_size_is_its_own_line(text: str, size: int | None) -> None:
    assert parse_vram_size(text) == size


@settings(max_examples=60)
@given(st.text(max_size=200), st.integers(0, 12))
def test_no_text_breaks_the_parsers(text: str, line: int) -> None:
    for value in (parse_bar_bytes(text, line), parse_vram_size(text)):
        assert value is None or value > 0


@settings(max_examples=60)
@given(st.binary(max_size=400), st.sampled_from([8, 16]))
def test_no_reply_breaks_the_parser(data: bytes, header_bytes: int) -> None:
    size = parse_regions(data, header_bytes)
    assert size is None or size > 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1 << 40)), max_size=6))
def test_only_local_regions_are_summed(regions: list[tuple[int, int]]) -> None:
    data = reply("=I4x", *(region(kind, size) for kind, size in regions))
    assert parse_regions(data, 8) == (sum(s for kind, s in regions if kind == 1) or None)


class SimulatedDriver:
    """The kernel's side of the query: answers a first call with a size, a second with data."""

    def __init__(self, data: bytes) -> None:
        """Answer with `data`."""
        self.data = data

    def xe(self, request: int, argument: bytearray) -> None:
        assert request == XE_DEVICE_QUERY
        extensions, query, size, data, *reserved = struct.unpack("=QIIQ2Q", argument)
        assert (extensions, query, reserved) == (0, 1, [0, 0])
        if size == 0:
            struct.pack_into("=I", argument, 12, len(self.data))
        else:
            assert size == len(self.data)
            ctypes.memmove(data, self.data, size)

    def i915(self, request: int, argument: bytearray) -> None:
        assert request == I915_QUERY
        items, flags, item = struct.unpack("=IIQ", argument)
        assert (items, flags) == (1, 0)
        query, length, _, data = struct.unpack("=QiIQ", ctypes.string_at(item, 24))
        assert query == 4
        if length == 0:
            ctypes.memmove(item + 8, struct.pack("=i", len(self.data)), 4)
        else:
            ctypes.memmove(data, self.data, length)


def test_xe_tells_the_sum_of_its_local_regions() -> None:
    data = reply("=I4x", region(0, 5), region(1, 64 * GIB), region(1, 64 * GIB))
    assert query_xe(SimulatedDriver(data).xe) == 128 * GIB


def test_i915_tells_the_sum_of_its_local_regions() -> None:
    data = reply("=I12x", region(0, 5), region(1, 16 * GIB))
    assert query_i915(SimulatedDriver(data).i915) == 16 * GIB


@pytest.mark.parametrize("data", [b"", b"x" * (1 << 17)], ids=["nothing", "too much"])
def test_an_answer_of_an_impossible_length_is_none(data: bytes) -> None:
    assert query_xe(SimulatedDriver(data).xe) is None
    assert query_i915(SimulatedDriver(data).i915) is None


def test_an_item_that_i915_does_not_know_is_none() -> None:
    def refuse(request: int, argument: bytearray) -> None:
        item = struct.unpack("=IIQ", argument)[2]
        ctypes.memmove(item + 8, struct.pack("=i", -errno.EINVAL), 4)

    assert query_i915(refuse) is None


@pytest.mark.parametrize(
    ("driver", "node"),
    [("xe", "/dev/dri/card9"), ("xe", "/dev/dri/card1"), ("i915", "/dev/dri/card1"), ("vfio", "")],
    ids=["no node", "xe on a plain file", "i915 on a plain file", "another driver"],
)
def test_a_node_that_cannot_be_asked_tells_nothing(driver: str, node: str, root: Path) -> None:
    write_tree(root, "/dev/dri/card1 c 226:1")
    assert query_memory(Host(root), driver, node) is None
