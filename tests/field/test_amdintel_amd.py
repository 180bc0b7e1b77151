"""Reports from the field about AMD GPUs, each with its right value."""

from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, Discovery, FaultClass, Inventory
from deviceplugin.resources.plan import Plan
from deviceplugin.testing.tree import remove
from deviceplugin.vendors import amd
from deviceplugin.vendors.amd.health import AmdHealth
from tests.field.amd_trees import (
    BUS,
    KFD,
    KFD_LINES,
    MI300X_VF_BYTES,
    NAVI31,
    POLARIS,
    STRIX_HALO,
    azure,
    card,
    mixed_modes,
    node,
)
from tests.resources.builders import sharing
from tests.vendors.amd.amd_nodes import Denied, look, offered, sections, vendor_at

GIB = 1 << 30


def counts(found: Discovery) -> dict[str, int]:
    return dict(Counter(str(device.resource) for device in offered(found)))


def codes(found: Discovery) -> set[tuple[str, FaultClass]]:
    return {(fault.code, fault.kind) for fault in found.faults}


def plan(found: Discovery, *rules: dict[str, Any]) -> Plan:
    devices = MappingProxyType({device.id: device for device in found.devices})
    return sharing(*rules).plan(Inventory(devices=devices))


def sizes(plan: Plan) -> dict[str, int]:
    return {name: len(resource.devices) for name, resource in plan.resources.items()}


def test_polaris_is_one_healthy_gpu(tmp_path: Path) -> None:
    found = look(tmp_path, POLARIS)
    assert counts(found) == {"amd.com/gpu": 1}
    assert found.faults == ()


# Unified memory


def test_the_memory_that_an_integrated_gpu_works_in_is_shown(tmp_path: Path) -> None:
    (device,) = look(tmp_path, STRIX_HALO).devices
    assert device.memory_bytes == GIB // 2
    assert device.attributes["shared_memory_bytes"] == "103079215104"
    assert "size_class" not in device.attributes


def test_an_integrated_gpu_is_known_by_kfds_version_too(tmp_path: Path) -> None:
    (device,) = look(tmp_path, STRIX_HALO.replace("0x1586", "0xf00d")).devices
    assert device.attributes["shared_memory_bytes"] == "103079215104"


def test_a_large_part_of_its_own_is_the_size_of_an_integrated_gpu(tmp_path: Path) -> None:
    text = STRIX_HALO.replace("= 536870912", "= 103079215104").replace(
        "gtt_total = 103079215104", "gtt_total = 16777216000"
    )
    (device,) = look(tmp_path, text).devices
    assert device.attributes["size_class"] == "96gb"
    assert "shared_memory_bytes" not in device.attributes


def test_the_host_memory_that_a_card_can_use_is_not_its_own(tmp_path: Path) -> None:
    text = POLARIS + f"{BUS}/0000:01:00.0/mem_info_gtt_total = 137438953472\n"
    (device,) = look(tmp_path, text).devices
    assert device.attributes["size_class"] == "8gb"
    assert "shared_memory_bytes" not in device.attributes


def test_a_gpu_smaller_than_the_unit_is_a_problem_that_names_it(tmp_path: Path) -> None:
    found = look(tmp_path, STRIX_HALO)
    made = plan(found, {"match": {"vendor": "amd"}, "offers": [{"memory": {"unit": "1GiB"}}]})
    assert sizes(made) == {}
    (problem,) = made.problems
    assert problem.resource == "amd.com/gpu-memory"
    assert problem.reason == "GPU 0000:c6:00.0 makes no slice of 1GiB: it has 0.5 GiB"
    assert "whole" in problem.action


# Virtual functions in a guest


def test_functions_that_are_whole_gpus_are_gpus_to_the_guest(tmp_path: Path) -> None:
    found = look(tmp_path, azure())
    assert counts(found) == {"amd.com/gpu": 8}
    assert found.faults == ()
    assert [device.index for device in found.devices] == list(range(8))


