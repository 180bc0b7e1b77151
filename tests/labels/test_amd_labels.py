"""The labels of AMD's labeller on recorded and written nodes."""

from pathlib import Path

from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, frozen
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor import LabelView
from deviceplugin.vendors.amd.labels import node_labels
from tests.labels.nodes import recorded

KINDS = {
    "cu-count": "304",
    "device-id": "74a1",
    "family": "AI",
    "product-name": "AMD_Instinct_MI300X",
    "simd-count": "1216",
    "vram": "192G",
}


def test_a_recorded_mi300x_node_has_the_labellers_labels(tmp_path: Path) -> None:
    found = recorded("simulated-mi300x-x2", "amd", tmp_path)
    expected = {f"amd.com/gpu.{kind}": value for kind, value in KINDS.items()}
    expected |= {f"beta.amd.com/gpu.{kind}": value for kind, value in KINDS.items()}
    expected |= {f"beta.amd.com/gpu.{kind}.{value}": "2" for kind, value in KINDS.items()}
    extra = {"amd.com/gpu.mode": "container", "feature.node.kubernetes.io/amd-gpu": "true"}
    assert found == expected | extra


def mi210(number: int, **more: object) -> Device:
    known: dict[str, object] = {
        "vendor": "amd",
        "product": "AMD Instinct MI210",
        "pci_address": f"0000:0{number}:00.0",
        "memory_bytes": 68702699520,
        "driver": "amdgpu",
        "architecture": "gfx90a",
        "attributes": frozen({"compute_units": "104"}),
    } | more
    return Device(id=DeviceID(f"amd-{number}"), **known)  # type: ignore[arg-type]  # its fields


TREE = """
/sys/bus/pci/devices/0000:01:00.0/device = 0x740f
/sys/bus/pci/devices/0000:01:00.0/product_name = Instinct MI210 (OAM)
/sys/bus/pci/devices/0000:01:00.0/fw_version/mec_fw_version = 0x00000160
/sys/bus/pci/devices/0000:01:00.0/fw_version/rlc_fw_version = 0x00000000
/sys/bus/pci/devices/0000:01:00.0/available_compute_partition = SPX, DPX
/sys/module/amdgpu/version = 6.7.0
/sys/module/amdgpu/srcversion = 0A1B2C
"""


def labels(root: Path, *devices: Device) -> dict[str, str]:
    write_tree(root, TREE)
    return node_labels(Host(root), LabelView(devices=devices))


def test_the_literal_values_of_an_mi210(tmp_path: Path) -> None:
    found = labels(tmp_path, mi210(1))
    expected = {
        "amd.com/gpu.device-id": "740f",
        "amd.com/gpu.product-name": "Instinct_MI210_OAM",
        "amd.com/gpu.vram": "64G",
        "amd.com/gpu.cu-count": "104",
        "amd.com/gpu.family": "AI",
        "amd.com/gpu.driver-version": "6.7.0",
        "amd.com/gpu.driver-src-version": "0A1B2C",
        "amd.com/gpu.compute-partitioning-supported": "true",
        "beta.amd.com/gpu.firmware.MEC.fw.352": "1",
        "beta.amd.com/gpu.device-id.740f": "1",
    }
    assert found | expected == found
    assert not [name for name in found if "RLC" in name or "memory-partitioning" in name]


def test_different_values_are_counted(tmp_path: Path) -> None:
    found = labels(tmp_path, mi210(1), mi210(2, memory_bytes=32 << 30, product="W6800"))
    assert found["amd.com/gpu.vram.64G"] == "1"
    assert found["amd.com/gpu.vram.32G"] == "1"
    assert "amd.com/gpu.vram" not in found
    assert "beta.amd.com/gpu.vram" not in found


def test_partition_modes_are_told_where_all_gpus_have_the_same(tmp_path: Path) -> None:
    modes = frozen({"compute_partition": "CPX", "memory_partition": "NPS4"})
    same = labels(tmp_path, mi210(1, attributes=modes), mi210(2, attributes=modes))
    assert same["amd.com/gpu.compute-memory-partition"] == "cpx_nps4"
    mixed = labels(tmp_path, mi210(1, attributes=modes), mi210(2))
    assert "amd.com/gpu.compute-memory-partition" not in mixed


def test_the_mode_says_who_gets_the_gpus(tmp_path: Path) -> None:
    whole = mi210(1, driver="vfio-pci")
    assert labels(tmp_path, whole)["amd.com/gpu.mode"] == "pf-passthrough"
    function = mi210(2, driver="vfio-pci", parent=DeviceID("amd-1"))
    found = labels(tmp_path, mi210(1, driver="gim"), function)
    assert found["amd.com/gpu.mode"] == "vf-passthrough"


def test_a_node_without_amds_gpus_has_no_label(tmp_path: Path) -> None:
    assert labels(tmp_path) == {}
