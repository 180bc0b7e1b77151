"""MxGPU virtual functions: for containers, in a guest and on their host; the list of sizes."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.model import FaultClass
from deviceplugin.testing.amd import MI210, V620_HOST, SimulatedGpu, amd_tree
from deviceplugin.testing.tree import remove, write_tree
from tests.vendors.amd.amd_nodes import MI25_HOST, NODES, look, offered, vendor_at

VFIO_4GB = "amd.com/mxgpu-4gb-vfio"
VF = "/sys/devices/pci0000:40/0000:c3:02"


@pytest.mark.parametrize(
    ("node", "resource"),
    [("guest-mi300x-vf", "amd.com/gpu"), ("guest-v620-vf", "amd.com/mxgpu-4gb")],
)
def test_a_guest_offers_its_function_to_containers(
    tmp_path: Path, node: str, resource: str
) -> None:
    found = look(tmp_path, NODES[node])
    (device,) = found.devices
    assert (device.id, device.resource, device.parent) == ("0000:09:00.0", resource, None)
    assert device.nodes == ("/dev/kfd", "/dev/dri/renderD128")
    assert device.attributes["memory_source"] == "mem_info_vram_total"
    assert found.faults == ()


def test_a_guest_without_kfd_offers_its_function_with_a_fault(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["guest-v620-vf"])
    remove(tmp_path, "/sys/class/kfd")
    found = vendor.discover()
    assert len(offered(found, "amd.com/mxgpu-4gb")) == 1
    assert [f.code for f in found.faults] == ["no_kfd_node"]


def on_host_for_containers(vfs: int = 2) -> str:
    """A physical function under amdgpu with virtual functions under amdgpu."""
    host = replace(V620_HOST, functions=vfs, driver="amdgpu")
    whole = SimulatedGpu(address="0000:c3:00.0", model=replace(MI210, device_id=0x73A1))
    lines = [amd_tree([], [host]), amd_tree([whole])]
    for number in range(vfs):
        minor = 140 + number
        lines += [
            f"{VF}.{number}/mem_info_vram_total = 4261412864",
            f"{VF}.{number}/drm/renderD{minor}/dev = 226:{minor}",
            f"/dev/dri/renderD{minor} c 226:{minor}",
            (
                f"/sys/devices/virtual/kfd/kfd/topology/nodes/{10 + number}/properties = "
                f"simd_count 8\\nsimd_per_cu 4\\nlocation_id {0xC310 + number}"
                f"\\ndrm_render_minor {minor}"
            ),
        ]
    return "\n".join(lines)


def test_functions_under_amdgpu_on_their_host_are_for_containers_and_hide_their_gpu(
    tmp_path: Path,
) -> None:
    found = look(tmp_path, on_host_for_containers())
    physical, first, second = found.devices
    assert (physical.id, physical.resource) == ("0000:c3:00.0", None)
    assert {first.resource, second.resource} == {"amd.com/mxgpu-4gb"}
    assert first.nodes == ("/dev/kfd", "/dev/dri/renderD140")
    assert (first.parent, first.attributes["compute_units"]) == (physical.id, "2")
    assert found.faults == ()


def test_a_gpu_serves_whole_while_none_of_its_functions_does(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, on_host_for_containers())
    remove(tmp_path, f"{VF}.0/driver", f"{VF}.1/driver")
    assert [d.id for d in offered(vendor.discover(), "amd.com/gpu")] == ["0000:c3:00.0"]


def test_a_gpu_serves_whole_beside_functions_that_cannot_be_given(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, on_host_for_containers())
    remove(tmp_path, "/dev/dri/renderD140")
    assert {d.resource for d in offered(vendor.discover())} == {"amd.com/mxgpu-4gb"}
    remove(tmp_path, "/dev/dri/renderD141")
    found = vendor.discover()
    assert [d.id for d in offered(found)] == ["0000:c3:00.0"]
    assert [d.resource for d in found.devices if d.parent] == ["amd.com/mxgpu-4gb"] * 2


def test_a_function_whose_memory_is_nonsense_costs_itself_only(tmp_path: Path) -> None:
    text = on_host_for_containers() + f"\n{VF}.1/mem_info_vram_total = lost"
    found = look(tmp_path, text)
    assert [d.id for d in offered(found)] == ["0000:c3:02.0"]
    assert "0000:c3:02.1/mem_info_vram_total" in found.faults[0].reason


USERS_LIST = {
    "version": "2.0",
    "instances": [
        {"name": "mxgpu-4gb", "memory": "4GiB", "compute_units": 32, "rocm_cores": 16},
        {"name": "small", "memory": "8GiB", "compute_units": 64},
    ],
    "scheduling": {"policy": "round_robin", "isolation": "hardware"},
}


def test_the_list_of_instances_pins_names_and_the_policy_goes_with_them(tmp_path: Path) -> None:
    second = replace(V620_HOST, address="0000:c9:00.0", functions=4, group=300)
    text = amd_tree([], [V620_HOST, replace(MI25_HOST, group=400), second])
    found = look(tmp_path, text, mxgpu=USERS_LIST)
    assert len(offered(found, VFIO_4GB)) == 12
    assert len(offered(found, "amd.com/small-vfio")) == 4
    first = offered(found, VFIO_4GB)[0]
    assert (first.policy, first.least_isolation) == ("round_robin", "hardware")
    assert first.attributes["instance_compute_units"] == "32"
    assert first.attributes["instance_rocm_cores"] == "16"


def test_a_size_that_is_not_listed_is_left_out_and_reported(tmp_path: Path) -> None:
    found = look(tmp_path, NODES["gim-mi300x"], mxgpu=USERS_LIST)
    assert offered(found) == []
    (fault,) = found.faults
    assert (fault.code, fault.kind) == ("size_not_listed", FaultClass.INFO)
    assert "mxgpu-192gb" in fault.reason


def test_functions_that_are_switched_off_are_left_out_without_a_fault(tmp_path: Path) -> None:
    found = look(tmp_path, NODES["gim-v620"], mxgpu={"enabled": False})
    assert (offered(found), found.faults) == ([], ())


def test_without_the_amdgpu_files_a_function_takes_kfds_bank_then_its_share(
    tmp_path: Path,
) -> None:
    text = on_host_for_containers(2).replace("mem_info_vram_total = 4261412864", "nothing = 0")
    bank = "/sys/devices/virtual/kfd/kfd/topology/nodes/10/mem_banks/0/properties"
    first, second = offered(look(tmp_path, f"{text}\n{bank} = size_in_bytes 4261412864"))
    assert (first.attributes["memory_source"], first.resource) == ("kfd", "amd.com/mxgpu-4gb")
    assert second.attributes["memory_source"] == "(32 GiB - 256 MiB) / 2"


def test_a_guest_function_whose_size_nothing_tells_is_not_offered(tmp_path: Path) -> None:
    text = NODES["guest-v620-vf"].replace("mem_info_vram_total", "nothing")
    found = look(tmp_path, text)
    assert offered(found) == []
    assert [f.code for f in found.faults] == ["size_unknown"]


def test_a_guest_function_without_its_render_node_is_not_given(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["guest-v620-vf"])
    remove(tmp_path, "/dev/dri/renderD128")
    found = vendor.discover()
    assert (offered(found), found.faults[0].code) == ([], "node_missing")


def test_a_gpu_that_cannot_be_read_takes_no_function_away_that_serves(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, on_host_for_containers())
    write_tree(tmp_path, "/sys/devices/pci0000:40/0000:c3:00.0/unique_id = garbage")
    found = vendor.discover()
    physical, *functions = found.devices
    assert [f.parent for f in functions] == [physical.id, physical.id]
    assert len(offered(found)) == 2
    told = [(f.device, f.code, f.kind) for f in found.faults if f.code == "unreadable"]
    assert told == [(physical.id, "unreadable", FaultClass.WARN)]
