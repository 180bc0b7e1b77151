"""NVIDIA's field reports as small inputs, each with its right value."""

import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.discovery.loop import look_once
from deviceplugin.errors import UnavailableError
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, Discovery, Fault, FaultClass
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.nvidia.mig import profile_name
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from tests.fakes.nvml import (
    Fabric,
    NvmlDouble,
    Scenario,
    a100_40gb,
    h100_80gb,
    with_mig,
    write_host_tree,
)
from tests.fakes.nvml.model import Gpu
from tests.vendors.nvidia.conftest import make_vendor

__all__ = ["make_vendor"]  # a fixture
MakeVendor = Callable[..., NvidiaVendor]
SETUP, HARDWARE, REBOOT = FaultClass.SETUP, FaultClass.HARDWARE, FaultClass.REBOOT
NO_MIG: dict[str, Any] = {"mig_current": None, "mig_pending": None, "mig_max": None}
SECOND = "0000:0a:00.0"


def node_of(root: Path, *gpus: Gpu, tree: bool = True) -> NvmlDouble:
    double = NvmlDouble(root, scenario=Scenario(gpus=gpus))
    if tree:
        write_host_tree(root, double.scenario)
    return double


def offered(found: Discovery) -> dict[str, int]:
    return dict(Counter(device.resource for device in found.devices if device.resource))


def withdrawn(found: Discovery) -> list[Fault]:
    return [fault for fault in found.faults if fault.kind.withdraws]


def card(root: Path, address: str, device: str, driver: str | None, class_: str) -> None:
    folder = f"/sys/bus/pci/devices/{address}"
    lines = [
        f"{folder}/vendor = 0x10de",
        f"{folder}/device = {device}",
        f"{folder}/class = {class_}",
        f"{folder}/numa_node = -1",
    ]
    if driver is not None:
        lines.append(f"{folder}/driver -> ../../../bus/pci/drivers/{driver}")
    write_tree(root, "\n".join(lines))


async def probed(vendor: NvidiaVendor) -> list[Fault]:
    """All faults after a discovery and its probes, as the daemon has them."""
    store = InventoryStore(time.time)
    await look_once(vendor, store)
    return [fault for faults in store.current.faults.values() for fault in faults]


# -- a fact that is nice to have never costs the GPU ---------------------------------------------


