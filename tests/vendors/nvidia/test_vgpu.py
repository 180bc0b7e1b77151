"""vGPUs: in a guest a resource of their own, on a host VFIO devices for virtual machines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.config.schema import decode
from deviceplugin.errors import ConfigError, UnavailableError
from deviceplugin.host import Host
from deviceplugin.model import Isolation
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendors.nvidia import create
from deviceplugin.vendors.nvidia.devices import Locality, devices_of_gpu, naming_for
from deviceplugin.vendors.nvidia.gpus import NvidiaGpu
from deviceplugin.vendors.nvidia.library import Nvml
from deviceplugin.vendors.nvidia.settings import MigSection, NvidiaSection, VgpuSection
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from deviceplugin.vendors.nvidia.vgpu_guest import guest_edits, guest_vgpu, type_of
from deviceplugin.vendors.nvidia.vgpu_host import HostVgpus, parse_types
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree

REFERENCE = {
    "version": "8.0",
    "features": [
        "enhanced_memory_management",
        "improved_scheduling",
        "better_isolation",
        "advanced_monitoring",
    ],
    "profiles": [
        {"name": "vGPU-8GB", "memory": "8GiB", "compute_units": 56, "tensor_cores": 4},
        {"name": "vGPU-16GB", "memory": "16GiB", "compute_units": 112, "tensor_cores": 8},
        {"name": "vGPU-32GB", "memory": "32GiB", "compute_units": 224, "tensor_cores": 16},
    ],
}
PINNED = decode(REFERENCE, VgpuSection, "vgpu")
UUID = "aa618089-8b16-4d01-a136-25a0f3c73123"


def guest(product: str | None = "GRID T4-8Q", gib: float = 8, mode: int | None = 2) -> NvidiaGpu:
    return NvidiaGpu(
        uuid="GPU-1",
        index=0,
        minor=0,
        pci_address="0000:01:00.0",
        product=product,
        memory_bytes=int(gib * (1 << 30)),
        compute_capability="7.5",
        architecture="turing",
        mig=None,
        mig_pending=None,
        virtualization=mode,
    )


def env(gpu: NvidiaGpu, section: VgpuSection = PINNED) -> dict[str, str | None]:
    naming = naming_for(NvidiaSection(), MigSection(), "/", [gpu], section)
    (device,), _ = devices_of_gpu(Host(Path("/nowhere")), gpu, naming, {}, Locality())
    return {"resource": device.resource, **guest_edits([device]).env}


@pytest.mark.parametrize(
    ("gpu", "profile", "memory"),
    [
        (guest(), "vGPU-8GB", "8GiB"),
        (guest("GRID T4-16Q", 15.6), "vGPU-16GB", "16GiB"),
        (guest("NVIDIA A100-32C", 32, mode=0), "vGPU-32GB", "32GiB"),
        (guest("GRID T4-4Q", 4), "T4-4Q", "4GiB"),
        (guest("GRID M60-0B", 0.5), "M60-0B", "512MiB"),
        (guest("GRID A100D-7-40C", 40, mode=None), "A100D-7-40C", "40GiB"),
        (guest("Tesla T4", 16), "vGPU-16GB", "16GiB"),
    ],
    ids=lambda value: getattr(value, "product", value),
)
def test_a_guests_vgpu_is_told_by_profile_and_memory(
    gpu: NvidiaGpu, profile: str, memory: str
) -> None:
    assert env(gpu) == {
        "resource": "nvidia.com/vgpu",
        "NVIDIA_VGPU_PROFILE": profile,
        "NVIDIA_VGPU_MEMORY": memory,
    }


@pytest.mark.parametrize("mode", [None, 0, 1, 3])
@pytest.mark.parametrize("product", ["NVIDIA A100-SXM4-40GB", "Tesla T4", "GRID K520", None])
def test_a_real_gpu_stays_what_it_is(product: str | None, mode: int | None) -> None:
    gpu = guest(product, mode=mode)
    assert guest_vgpu(gpu, PINNED) is None
    on_a_host_for_vm = mode == 3
    assert env(gpu) == {"resource": None if on_a_host_for_vm else "nvidia.com/gpu"}
    assert type_of(product) is None


def test_a_vgpu_is_a_plain_gpu_where_the_section_is_disabled() -> None:
    assert env(guest(), VgpuSection(enabled=False)) == {"resource": "nvidia.com/gpu"}


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"profiles": [{"name": "a", "memory": "8 apples"}]}, "vgpu.profiles[0].memory"),
        ({"features": ["magic"]}, "vgpu.features[0]"),
        ({"profile": []}, "vgpu.profile"),
    ],
)
def test_a_mistake_in_the_section_is_told_with_its_key(
    section: dict[str, object], key: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        decode(section, VgpuSection, "vgpu")
    assert refused.value.key == key


@pytest.mark.slow
def test_discover_shows_a_guests_vgpu_and_a_shared_memory_partition_of_mig(tmp_path: Path) -> None:
    vgpu = replace(
        a100_40gb(0), name="GRID T4-8Q", memory_total_bytes=8 << 30, virtualization=2, mig_max=None
    )
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=(vgpu, a100_40gb(1))))
    double.set_mig(1, ["1c.3g.20gb", "3g.20gb"])
    write_host_tree(tmp_path, double.scenario)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"vgpu": REFERENCE}))
    words = ["--host-root", str(tmp_path), "--config", str(config), "--vendors", "nvidia"]
    command = [sys.executable, "-m", "deviceplugin", "discover", "--format", "json", *words]
    report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    devices = {d["resource"]: d for d in report["devices"] if d["resource"]}
    assert devices["nvidia.com/vgpu"]["profile"] == "vGPU-8GB"
    assert report["sharing"]["nvidia.com/mig-1c.3g.20gb"]["isolation"] == Isolation.PROCESS
    assert report["sharing"]["nvidia.com/mig-3g.20gb"]["isolation"] == Isolation.HARDWARE


@pytest.mark.slow
def test_ecc_off_on_a_shared_gpu_is_seen_through_nvml(tmp_path: Path) -> None:
    gpus = (replace(a100_40gb(0), ecc_current=0), a100_40gb(1))
    write_host_tree(tmp_path, NvmlDouble(tmp_path, scenario=Scenario(gpus=gpus)).scenario)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"rules": [{"offers": [{"replicas": 2}]}]}))
    words = ["--host-root", str(tmp_path), "--config", str(config), "--vendors", "nvidia"]
    command = [sys.executable, "-m", "deviceplugin", "discover", "--format", "json", *words]
    report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    faults = {d["id"]: [fault["code"] for fault in d["faults"]] for d in report["devices"]}
    assert faults == {gpus[0].uuid: ["ecc_off_shared"], gpus[1].uuid: []}
    assert {d["health"] for d in report["devices"]} == {"Healthy"}


TREE = f"""
/sys/bus/pci/devices/0000:41:00.0/vendor = 0x10de
/sys/bus/pci/devices/0000:41:00.0/device = 0x1eb8
/sys/bus/pci/devices/0000:41:00.0/class = 0x030200
/sys/bus/pci/devices/0000:41:00.0/numa_node = 1
/sys/bus/pci/devices/0000:41:00.0/driver -> ../../../bus/pci/drivers/nvidia
/sys/bus/mdev/devices/{UUID} -> ../../../devices/pci0000:40/0000:41:00.0/{UUID}
/sys/devices/pci0000:40/0000:41:00.0/{UUID}/mdev_type/name = GRID T4-8Q
/sys/devices/pci0000:40/0000:41:00.0/{UUID}/iommu_group -> ../../../../kernel/iommu_groups/91
/dev/vfio/vfio c 10:196
/dev/vfio/91 c 511:0
/dev/vfio/101 c 511:1
/sys/bus/pci/devices/0000:81:00.0/vendor = 0x10de
/sys/bus/pci/devices/0000:81:00.0/device = 0x26b9
/sys/bus/pci/devices/0000:81:00.0/class = 0x030200
/sys/bus/pci/devices/0000:81:00.0/numa_node = 0
/sys/bus/pci/devices/0000:81:00.0/driver -> ../../../bus/pci/drivers/nvidia
/sys/bus/pci/devices/0000:81:00.0/virtfn0 -> ../0000:81:00.4
/sys/bus/pci/devices/0000:81:00.0/virtfn1 -> ../0000:81:00.5
/sys/bus/pci/devices/0000:81:00.4/vendor = 0x10de
/sys/bus/pci/devices/0000:81:00.4/device = 0x26b9
/sys/bus/pci/devices/0000:81:00.4/class = 0x030200
/sys/bus/pci/devices/0000:81:00.4/physfn -> ../0000:81:00.0
/sys/bus/pci/devices/0000:81:00.4/driver -> ../../../bus/pci/drivers/nvidia
/sys/bus/pci/devices/0000:81:00.4/iommu_group -> ../../../kernel/iommu_groups/101
/sys/bus/pci/devices/0000:81:00.4/nvidia/current_vgpu_type = 1155
/sys/bus/pci/devices/0000:81:00.4/nvidia/creatable_vgpu_types = ID    : vGPU Name
/sys/bus/pci/devices/0000:81:00.5/vendor = 0x10de
/sys/bus/pci/devices/0000:81:00.5/device = 0x26b9
/sys/bus/pci/devices/0000:81:00.5/class = 0x030200
/sys/bus/pci/devices/0000:81:00.5/physfn -> ../0000:81:00.0
/sys/bus/pci/devices/0000:81:00.5/nvidia/current_vgpu_type = 0
/sys/bus/pci/devices/0000:81:00.5/nvidia/creatable_vgpu_types = ID : vGPU Name\\n1147 : NVIDIA L40S-1Q\\n1155 : NVIDIA L40S-8Q
"""  # noqa: E501  # one entry a line
VF = "0000:81:00.4"


def without_driver(host: Host, driver_root: str) -> Nvml:
    raise UnavailableError("no driver")


def vendor_of(root: Path) -> NvidiaVendor:
    sections = {"nvidia": NvidiaSection(), "mig": MigSection(), "vgpu": VgpuSection()}
    return create(Host(root), sections, without_driver)


def test_a_host_offers_its_vgpus_by_type_even_without_nvml(tmp_path: Path) -> None:
    write_tree(tmp_path, TREE)
    vendor = vendor_of(tmp_path)
    devices = {str(device.resource): device for device in vendor.discover().devices}
    assert {name: device.id for name, device in devices.items()} == {
        "nvidia.com/GRID_T4-8Q": UUID,
        "nvidia.com/NVIDIA_L40S-8Q": VF,
    }
    assert {device.numa_node for device in devices.values()} == {0, 1}
    mdev = vendor.container_edits([devices["nvidia.com/GRID_T4-8Q"]])
    assert mdev.env == {"MDEV_PCI_RESOURCE_NVIDIA_COM_GRID_T4-8Q": UUID}
    assert [node.path for node in mdev.device_nodes] == ["/dev/vfio/vfio", "/dev/vfio/91"]
    function = vendor.container_edits([devices["nvidia.com/NVIDIA_L40S-8Q"]])
    assert function.env == {"PCI_RESOURCE_NVIDIA_COM_NVIDIA_L40S-8Q": VF}
    assert [node.path for node in function.device_nodes] == ["/dev/vfio/vfio", "/dev/vfio/101"]
    assert {node.permissions for node in function.device_nodes} == {"mrw"}


def test_a_host_without_driver_and_vgpus_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        vendor_of(tmp_path).discover()


def test_the_name_of_a_type_is_remembered_and_an_unknown_one_numbered(tmp_path: Path) -> None:
    write_tree(tmp_path, TREE)
    vgpus = HostVgpus(Host(tmp_path))
    assert [device.product for device in vgpus.read({})][1:] == ["NVIDIA L40S-8Q"]
    remove(tmp_path, "/sys/bus/pci/devices/0000:81:00.5/nvidia/creatable_vgpu_types")
    assert [device.product for device in vgpus.read({})][1:] == ["NVIDIA L40S-8Q"]
    fresh = HostVgpus(Host(tmp_path))
    assert [device.resource for device in fresh.read({})][1:] == ["nvidia.com/vgpu-1155"]


def test_a_vgpu_that_is_taken_away_is_gone(tmp_path: Path) -> None:
    write_tree(tmp_path, TREE)
    vgpus = HostVgpus(Host(tmp_path))
    write_tree(tmp_path, f"/sys/bus/pci/devices/{VF}/nvidia/current_vgpu_type = 0")
    remove(tmp_path, f"/sys/bus/mdev/devices/{UUID}")
    assert vgpus.read({}) == ()


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("", {}),
        ("ID    : vGPU Name", {}),
        ("ID    : vGPU Name\n1147  : NVIDIA L40S-1Q", {1147: "NVIDIA L40S-1Q"}),
        ("1147  : NVIDIA L40S-1Q\n\n", {1147: "NVIDIA L40S-1Q"}),
        ("7 : a : b", {7: "a : b"}),
    ],
)
def test_lists_of_types_are_read_with_and_without_a_header(
    text: str, types: dict[int, str]
) -> None:
    assert parse_types(text) == types


@pytest.mark.slow
def test_the_gpu_of_a_vgpu_is_its_parent_and_a_virtual_function_no_lost_gpu(tmp_path: Path) -> None:
    """Through NVML in a process of its own, as pynvml keeps its library for good."""
    gpu = replace(a100_40gb(0), pci_bus=0x81, virtualization=3)
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=(gpu,)))
    write_host_tree(tmp_path, double.scenario)
    write_tree(tmp_path, TREE)
    remove(tmp_path, "/sys/bus/pci/devices/0000:41:00.0", "/sys/bus/mdev")
    words = ["--host-root", str(tmp_path), "--vendors", "nvidia", "--format", "json"]
    command = [sys.executable, "-m", "deviceplugin", "discover", *words]
    report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert {d["id"]: (d["resource"], d["parent"]) for d in report["devices"]} == {
        gpu.uuid: (None, None),
        VF: ("nvidia.com/NVIDIA_L40S-8Q", gpu.uuid),
    }
    assert all(device["faults"] == [] for device in report["devices"])
