"""What is found on a node, strategy by strategy and failure by failure."""

from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.errors import UnavailableError
from deviceplugin.host import Host
from deviceplugin.model import Device, Discovery, FaultClass, LinkKind
from deviceplugin.testing.contract import contract_problems
from deviceplugin.testing.tree import remove, write_tree
from tests.fakes.nvml import (
    NvmlDouble,
    Scenario,
    a100_40gb,
    b200,
    h200,
    with_nvlink_pairs,
    with_nvswitch,
    write_host_tree,
)
from tests.fakes.nvml.model import Gpu
from tests.vendors.nvidia.conftest import MakeVendor

GPU_0, GPU_1 = ("GPU-" + "-".join([d * 8, d * 4, d * 4, d * 4, d * 12]) for d in "01")
WITH_NODES = {"pass_device_specs": True}


def resources(found: Discovery) -> dict[str, int]:
    return dict(Counter(d.resource for d in found.devices if d.resource))


def codes(found: Discovery) -> set[tuple[str, str]]:
    return {(fault.code, fault.kind) for fault in found.faults}


def by_id(found: Discovery, device_id: str) -> Device:
    return next(device for device in found.devices if device.id == device_id)


@pytest.mark.parametrize(
    "section",
    [
        {},
        WITH_NODES,
        {"device_list_strategy": ["cdi-cri"]},
        {"device_list_strategy": ["envvar", "volume-mounts", "cdi-annotations", "cdi-cri"]},
        {"device_id_strategy": "index", "pass_device_specs": True},
        {"mig_strategy": "none"},
    ],
    ids=["default", "nodes", "cdi", "all", "index", "none"],
)
def test_the_vendor_keeps_the_contract(
    node: NvmlDouble, make_vendor: MakeVendor, tmp_path: Path, section: dict[str, object]
) -> None:
    assert contract_problems(make_vendor(nvidia=section), Host(tmp_path)) == []