def test_memory_of_a_mig_gpu_without_the_capability_is_a_setup_fault(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    gpus = (with_mig(a100_40gb(0), ["1g.5gb"] * 7), a100_40gb(1))
    node_of(tmp_path, *gpus).fail("nvmlDeviceGetMemoryInfo*", 4, gpu=0)
    found = make_vendor().discover()
    (fault,) = found.faults
    assert (fault.code, fault.kind) == ("nvml_4", SETUP)
    assert "MIG monitor capability" in fault.action
    assert "deploy/patches/nvidia-mig.yaml" in fault.action
    assert "reboot" not in fault.action
    assert offered(found) == {"nvidia.com/gpu": 1}


@pytest.mark.parametrize(
    ("function", "code", "fact"),
    [
        ("nvmlDeviceGetMemoryInfo*", 4, "memory"),
        ("nvmlDeviceGetEccMode", 4, "ECC mode"),
        ("nvmlDeviceGetName", 999, "name"),
        ("nvmlDeviceGetVirtualizationMode", 4, "virtualization mode"),
        ("nvmlDeviceGetArchitecture", 19, "architecture"),
        ("nvmlDeviceGetCudaComputeCapability", 999, "compute capability"),
    ],
    ids=["memory", "ecc", "name", "virtualization", "architecture", "capability"],
)
def test_a_fact_that_cannot_be_read_is_unknown_with_one_warning_each(
    tmp_path: Path, make_vendor: MakeVendor, function: str, code: int, fact: str
) -> None:
    node_of(tmp_path, a100_40gb(0), a100_40gb(1)).fail(function, code)
    found = make_vendor().discover()
    assert offered(found) == {"nvidia.com/gpu": 2}
    assert [(f.code, f.kind) for f in found.faults] == [("value_unreadable", FaultClass.WARN)] * 2
    assert {fault.device for fault in found.faults} == {device.id for device in found.devices}
    assert all(fact in fault.reason and fault.action for fault in found.faults)


def test_unreadable_memory_is_unknown(tmp_path: Path, make_vendor: MakeVendor) -> None:
    node_of(tmp_path, a100_40gb(0)).fail("nvmlDeviceGetMemoryInfo*", 4)
    (device,) = make_vendor().discover().devices
    assert device.memory_bytes is None


def test_a_gpu_with_unreadable_facts_is_looked_at_without_being_read_anew(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    double = node_of(tmp_path, a100_40gb(0))
    double.fail("nvmlDeviceGetMemoryInfo*", 4)
    vendor = make_vendor()
    vendor.discover()
    assert vendor.unchanged()
    double.clear_faults()
    assert not vendor.unchanged()


def test_mig_mode_that_may_be_on_is_asked_for_with_the_capability(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    node_of(tmp_path, a100_40gb(0), a100_40gb(1)).fail("nvmlDeviceGetMigMode", 4, gpu=0)
    found = make_vendor().discover()
    assert offered(found) == {"nvidia.com/gpu": 1}
    (fault,) = found.faults
    assert (fault.device, fault.kind) == ("0000:07:00.0", SETUP)
    assert "nvidia-mig.yaml" in fault.action


def test_mig_mode_of_a_gpu_that_knows_no_mig_does_not_matter(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    ada = a100_40gb(0, name="NVIDIA L40S", compute_major=8, compute_minor=9, **NO_MIG)
    node_of(tmp_path, ada).fail("nvmlDeviceGetMigMode", 4)
    found = make_vendor().discover()
    assert offered(found) == {"nvidia.com/gpu": 1}
    assert [fault.kind for fault in found.faults] == [FaultClass.WARN]


# -- each code has its own class and advice ------------------------------------------------------


def test_a_platform_without_device_numbers_is_not_supported(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    gpu = a100_40gb(0, name="NVIDIA GeForce RTX 4090", minor=None, numa_node=-1, **NO_MIG)
    node_of(tmp_path, gpu)
    (fault,) = make_vendor().discover().faults
    assert fault.kind is SETUP
    assert "this platform gives no device number (WSL2?)" in fault.reason
    assert "not supported" in fault.reason
    assert "reboot" not in fault.action


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (4, SETUP, "permission"),
        (8, HARDWARE, "power"),
        (11, HARDWARE, "interrupt"),
        (14, HARDWARE, "info ROM"),
        (15, REBOOT, "fallen off the bus"),
        (17, SETUP, "device cgroup"),
        (19, SETUP, "wait"),
    ],
)
def test_a_gpu_that_gives_no_handle_is_told_by_its_code(
    tmp_path: Path, make_vendor: MakeVendor, code: int, kind: FaultClass, word: str
) -> None:
    node_of(tmp_path, a100_40gb(0), a100_40gb(1)).fail("nvmlDeviceGetHandleByIndex*", code, gpu=1)
    found = make_vendor().discover()
    assert offered(found) == {"nvidia.com/gpu": 1}
    (fault,) = found.faults
    assert (fault.device, fault.kind) == ("0000:0f:00.0", kind)
    assert word in f"{fault.reason} {fault.action}"
    assert ("reboot" in fault.action) == (code == 15)


def test_of_two_gpus_that_fail_differently_both_codes_are_named(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    double = node_of(tmp_path, *map(a100_40gb, range(3)))
    double.fail("nvmlDeviceGetHandleByIndex*", 15, gpu=0)
    double.fail("nvmlDeviceGetHandleByIndex*", 999, gpu=1)
    found = make_vendor().discover()
    assert offered(found) == {"nvidia.com/gpu": 1}
    assert {fault.device for fault in found.faults} == {"0000:07:00.0", "0000:0f:00.0"}
    for fault in found.faults:
        assert "code 15" in fault.reason
        assert "code 999" in fault.reason


def test_a_gpu_without_a_pci_address_is_told(tmp_path: Path, make_vendor: MakeVendor) -> None:
    orin = a100_40gb(0, name="Orin (nvgpu)", minor=None, mig_current=None)
    node_of(tmp_path, orin, tree=False).fail("nvmlDeviceGetPciInfo*", 3)
    found = make_vendor().discover()
    (fault,) = found.faults
    assert offered(found) == {}
    assert fault.kind is SETUP
    assert "1 GPU counted, none usable: " in fault.reason
    assert "no PCI address" in fault.reason


async def test_a_gpu_without_an_address_is_told_beside_one_that_serves(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    node_of(tmp_path, *map(a100_40gb, range(2)), tree=False).fail("nvmlDeviceGetPciInfo*", 3, gpu=1)
    vendor = make_vendor()
    assert offered(vendor.discover()) == {"nvidia.com/gpu": 1}
    assert [(f.device, f.code) for f in await probed(vendor)] == [("nvml-1", "nvml_3")]


# -- a GPU in other hands ------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["nouveau", "pci-stub", "pciback", "snd_test", None])
async def test_a_card_of_another_driver_is_not_offered_and_not_unhealthy(
    tmp_path: Path, make_vendor: MakeVendor, driver: str | None
) -> None:
    node_of(tmp_path, a100_40gb(0))
    card(tmp_path, SECOND, "0x128b", driver, "0x030000")
    vendor = make_vendor()
    found = vendor.discover()
    assert offered(found) == {"nvidia.com/gpu": 1}
    (fault,) = await probed(vendor)
    assert (fault.device, fault.code, fault.kind) == (SECOND, "not_bound", FaultClass.INFO)
    assert (f"bound to {driver}" if driver else "without a driver") in fault.reason
    assert "not offered" in fault.reason


async def test_a_card_for_virtual_machines_is_nothing_to_speak_of(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    node_of(tmp_path, a100_40gb(0))
    card(tmp_path, SECOND, "0x128b", "vfio-pci", "0x030000")
    assert await probed(make_vendor()) == []


@pytest.mark.parametrize("driver", [None, "nvidia"])
async def test_a_card_that_the_driver_never_took_gets_no_advice_to_reboot(
    tmp_path: Path, make_vendor: MakeVendor, driver: str | None
) -> None:
    node_of(tmp_path)
    card(tmp_path, "0000:00:10.0", "0x1b38", driver, "0x030200")
    faults = await probed(make_vendor())
    assert [fault.device for fault in faults] == ["0000:00:10.0"]
    assert "NVRM" in faults[0].action
    assert "vGPU" in faults[0].action
    assert "reboot" not in faults[0].action
    assert faults[0].kind in (FaultClass.INFO, SETUP)


def test_a_display_adapter_is_not_a_lost_gpu(tmp_path: Path, make_vendor: MakeVendor) -> None:
    node_of(tmp_path, a100_40gb(0), a100_40gb(1, name="NVIDIA DGX Display"))
    found = make_vendor().discover()
    assert (offered(found), found.faults) == ({"nvidia.com/gpu": 1}, ())


# -- a GPU on which CUDA cannot start ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fabric", "code", "word"),
    [
        (Fabric(state=1, status=0), "fabric_not_ready", "not started"),
        (Fabric(state=2, status=0), "fabric_not_ready", "in progress"),
        (Fabric(state=3, status=999), "fabric_failed", "999"),
    ],
    ids=["not-started", "in-progress", "failed"],
)
def test_a_gpu_outside_its_fabric_is_not_healthy(
    tmp_path: Path, make_vendor: MakeVendor, fabric: Fabric, code: str, word: str
) -> None:
    node_of(tmp_path, *(h100_80gb(i, fabric=fabric) for i in range(2)))
    found = make_vendor().discover()
    assert [(f.code, f.kind) for f in found.faults] == [(code, SETUP)] * 2
    assert all(word in fault.reason for fault in found.faults)


@pytest.mark.parametrize(
    "fabric", [None, Fabric(state=3, status=0), Fabric(state=0)], ids=["none", "done", "without"]
)
def test_a_gpu_in_its_fabric_or_without_one_is_healthy(
    tmp_path: Path, make_vendor: MakeVendor, fabric: Fabric | None
) -> None:
    node_of(tmp_path, h100_80gb(0, fabric=fabric))
    assert make_vendor().discover().faults == ()


def test_a_fabric_that_becomes_ready_is_noticed(tmp_path: Path, make_vendor: MakeVendor) -> None:
    double = node_of(tmp_path, h100_80gb(0, fabric=Fabric(state=2)))
    vendor = make_vendor()
    vendor.discover()
    double.update_gpu(0, lambda gpu: replace(gpu, fabric=Fabric(state=3)))
    assert not vendor.unchanged()
    assert vendor.discover().faults == ()


def test_the_fabric_of_a_gpu_in_mig_mode_does_not_matter(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    cut = with_mig(h100_80gb(0, fabric=Fabric(state=1)), ["1g.10gb"])
    node_of(tmp_path, cut)
    found = make_vendor().discover()
    assert offered(found) == {"nvidia.com/mig-1g.10gb": 1}
    assert found.faults == ()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0, []),
        (2, [("compute_prohibited", SETUP)]),
        (3, [("compute_exclusive", FaultClass.INFO)]),
    ],
)
def test_a_compute_mode_that_forbids_cuda_is_a_fault(
    tmp_path: Path, make_vendor: MakeVendor, mode: int, expected: list[tuple[str, FaultClass]]
) -> None:
    double = node_of(tmp_path, a100_40gb(0))
    vendor = make_vendor()
    vendor.discover()
    double.update_gpu(0, lambda gpu: replace(gpu, compute_mode=mode))
    assert vendor.unchanged() == (mode == 0)
    assert [(f.code, f.kind) for f in vendor.discover().faults] == expected


@pytest.mark.parametrize(("licensed", "codes"), [(0, ["unlicensed"]), (1, []), (None, [])])
async def test_a_guest_without_a_licence_is_warned_of(
    tmp_path: Path, make_vendor: MakeVendor, licensed: int | None, codes: list[str]
) -> None:
    guest = a100_40gb(0, name="GRID T4-8Q", virtualization=2, licensed=licensed, **NO_MIG)
    node_of(tmp_path, guest)
    faults = await probed(make_vendor())
    assert [fault.code for fault in faults] == codes
    assert not any(fault.kind.withdraws for fault in faults)


# -- folders, names and ids ----------------------------------------------------------------------

COS = "/home/kubernetes/bin/nvidia"


def test_a_driver_root_of_files_alone_goes_with_the_hosts_own_nodes(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    root = f"{COS.lstrip('/')}"
    NvmlDouble(tmp_path / root, lib_dir="lib64", scenario=Scenario(gpus=(a100_40gb(0),)))
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        write_tree(tmp_path, f"/dev/{name} c 195:0")
    section = {"driver_root": COS, "pass_device_specs": True}
    vendor = make_vendor(nvidia=section)
    found = vendor.discover()
    assert found.faults == ()
    nodes = vendor.container_edits(found.devices).device_nodes
    assert ("/dev/nvidia0", "/dev/nvidia0") in {(node.path, node.host_path) for node in nodes}


def test_a_missing_node_is_named_by_the_path_that_was_looked_at(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    root = tmp_path / COS.lstrip("/")
    NvmlDouble(root, lib_dir="lib64", scenario=Scenario(gpus=(a100_40gb(0),)))
    section = {"driver_root": COS, "pass_device_specs": True}
    (fault,) = make_vendor(nvidia=section).discover().faults
    assert f"{COS}/dev/nvidia0 does not exist" in fault.reason
    assert "nvidia.dev_root" in fault.action


def test_a_driver_in_a_store_is_found_through_links(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    store = "nix/store/abc-nvidia-x11-550.163.01/lib"
    node_of(tmp_path, a100_40gb(0))
    NvmlDouble(tmp_path, lib_dir="usr/lib64").uninstall()
    NvmlDouble(tmp_path, lib_dir=store, scenario=Scenario(gpus=(a100_40gb(0),)))
    write_tree(tmp_path, f"/run/opengl-driver/lib -> /{store}")
    assert offered(make_vendor().discover()) == {"nvidia.com/gpu": 1}


@pytest.mark.slow
def test_a_folder_can_be_named(tmp_path: Path, make_vendor: MakeVendor) -> None:
    NvmlDouble(tmp_path, lib_dir="opt/strange", scenario=Scenario(gpus=(a100_40gb(0),)))
    with pytest.raises(UnavailableError, match=r"usr/lib64.*nvidia\.driver_library_dirs"):
        make_vendor().discover()
    for process in (False, True):
        section = {"driver_library_dirs": ["/opt/strange"], "library_process": process}
        assert offered(make_vendor(nvidia=section).discover()) == {"nvidia.com/gpu": 1}


@pytest.mark.parametrize(
    ("product", "profile"),
    [
        ("NVIDIA H100-1-10CME", "H100-1-10CME"),
        ("NVIDIA RTX6000-Ada-24Q", "RTX6000-Ada-24Q"),
        ("GRID T4-8Q", "T4-8Q"),
        ("GRID T4-2B4", "T4-2B4"),
        ("NVIDIA RTX Pro 6000 Blackwell DC-1-24QGFX", "RTX Pro 6000 Blackwell DC-1-24QGFX"),
        ("NVIDIA Something New", "Something New"),
    ],
)
def test_a_vgpu_type_has_no_vendor_in_its_name(
    tmp_path: Path, make_vendor: MakeVendor, product: str, profile: str
) -> None:
    guest = a100_40gb(0, name=product, memory_total_bytes=10240 << 20, virtualization=2, **NO_MIG)
    node_of(tmp_path, guest)
    (device,) = make_vendor().discover().devices
    assert device.profile == profile


@pytest.mark.parametrize("name", ["NVIDIA A100-SXM4-40GB", "NVIDIA H20-3e", "Tesla P100-PCIE-16GB"])
def test_a_real_gpu_is_not_taken_for_a_vgpu(
    tmp_path: Path, make_vendor: MakeVendor, name: str
) -> None:
    node_of(tmp_path, a100_40gb(0, name=name))
    assert offered(make_vendor().discover()) == {"nvidia.com/gpu": 1}


@pytest.mark.parametrize("uuid", ["GPU/1", "-GPU-1", "GPU-1-", "GPU@1"])
def test_an_id_that_no_cdi_device_can_have_does_not_spoil_the_file(
    tmp_path: Path, make_vendor: MakeVendor, uuid: str
) -> None:
    node_of(tmp_path, a100_40gb(0), a100_40gb(1, uuid=uuid))
    vendor = make_vendor(nvidia={"device_list_strategy": ["cdi-cri"]})
    found = vendor.discover()
    (fault,) = found.faults
    assert fault.device == "0000:0f:00.0"
    assert f"{uuid!r}, which is not a UUID" in fault.reason
    spec, *_ = vendor.cdi_specs(found.devices)  # GPUs; the others are of extras
    assert all(re.fullmatch(r"GPU-[0-9a-f-]+", name) for name in spec.devices)
    assert len(spec.devices) == 1


def test_gpus_with_one_uuid_are_both_told_and_neither_is_offered(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    twin = a100_40gb(1).uuid
    node_of(tmp_path, a100_40gb(0), a100_40gb(1), a100_40gb(2, uuid=twin))
    found = make_vendor().discover()
    assert offered(found) == {"nvidia.com/gpu": 1}
    assert [fault.device for fault in found.faults] == ["0000:0f:00.0", "0000:17:00.0"]
    assert all(twin in fault.reason for fault in withdrawn(found))


def test_a_gpu_with_an_empty_uuid_is_told_by_its_address(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    node_of(tmp_path, a100_40gb(0)).lie("nvmlDeviceGetUUID", text=b"")
    found = make_vendor().discover()
    assert [device.id for device in found.devices] == ["0000:07:00.0"]
    assert "not a UUID" in found.faults[0].reason


# -- passes, and stays so ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "word"), [(18, "reload"), (9, "modprobe nvidia"), (4, "nvidiactl")]
)
def test_a_driver_that_does_not_start_is_waited_for(
    tmp_path: Path, make_vendor: MakeVendor, code: int, word: str
) -> None:
    NvmlDouble(tmp_path, scenario=Scenario(gpus=(a100_40gb(0),), init_code=code))
    with pytest.raises(UnavailableError, match=word):
        make_vendor().discover()


def test_a_gpu_of_unified_memory_is_offered_whole(tmp_path: Path, make_vendor: MakeVendor) -> None:
    node_of(tmp_path, a100_40gb(0, name="NVIDIA GB10", memory_total_bytes=None, **NO_MIG))
    found = make_vendor().discover()
    assert (offered(found), found.faults) == ({"nvidia.com/gpu": 1}, ())


def lost(found: Discovery) -> list[Device]:
    return [device for device in found.devices if device.resource is None]


def test_sixteen_gpus_of_which_one_is_lost(tmp_path: Path, make_vendor: MakeVendor) -> None:
    node_of(tmp_path, *map(a100_40gb, range(16))).lose(0)
    found = make_vendor().discover()
    assert offered(found) == {"nvidia.com/gpu": 15}
    assert [device.id for device in lost(found)] == ["0000:07:00.0"]


# Memory of the whole and of instances in MiB; those of the RTX PRO 6000 are a report's, the others
# are sizes that these names stand for.
PROFILES = {
    "RTX PRO 6000": (97887, {(1, 24192): "1g.24gb", (2, 48512): "2g.48gb", (4, 97280): "4g.96gb"}),
    "RTX PRO 5000": (48935, {(1, 12096): "1g.12gb", (2, 24256): "2g.24gb"}),
    "B200": (183359, {(1, 22912): "1g.23gb", (2, 45824): "2g.45gb", (4, 91648): "4g.90gb"}),
    "H20": (97871, {(1, 11904): "1g.12gb", (2, 24064): "2g.24gb", (4, 48128): "4g.48gb"}),
    "A30": (24576, {(1, 5952): "1g.6gb", (2, 11968): "2g.12gb"}),
    "A100 80GB": (81920, {(1, 9728): "1g.10gb", (3, 40192): "3g.40gb"}),
}


@pytest.mark.parametrize(
    ("whole", "memory", "slices", "name"),
    [
        (whole, memory, slices, name)
        for whole, parts in PROFILES.values()
        for (slices, memory), name in parts.items()
    ],
    ids=[f"{board}-{name}" for board, (_, parts) in PROFILES.items() for name in parts.values()],
)
def test_profiles_have_the_names_that_nvidia_gives_them(
    whole: int, memory: int, slices: int, name: str
) -> None:
    found = profile_name(total_bytes=whole << 20, memory_mib=memory, slices=(slices, slices))
    assert found == name


@pytest.mark.parametrize(("pending", "wanted"), [(1, "on"), (0, "off")])
def test_a_change_of_mig_mode_that_waits_for_a_reset_is_told_and_costs_nothing(
    tmp_path: Path, make_vendor: MakeVendor, pending: int, wanted: str
) -> None:
    gpu = a100_40gb(0, mig_current=1 - pending, mig_pending=pending)
    node_of(tmp_path, gpu if pending else replace(with_mig(gpu, ["1g.5gb"]), mig_pending=0))
    found = make_vendor().discover()
    (fault,) = (f for f in found.faults if f.code == "mig_mode_pending")
    assert (fault.kind, fault.action) == (FaultClass.WARN, "reset the GPU")
    assert f"is to be turned {wanted}" in fault.reason
    assert offered(found) == {"nvidia.com/gpu" if pending else "nvidia.com/mig-1g.5gb": 1}


def test_mig_mode_without_instances_is_told(tmp_path: Path, make_vendor: MakeVendor) -> None:
    node_of(tmp_path, a100_40gb(0, mig_current=1, mig_pending=1), a100_40gb(1))
    found = make_vendor().discover()
    assert [f.code for f in found.faults] == ["mig_without_instances"]
    assert offered(found) == {"nvidia.com/gpu": 1}
