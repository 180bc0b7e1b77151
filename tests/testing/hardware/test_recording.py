"""What was read of a machine can be read again: its files, and NVML's answers."""

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.config.schema import decode_sections
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.host import Host
from deviceplugin.testing.amd import DEMO_GPUS, V620_HOST, write_amd_node
from deviceplugin.testing.hardware.nvml_record import hidden
from deviceplugin.testing.hardware.nvml_replay import ReplayedNvml
from deviceplugin.testing.hardware.record import as_document, record
from deviceplugin.testing.hardware.trees import RecordingHost, tree_text
from deviceplugin.testing.intel import B60, write_intel_node
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors import nvidia
from deviceplugin.vendors.nvidia.library import Nvml
from tests.fakes.nvml import NvmlDouble
from tests.vendors.amd.amd_nodes import NODES as AMD_NODES
from tests.vendors.intel.conftest import TREES as INTEL

TREE = """
/sys/bus/pci/devices/0000:05:00.0 -> ../../../devices/pci0000:00/0000:05:00.0
/sys/bus/pci/devices/0000:06:00.0 -> ../../../devices/pci0000:00/0000:06:00.0
/sys/devices/pci0000:00/0000:05:00.0/vendor = 0x1002
/sys/devices/pci0000:00/0000:05:00.0/mem_busy = 3
/sys/devices/pci0000:00/0000:05:00.0/table = a 1\\nb 2
/sys/devices/pci0000:00/0000:05:00.0/empty =
/usr/lib64/libcuda.so.1 -> libcuda.so.550
/usr/lib64/libcuda.so.550 = ELF
"""
OTHER_B60 = replace(B60, card=60, render=190, group=300)  # numbers that no AMD GPU has
FUNCTION = "/sys/bus/pci/devices/0000:05:00.0"


def again(root: Path, *paths: str) -> tuple[str, Host]:
    """The tree of TREE after a look at `paths`, and a host of what was kept; a path that ends
    with a slash was listed."""
    write_tree(root / "first", TREE)
    listed = [path.rstrip("/") for path in paths if path.endswith("/")]
    text = tree_text(Host(root / "first"), {*paths} - {*listed}, listed)
    (root / "second").mkdir()
    write_tree(root / "second", text)
    return text, Host(root / "second")


def test_a_file_is_read_through_the_same_links(tmp_path: Path) -> None:
    text, host = again(tmp_path, f"{FUNCTION}/vendor", f"{FUNCTION}/table")
    assert host.read_int(f"{FUNCTION}/vendor") == 0x1002
    assert host.read_text(f"{FUNCTION}/table") == "a 1\nb 2"
    assert host.read_real_path(FUNCTION) == "/sys/devices/pci0000:00/0000:05:00.0"
    assert "mem_busy" not in text
    assert "0000:06:00.0" not in text


def test_a_directory_keeps_its_names(tmp_path: Path) -> None:
    _, host = again(tmp_path, "/sys/bus/pci/devices/", f"{FUNCTION}/")
    assert host.read_names("/sys/bus/pci/devices") == ("0000:05:00.0", "0000:06:00.0")
    assert host.read_names(FUNCTION) == ("empty", "mem_busy", "table", "vendor")


def test_what_is_absent_stays_absent(tmp_path: Path) -> None:
    text, host = again(tmp_path, f"{FUNCTION}/none", "/sys/class/drm")
    assert host.read_text(f"{FUNCTION}/none") is None
    assert "none" not in text
    assert not host.exists("/sys/class/drm")


def test_of_a_library_only_its_name_is_kept(tmp_path: Path) -> None:
    text, host = again(tmp_path, "/usr/lib64/libcuda.so.1", f"{FUNCTION}/empty")
    assert host.resolve("/usr/lib64/libcuda.so.1") == "/usr/lib64/libcuda.so.550"
    assert "ELF" not in text
    assert host.read_text(f"{FUNCTION}/empty") == ""