def test_a_whole_gpu_is_described(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    found = make_vendor().discover()
    gpu = by_id(found, GPU_1)
    assert (found.driver_version, gpu.resource) == ("550.163.01", "nvidia.com/gpu")
    assert gpu.product == "NVIDIA A100-SXM4-40GB"
    assert gpu.pci_address == "0000:0f:00.0"
    assert gpu.numa_node == 0
    assert gpu.attributes["compute_capability"] == "8.0"
    assert gpu.attributes["architecture"] == "ampere"
    assert "/dev/nvidia1" in gpu.nodes


def test_mig_instances_are_named_after_their_profiles_and_know_their_parent(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    found = make_vendor().discover()
    assert resources(found) == {
        "nvidia.com/gpu": 3,
        "nvidia.com/mig-3g.20gb": 1,
        "nvidia.com/mig-1g.5gb": 1,
        "nvidia.com/mig-1g.5gb.me": 1,
    }
    part = next(d for d in found.devices if d.profile == "3g.20gb")
    parent = by_id(found, str(part.parent))
    assert (parent.resource, part.numa_node) == (None, parent.numa_node)
    assert sum("/nvidia-caps/" in node for node in part.nodes) == 2


def test_compute_slices_have_names_of_their_own(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    node.set_mig(3, ["1c.3g.20gb", "2c.3g.20gb"])
    assert {"nvidia.com/mig-1c.3g.20gb", "nvidia.com/mig-2c.3g.20gb"} <= resources(
        make_vendor().discover()
    ).keys()


@pytest.mark.parametrize(
    ("gpu", "profile"),
    [(h200(0), "3g.71gb"), (b200(0), "1g.23gb"), (h200(0), "1g.18gb")],
    ids=["h200", "b200", "h200-1g"],
)
def test_memory_in_a_name_is_rounded_half_up(
    tmp_path: Path, make_vendor: MakeVendor, gpu: Gpu, profile: str
) -> None:
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=(gpu,)))
    double.set_mig(0, [profile])
    assert resources(make_vendor().discover()) == {f"nvidia.com/mig-{profile}": 1}


def test_strategy_none_offers_no_gpu_in_mig_mode_and_says_so(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    found = make_vendor(nvidia={"mig_strategy": "none"}).discover()
    assert resources(found) == {"nvidia.com/gpu": 3}
    assert ("mig_not_offered", FaultClass.WARN) in codes(found)


def test_strategy_single_offers_instances_of_one_profile_as_gpus(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    for index in range(4):
        node.set_mig(index, ["1g.5gb"] * 7)
    found = make_vendor(nvidia={"mig_strategy": "single"}).discover()
    assert resources(found) == {"nvidia.com/gpu": 28}
    assert not [fault for fault in found.faults if fault.code == "not_single"]


def test_strategy_single_on_a_mixed_node_serves_the_commonest_profile_and_tells_the_rest(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    node.set_mig(2, ["2g.10gb", "2g.10gb", "1g.5gb"])
    node.set_mig(3, ["1g.5gb", "1g.5gb"])
    found = make_vendor(nvidia={"mig_strategy": "single"}).discover()
    assert resources(found) == {"nvidia.com/gpu": 3}
    assert {d.profile for d in found.devices if d.resource} == {"1g.5gb"}
    assert sum(fault.code == "not_single" for fault in found.faults) == 2 + 2


def test_strategy_single_without_mig_offers_whole_gpus(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    node.clear_mig(3)
    found = make_vendor(nvidia={"mig_strategy": "single"}).discover()
    assert resources(found) == {"nvidia.com/gpu": 4}


def test_the_list_of_instances_is_an_allow_list(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    listed = [{"name": "mig-1g.5gb", "memory": "5GiB", "compute_units": 14, "tensor_cores": 1}]
    asked = {"instances": listed, "scheduling": {"isolation": "hardware"}}
    found = make_vendor(mig=asked).discover()
    assert resources(found) == {"nvidia.com/gpu": 3, "nvidia.com/mig-1g.5gb": 1}
    assert {d.least_isolation for d in found.devices if d.parent} == {"hardware"}
    assert {d.least_isolation for d in found.devices if not d.parent} == {"none"}


def test_a_wrong_number_of_compute_units_is_told(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    listed = [{"name": "mig-3g.20gb", "memory": "20GiB", "compute_units": 99}]
    found = make_vendor(mig={"instances": listed}).discover()
    assert ("declared_compute_units", FaultClass.INFO) in codes(found)


def test_a_mig_gpu_without_instances_costs_itself_alone(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    node.set_mig(2, [])
    found = make_vendor().discover()
    assert resources(found)["nvidia.com/gpu"] == 2
    assert ("mig_without_instances", FaultClass.WARN) in codes(found)


@pytest.mark.parametrize("code", [15, 16, 999], ids=["lost", "reset", "unknown"])
def test_a_gpu_that_fails_keeps_its_devices_faulted(
    node: NvmlDouble, make_vendor: MakeVendor, code: int
) -> None:
    vendor = make_vendor()
    before = vendor.discover()
    node.lose(1, code=code)
    after = vendor.discover()
    assert {d.id for d in after.devices} == {d.id for d in before.devices}
    assert [fault.device for fault in after.faults] == [GPU_1]
    node.recover(1)
    assert vendor.discover() == before


def test_a_call_that_fails_on_one_gpu_costs_that_gpu_alone(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    node.fail("nvmlDeviceGetMigMode", 999, gpu=0)
    found = make_vendor().discover()
    assert resources(found)["nvidia.com/gpu"] == 2
    (fault,) = found.faults
    assert fault.device == "0000:07:00.0"
    assert "nvmlDeviceGetMigMode" in fault.reason


def test_a_gpu_lost_before_it_was_ever_seen_is_shown_by_its_address(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    node.lose(0)
    found = make_vendor().discover()
    lost = by_id(found, "0000:07:00.0")
    assert lost.resource is None
    assert [fault.device for fault in found.faults] == ["0000:07:00.0"]


def test_a_gpu_that_nvml_no_longer_lists_is_a_lost_gpu(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    vendor = make_vendor()
    vendor.discover()
    node.remove(1)
    found = vendor.discover()
    assert [(fault.device, fault.code) for fault in found.faults] == [(GPU_1, "not_listed")]


def test_a_gpu_that_left_the_bus_is_gone(
    node: NvmlDouble, make_vendor: MakeVendor, tmp_path: Path
) -> None:
    vendor = make_vendor()
    vendor.discover()
    node.remove(1)
    remove(tmp_path, "/sys/bus/pci/devices/0000:0f:00.0")
    found = vendor.discover()
    assert found.faults == ()
    assert GPU_1 not in {device.id for device in found.devices}


def test_a_gpu_given_to_virtual_machines_is_not_lost(
    node: NvmlDouble, make_vendor: MakeVendor, tmp_path: Path
) -> None:
    node.remove(1)
    function = "/sys/bus/pci/devices/0000:0f:00.0"
    write_tree(tmp_path, f"{function}/driver -> ../../../bus/pci/drivers/vfio-pci")
    assert make_vendor().discover().faults == ()


def test_a_missing_node_takes_the_device_only_where_nodes_are_handed_out(
    node: NvmlDouble, make_vendor: MakeVendor, tmp_path: Path
) -> None:
    remove(tmp_path, "/dev/nvidia0", "/proc/driver/nvidia-caps/mig-minors")
    assert make_vendor().discover().faults == ()
    found = make_vendor(nvidia=WITH_NODES).discover()
    missing = [fault for fault in found.faults if fault.code == "node_missing"]
    assert len(missing) == 1 + 3
    assert {fault.kind for fault in missing} == {FaultClass.SETUP}


def test_an_unknown_numa_node_is_none(
    node: NvmlDouble, make_vendor: MakeVendor, tmp_path: Path
) -> None:
    write_tree(tmp_path, "/sys/bus/pci/devices/0000:07:00.0/numa_node = -1")
    assert by_id(make_vendor().discover(), GPU_0).numa_node is None


def test_nodes_of_a_driver_container_have_its_root_on_the_host(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    double = NvmlDouble(tmp_path / "run/nvidia/driver", scenario=Scenario(gpus=(a100_40gb(0),)))
    write_host_tree(tmp_path / "run/nvidia/driver", double.scenario)
    vendor = make_vendor(nvidia=WITH_NODES)
    (device,) = vendor.discover().devices
    nodes = vendor.container_edits([device]).device_nodes
    assert ("/dev/nvidia0", "/run/nvidia/driver/dev/nvidia0") in {
        (node.path, node.host_path) for node in nodes
    }


def test_no_driver_is_unavailable_and_says_what_was_looked_for(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    with pytest.raises(UnavailableError, match=r"libnvidia-ml\.so\.1"):
        make_vendor().discover()


@pytest.mark.parametrize(
    ("code", "advice"), [(9, "kernel module"), (18, "reload the driver")], ids=["unloaded", "skew"]
)
def test_a_driver_that_cannot_start_is_unavailable_with_advice(
    tmp_path: Path, make_vendor: MakeVendor, code: int, advice: str
) -> None:
    NvmlDouble(tmp_path, scenario=Scenario(gpus=(a100_40gb(0),), init_code=code))
    with pytest.raises(UnavailableError, match=advice):
        make_vendor().discover()


def test_a_replaced_driver_is_loaded_anew(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    vendor = make_vendor()
    assert vendor.discover().driver_version == "550.163.01"
    node.uninstall()
    vendor.close()
    with pytest.raises(UnavailableError):
        vendor.discover()
    node.install()
    assert len(vendor.discover().devices) == 7


def test_nvlinks_through_a_switch_connect_every_pair(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    gpus = with_nvswitch([a100_40gb(index) for index in range(4)])
    NvmlDouble(tmp_path, scenario=Scenario(gpus=tuple(gpus)))
    for device in make_vendor().discover().devices:
        widths = {k.peer: k.width for k in device.links if k.kind is LinkKind.NVLINK}
        assert len(widths) == 3
        assert set(widths.values()) == {12}


def test_direct_nvlinks_connect_their_pair_alone(tmp_path: Path, make_vendor: MakeVendor) -> None:
    gpus = with_nvlink_pairs([a100_40gb(index) for index in range(4)], [(0, 1), (2, 3)])
    NvmlDouble(tmp_path, scenario=Scenario(gpus=tuple(gpus)))
    found = make_vendor().discover()
    linked = [k.peer for k in by_id(found, GPU_0).links if k.kind is LinkKind.NVLINK]
    assert linked == [GPU_1]


def test_a_name_that_is_no_utf8_text_costs_nothing_but_its_letters(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    scenario = node.folder / "nvml-scenario"
    scenario.write_bytes(
        scenario.read_bytes().replace(b'name="NVIDIA A100', b'name="NVIDIA \xff\x1b[1m\tA100')
    )
    found = make_vendor().discover()
    assert by_id(found, GPU_0).product == "NVIDIA \ufffd\ufffd[1m A100-SXM4-40GB"


def test_a_mig_gpu_that_tells_no_memory_costs_itself_alone(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    node.update_gpu(3, lambda gpu: replace(gpu, memory_total_bytes=0))
    assert resources(make_vendor().discover()) == {"nvidia.com/gpu": 3}