@pytest.mark.parametrize(
    ("device_id", "memory", "resource"),
    [
        (0x7461, 30064771072, "amd.com/gpu"),
        (0x7461, 29796335616, "amd.com/gpu"),
        (0x7461, 7449083904, "amd.com/mxgpu-7gb"),
        (0x73AE, 4261412864, "amd.com/mxgpu-4gb"),
        (0x73AE, 17045651456, "amd.com/mxgpu-16gb"),
        (0x7410, 68702699520, "amd.com/gpu"),
        (0x74B5, MI300X_VF_BYTES // 8, "amd.com/mxgpu-24gb"),
    ],
)
def test_fractions_keep_the_names_of_their_size(
    tmp_path: Path, device_id: int, memory: int, resource: str
) -> None:
    text = KFD_LINES + card("0000:09:00.0", device_id, 128, mem_info_vram_total=str(memory))
    text += node(1, 128, "simd_count 416\\nlocation_id 2304\\ndomain 0")
    assert counts(look(tmp_path, text)) == {resource: 1}


def test_a_guests_gpus_can_be_named_by_their_size(tmp_path: Path) -> None:
    found = look(tmp_path, azure(), mxgpu={"guest_naming": "size"})
    assert counts(found) == {"amd.com/mxgpu-192gb": 8}


def test_the_ways_of_before_still_name_a_guests_gpus(tmp_path: Path) -> None:
    listed = {"instances": [{"name": "gpu", "memory": "192GiB"}]}
    found = look(tmp_path, azure(), mxgpu=listed)
    assert counts(found) == {"amd.com/gpu": 8}
    by_rule = {
        "match": {"vendor": "amd", "resource": "amd.com/mxgpu-*"},
        "offers": [{"whole": True, "name": "amd.com/gpu"}],
    }
    assert sizes(plan(found, by_rule)) == {"amd.com/gpu": 8}
    by_size = look(tmp_path, azure(), mxgpu={"guest_naming": "size"})
    assert sizes(plan(by_size, by_rule)) == {"amd.com/gpu": 8}


@pytest.mark.parametrize(
    ("naming", "resource"), [("single", "amd.com/gpu"), ("mixed", "amd.com/cpx_nps1")]
)
def test_a_guests_gpu_in_cpx_is_offered_as_its_partitions(
    tmp_path: Path, naming: str, resource: str
) -> None:
    found = look(tmp_path, azure("CPX", parts=8), amd={"resource_naming": naming})
    assert counts(found) == {resource: 64}
    assert found.faults == ()
    nodes = [device.nodes[-1] for device in offered(found)]
    assert len(set(nodes)) == 64
    assert {device.memory_bytes for device in offered(found)} == {MI300X_VF_BYTES // 8}


def test_a_missing_partition_of_a_guest_is_named(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, azure("CPX", parts=8))
    remove(tmp_path, f"{KFD}/nodes/5")
    found = vendor.discover()
    assert counts(found) == {"amd.com/gpu": 63}
    (fault,) = found.faults
    assert (fault.device, fault.code) == ("0002:00:00.0", "partition_missing")
    assert "7 of 8 partitions live, without 3" in fault.reason


def test_a_guest_whose_mode_and_kfd_disagree_is_not_offered_as_one_gpu(tmp_path: Path) -> None:
    found = look(tmp_path, azure("SPX", parts=8))
    assert counts(found) == {}
    assert codes(found) == {("mode_unknown", FaultClass.WARN)}
    assert "says SPX, KFD has 8 nodes" in found.faults[0].reason


def test_a_compute_die_that_is_a_function_is_no_divided_gpu(tmp_path: Path) -> None:
    """On a host in CPX each of eight functions is one die, and its guest may show the mode."""
    found = look(tmp_path, azure("CPX", memory=25753026560))
    assert counts(found) == {"amd.com/mxgpu-24gb": 8}
    assert found.faults == ()


def test_two_functions_of_one_slot_are_two_gpus(tmp_path: Path) -> None:
    text = KFD_LINES
    for number in (0, 1):
        text += card(
            f"0000:00:05.{number}", 0x74B5, 128 + number, mem_info_vram_total=str(MI300X_VF_BYTES)
        )
        text += node(1 + number, 128 + number, f"simd_count 1216\\nlocation_id {40 + number}")
    assert counts(look(tmp_path, text)) == {"amd.com/gpu": 2}


# One name for GPUs and parts of them


def test_whole_gpus_and_eighths_under_one_name_are_reported(tmp_path: Path) -> None:
    found = look(tmp_path, mixed_modes())
    assert counts(found) == {"amd.com/gpu": 22}
    assert codes(found) == {("not_single", FaultClass.WARN)}
    assert len(found.faults) == 2
    assert "cpx_nps1 of 2, whole of 6 GPUs" in found.faults[0].reason
    assert "amd.resource_naming to mixed" in found.faults[0].action


def test_naming_mixed_tells_gpus_and_eighths_apart(tmp_path: Path) -> None:
    found = look(tmp_path, mixed_modes(), amd={"resource_naming": "mixed"})
    assert counts(found) == {"amd.com/cpx_nps1": 16, "amd.com/gpu": 6}
    assert found.faults == ()


def test_two_kinds_of_partitions_under_one_name_are_reported(tmp_path: Path) -> None:
    text = mixed_modes().replace(
        f"{BUS}/0000:11:00.0/current_memory_partition = NPS1",
        f"{BUS}/0000:11:00.0/current_memory_partition = NPS4",
    )
    kinds = {fault.reason.split(": ")[1] for fault in look(tmp_path, text).faults}
    assert kinds == {"cpx_nps1 of 1, cpx_nps4 of 1, whole of 6 GPUs"}


def test_the_index_of_a_rule_fits_one_partition(tmp_path: Path) -> None:
    found = look(tmp_path, azure("CPX", parts=8))
    made = plan(found, {"match": {"index": "7:0"}, "offers": [{"whole": True, "name": "a.b/c"}]})
    (entry,) = made.resources["a.b/c"].devices  # type: ignore[index]  # a name in a test
    assert entry.device == "0009:00:00.0-p0"


# KFD


def test_a_kernel_without_kfd_is_said_and_nobody_is_sent_to_the_device_cgroup(
    tmp_path: Path,
) -> None:
    found = look(tmp_path, NAVI31)
    (fault,) = found.faults
    assert counts(found) == {"amd.com/gpu": 1}
    assert (fault.code, fault.kind) == ("no_kfd_node", FaultClass.WARN)
    assert "the kernel shows no KFD" in fault.reason
    assert "CONFIG_HSA_AMD" in fault.action
    assert "cgroup" not in fault.action


def test_a_card_that_kfd_leaves_out_is_not_for_rocm(tmp_path: Path) -> None:
    (fault,) = look(tmp_path, KFD_LINES + NAVI31).faults
    assert fault.code == "no_kfd_node"
    assert "if ROCm supports this GPU" in fault.action


def test_a_node_of_kfd_that_may_not_be_read_is_a_matter_of_the_device_cgroup(
    tmp_path: Path,
) -> None:
    vendor_at(tmp_path, POLARIS)
    found = amd.create(Denied(tmp_path, [f"{KFD}/nodes/1/properties"]), sections()).discover()
    (fault,) = found.faults
    assert "device cgroup" in fault.action


@pytest.mark.parametrize("text", [POLARIS, azure(), azure("CPX", parts=8)])
def test_without_dev_kfd_no_container_is_started_in_vain(tmp_path: Path, text: str) -> None:
    vendor = vendor_at(tmp_path, text)
    remove(tmp_path, "/dev/kfd")
    found = vendor.discover()
    assert counts(found) == {}
    assert codes(found) == {("node_missing", FaultClass.SETUP)}
    assert {fault.reason for fault in found.faults} == {"device node /dev/kfd does not exist"}
    assert [device for device in found.devices if device.resource]  # listed, Unhealthy


# Other hands


@pytest.mark.parametrize("driver", ["radeon", "pci-stub", "pciback", "nouveau"])
def test_a_gpu_in_other_hands_is_information(tmp_path: Path, driver: str) -> None:
    found = look(tmp_path, POLARIS + card("0000:0a:00.0", 0x6611, 129, driver=driver))
    assert counts(found) == {"amd.com/gpu": 1}
    (fault,) = found.faults
    assert (fault.device, fault.code, fault.kind) == ("0000:0a:00.0", "not_bound", FaultClass.INFO)
    assert f"bound to {driver}, not offered" in fault.reason


@pytest.mark.parametrize("driver", ["vfio-pci", "gim"])
def test_a_gpu_that_is_passed_on_is_no_fault(tmp_path: Path, driver: str) -> None:
    found = look(tmp_path, POLARIS + card("0000:0a:00.0", 0x74A1, 129, driver=driver))
    assert found.faults == ()


def test_what_a_guest_does_with_a_gpu_is_no_fault_here(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        card("0000:0a:00.0", 0x744C, 128, driver="vfio-pci", current_link_width="1")
        + f"{BUS}/0000:0a:00.0/max_link_width = 16\n",
    )
    assert AmdHealth(Host(tmp_path)).probe(found.devices[0]).faults == ()


def test_a_bmc_alone_is_no_gpu_of_anybodys(tmp_path: Path) -> None:
    text = POLARIS + card("0000:0b:00.0", 0x2000, 140, driver="ast").replace("0x1002", "0x1a03")
    assert [device.id for device in look(tmp_path, text).devices] == ["0000:01:00.0"]


# What is nice to have


@pytest.mark.parametrize("value", ["", "lost", "-1", "99999999999999999999999"])
def test_a_memory_that_cannot_be_read_costs_no_gpu(tmp_path: Path, value: str) -> None:
    text = NAVI31.replace("= 25753026560", f"= {value}")
    found = look(tmp_path, KFD_LINES + text)
    assert counts(found) == {"amd.com/gpu": 1}
    assert ("value_unreadable", FaultClass.WARN) in codes(found)
    assert found.devices[0].memory_bytes is None


def test_an_empty_product_name_and_no_memory_are_no_fault(tmp_path: Path) -> None:
    text = POLARIS.replace("= 8589934592", "= 0") + f"{BUS}/0000:01:00.0/product_name =\n"
    found = look(tmp_path, text)
    assert counts(found) == {"amd.com/gpu": 1}
    assert found.faults == ()


def test_a_render_minor_over_255_is_a_node_like_any_other(tmp_path: Path) -> None:
    (device,) = look(tmp_path, POLARIS.replace("renderD128", "renderD256")).devices
    assert device.nodes[-1] == "/dev/dri/renderD256"


def test_four_mi300a_are_four_gpus_with_their_own_memory(tmp_path: Path) -> None:
    text = KFD_LINES
    for number in range(4):
        text += card(
            f"{number:04x}:01:00.0",
            0x74A0,
            128 + number,
            class_id="0x120000",
            unique_id=f"0x{number + 1:016x}",
            mem_info_vram_total="137438953472",
            mem_info_gtt_total="137438953473",
            current_compute_partition="SPX",
        )
        text += node(
            1 + number,
            128 + number,
            f"simd_count 912\\nlocation_id 256\\ndomain {number}\\ngfx_target_version 90402",
            137438953472,
        )
    found = look(tmp_path, text)
    assert counts(found) == {"amd.com/gpu": 4}
    assert {device.attributes["size_class"] for device in found.devices} == {"128gb"}
    assert found.faults == ()


def test_a_device_of_which_nothing_is_known_is_not_probed_for_others() -> None:
    device = Device(id=DeviceID("x"), vendor="amd", pci_address="0000:01:00.0", driver="radeon")
    assert AmdHealth(Host(Path("/nowhere"))).probe(device).faults == ()