def test_a_device_node_keeps_its_numbers() -> None:
    assert tree_text(Host(), ["/dev/null"]) == "/dev/null c 1:3\n"


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfe", b"a -> b"])
def test_what_is_not_text_is_a_comment(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys/config").write_bytes(content)
    assert tree_text(Host(tmp_path), ["/sys/config"]) == "# /sys/config: not text\n"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write_tree(tmp_path, "/sys/a -> b\n/sys/b -> a")
    assert tree_text(Host(tmp_path), ["/sys/a/x"]) == "/sys/a -> b\n/sys/b -> a\n"


def test_every_look_is_noted(tmp_path: Path) -> None:
    host = RecordingHost(root=tmp_path)
    host.exists("/dev/kfd")
    host.read_text("/sys/x")
    host.read_names("/sys/class//drm")
    host.resolve("/usr/lib")
    assert {"/dev/kfd", "/sys/x", "/sys/class/drm", "/usr/lib"} <= host.seen
    assert host.listed == {"/sys/class/drm"}


def test_amd_and_intel_find_the_same_on_the_recorded_files(tmp_path: Path) -> None:
    write_amd_node(tmp_path / "host", DEMO_GPUS, [V620_HOST])
    write_intel_node(tmp_path / "host", OTHER_B60)
    for module in load_vendors(("amd", "intel")):
        recorded = record(module, tmp_path / "host")
        assert recorded is not None
        root = tmp_path / module.NAME
        root.mkdir()
        write_tree(root, recorded["tree"])
        vendor = module.create(Host(root), decode_sections({}, module.SECTIONS))
        assert as_document(vendor.discover()) == recorded["discovery"]
        assert recorded["discovery"]["devices"]


@pytest.mark.parametrize(
    ("vendor", "tree"),
    [
        *(pytest.param("amd", text, id=f"amd-{name}") for name, text in AMD_NODES.items()),
        *(pytest.param("intel", p.read_text(), id=p.stem) for p in sorted(INTEL.glob("*.tree"))),
    ],
)
def test_every_known_node_is_found_again(vendor: str, tree: str, tmp_path: Path) -> None:
    (module,) = load_vendors((vendor,))
    write_tree(tmp_path / "host", tree)
    recorded = record(module, tmp_path / "host")
    if recorded is None:
        pytest.skip("a node without a GPU of this vendor")
    (tmp_path / "again").mkdir()
    write_tree(tmp_path / "again", recorded["tree"])
    again = record(module, tmp_path / "again")
    assert again is not None
    assert again.get("discovery") == recorded.get("discovery")
    assert again.get("error") == recorded.get("error")


def test_nvml_answers_the_same_again(a100s: NvmlDouble, tmp_path: Path) -> None:
    (module,) = load_vendors(("nvidia",))
    recorded = record(module, tmp_path / "host")
    assert recorded is not None
    (tmp_path / "again").mkdir()
    write_tree(tmp_path / "again", recorded["tree"])
    replay = ReplayedNvml(recorded["nvml"])
    vendor = nvidia.create(
        Host(tmp_path / "again"),
        decode_sections({}, nvidia.SECTIONS),
        lambda _, root: Nvml(replay, root),
    )
    found = vendor.discover()
    assert as_document(found) == recorded["discovery"]
    assert len(found.devices) == 5
    probed = [vendor.probe_health(device) for device in found.devices if device.parent is None]
    assert [finding.reset_counter for finding in probed] == [1_000_000] * 3
    assert replay.unknown == []


def test_a_refusal_of_nvml_is_refused_again(a100s: NvmlDouble, tmp_path: Path) -> None:
    a100s.lose(1)
    (module,) = load_vendors(("nvidia",))
    recorded = record(module, tmp_path / "host")
    assert recorded is not None
    codes = {fault["code"] for fault in recorded["discovery"]["faults"]}
    assert codes == {"gpu_lost"}
    replay = ReplayedNvml(recorded["nvml"])
    with pytest.raises(replay.NVMLError) as error:
        replay.nvmlDeviceGetHandleByIndex(1)
    assert error.value.value == 15


def test_more_is_recorded_than_the_vendor_asks_now(a100s: NvmlDouble, tmp_path: Path) -> None:
    (module,) = load_vendors(("nvidia",))
    recorded = record(module, tmp_path / "host")
    assert recorded is not None
    replay = ReplayedNvml(recorded["nvml"])
    handle = replay.nvmlDeviceGetHandleByIndex(0)
    assert replay.nvmlDeviceGetTemperature(handle, 0) == a100s.scenario.gpu(0).temperature_c
    assert replay.nvmlDeviceGetUtilizationRates(handle).gpu == 0
    with pytest.raises(replay.NVMLError):
        replay.nvmlDeviceGetTemperature(handle, 99)
    assert replay.unknown == ["nvmlDeviceGetTemperature(handle0, 99)"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clusterUuid", b"\x7b\x96\x8a\x6d"),
        ("ibGuid", b"0x9c63c003"),
        ("chassisSerialNumber", b"1821325191344"),
        ("clusterUuid", (ctypes.c_ubyte * 4)(1, 2, 3, 4)),
    ],
)
def test_an_identity_in_bytes_is_hidden_and_keeps_its_length(name: str, value: Any) -> None:
    found = hidden(name, value)
    assert bytes(found) != bytes(value)
    assert len(found) == len(value)
    assert hidden(name, value) == found


def test_what_is_no_identity_is_kept() -> None:
    assert hidden("busId", b"0000:07:00.0") == b"0000:07:00.0"
    assert hidden("clusterUuid", b"\0\0\0\0") == b"\0\0\0\0"
    text = b"GPU-33333333-3333-3333-3333-333333333333\0"
    assert hidden("uuid", text) == text  # the text is redacted as all text is


def test_a_machine_without_a_vendor_has_no_record_of_it(tmp_path: Path) -> None:
    found = {module.NAME: record(module, tmp_path) for module in load_vendors(None)}
    assert found == dict.fromkeys(found)
    assert os.listdir(tmp_path) == []
