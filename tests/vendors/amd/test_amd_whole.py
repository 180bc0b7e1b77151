"""Whole GPUs: identity, what is read, and what one bad file costs."""

from pathlib import Path

import pytest

from deviceplugin.errors import UnavailableError
from deviceplugin.model import FaultClass, LinkKind
from deviceplugin.testing.amd import MI210, SimulatedGpu, amd_tree
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendors import amd
from tests.vendors.amd.amd_nodes import (
    HIVES,
    NODES,
    TREES,
    Denied,
    look,
    mi210_x8,
    mi300x,
    offered,
    vendor_at,
)

PCI = "/sys/devices/pci0000:40"


def test_a_node_without_an_amd_gpu_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no AMD GPU"):
        look(tmp_path, amd_tree([]))


def test_eight_mi210_are_known_by_their_unique_ids(tmp_path: Path) -> None:
    found = look(tmp_path, NODES["mi210-x8"])
    assert [d.id for d in found.devices] == [f"amd-1901ead3a2ecd4{n:02x}" for n in range(8)]
    first = found.devices[0]
    assert first.resource == "amd.com/gpu"
    assert first.product == "AMD Instinct MI210"
    assert first.memory_bytes == 68702699520
    assert first.nodes == ("/dev/kfd", "/dev/dri/renderD128")
    assert first.attributes["size_class"] == "64gb"
    assert first.attributes["gfx_version"] == "gfx90a"
    assert first.attributes["compute_units"] == "104"
    assert first.attributes["xgmi_hive"] == f"{HIVES[0]:016x}"
    assert [d.numa_node for d in found.devices] == [0] * 4 + [1] * 4


def test_links_carry_the_weights_of_kfd(tmp_path: Path) -> None:
    devices = look(tmp_path, NODES["mi210-x8"]).devices
    links = {link.peer: (link.kind, link.weight) for link in devices[0].links}
    assert [links[d.id] for d in devices[1:4]] == [(LinkKind.XGMI, 15)] * 3
    assert [links[d.id] for d in devices[4:]] == [(LinkKind.PCIE, 72)] * 4


def test_an_mi300x_in_spx_is_one_gpu(tmp_path: Path) -> None:
    (device,) = look(tmp_path, NODES["mi300x-spx"], amd={"resource_naming": "mixed"}).devices
    assert (device.id, device.resource) == ("amd-e3aa140f9a5f9e31", "amd.com/gpu")
    assert device.attributes["compute_units"] == "304"
    assert device.attributes["compute_partition"] == "SPX"


def test_an_unknown_numa_node_costs_nothing(tmp_path: Path) -> None:
    found = look(tmp_path, NODES["no-numa"])
    (device,) = found.devices
    assert (device.resource, device.numa_node) == ("amd.com/gpu", None)
    assert found.faults == ()
    assert found.driver_version == "6.16.13"


def test_a_missing_numa_file_costs_nothing(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi300x-cpx"])
    remove(tmp_path, f"{PCI}/0000:05:00.0/numa_node")
    assert len(offered(vendor.discover())) == 8


def test_a_gpu_without_unique_id_is_known_by_its_address(tmp_path: Path) -> None:
    assert [d.id for d in look(tmp_path, NODES["no-numa"]).devices] == ["0000:63:00.0"]


def test_an_id_that_two_gpus_claim_identifies_neither(tmp_path: Path) -> None:
    twins = [
        SimulatedGpu(address=f"0000:{bus}:00.0", model=MI210, unique_id="1901ead3a2ecd4a6")
        for bus in ("03", "26")
    ]
    found = look(tmp_path, amd_tree(twins))
    assert [d.id for d in offered(found)] == ["0000:03:00.0", "0000:26:00.0"]


def test_what_cannot_be_read_costs_one_gpu_and_is_named(tmp_path: Path) -> None:
    found = look(tmp_path, NODES["broken"])
    assert len(offered(found)) == 7
    faults = {str(fault.device): fault for fault in found.faults}
    assert set(faults) == {"0000:03:00.0", "amd-1901ead3a2ecd402"}
    unknown = faults["amd-1901ead3a2ecd402"]
    assert "0000:43:00.0/mem_info_vram_total: 'lost'" in unknown.reason
    assert (unknown.code, unknown.kind) == ("value_unreadable", FaultClass.WARN)
    assert faults["0000:03:00.0"].code == "not_bound"


def test_a_gpu_under_another_driver_is_known_and_not_offered(tmp_path: Path) -> None:
    text = amd_tree(mi210_x8()[:1]).replace("drivers/amdgpu", "drivers/vfio-pci")
    found = look(tmp_path, text)
    (device,) = found.devices
    assert (device.resource, device.attributes["driver"]) == (None, "vfio-pci")
    assert found.faults == ()


def test_a_missing_render_node_costs_one_gpu_and_is_named(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi210-x8"])
    remove(tmp_path, "/dev/dri/renderD129")
    found = vendor.discover()
    assert len(offered(found)) == 7
    (fault,) = found.faults
    assert (fault.code, fault.reason) == (
        "node_missing",
        "device node /dev/dri/renderD129 does not exist",
    )


def test_a_card_node_is_given_where_it_is_asked_for(tmp_path: Path) -> None:
    (device,) = look(tmp_path, NODES["no-numa"], amd={"card_nodes": True}).devices
    assert device.nodes == ("/dev/kfd", "/dev/dri/renderD128", "/dev/dri/card1")


def test_a_card_node_that_is_missing_is_not_given(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["no-numa"], amd={"card_nodes": True})
    remove(tmp_path, "/dev/dri/card1")
    assert offered(vendor.discover())[0].nodes == ("/dev/kfd", "/dev/dri/renderD128")


def test_gpus_that_kfd_denies_are_offered_by_what_pci_and_drm_tell(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["mi210-x8"])
    denied = Denied(tmp_path, ["kfd/topology/nodes/1/", "kfd/topology/nodes/2/"])
    found = amd.create(denied, {}).discover()
    assert len(offered(found, "amd.com/gpu")) == 8
    assert [d.memory_bytes for d in found.devices] == [68702699520] * 8
    assert {f.device for f in found.faults} == {d.id for d in found.devices[:2]}
    for fault in found.faults:
        assert (fault.source, fault.kind) == ("amd.kfd", FaultClass.WARN)
        assert "nodes/1/properties: Operation not permitted (and 1 more)" in fault.reason


def test_a_node_without_kfd_still_offers_render_nodes(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi210-x8"])
    remove(tmp_path, "/sys/devices/virtual/kfd", "/sys/class/kfd", "/dev/kfd")
    found = vendor.discover()
    assert next(d.nodes for d in offered(found)) == ("/dev/dri/renderD128",)
    assert {f.code for f in found.faults} == {"no_kfd_node"}


def test_a_topology_that_cannot_be_listed_is_a_fault_of_every_gpu(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["mi210-x8"])
    found = amd.create(Denied(tmp_path, ["kfd/topology/nodes"]), {}).discover()
    assert len(offered(found)) == len(found.faults) == 8
    assert "kfd/topology/nodes: Operation not permitted" in found.faults[0].reason


def test_links_that_cannot_be_read_cost_nothing_but_themselves(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["mi210-x8"])
    found = amd.create(Denied(tmp_path, ["nodes/1/p2p_links", "version"]), {}).discover()
    assert [len(d.links) for d in found.devices] == [3] + [7] * 7
    assert (found.faults, found.driver_version) == ((), None)


def test_a_product_name_that_cannot_be_read_costs_nothing(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["no-numa"])
    found = amd.create(Denied(tmp_path, ["product_name"]), {}).discover()
    assert [d.product for d in offered(found)] == ["AMD Instinct MI210"]


def test_a_hot_unplugged_gpu_is_gone(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi210-x8"])
    remove(tmp_path, "/sys/bus/pci/devices/0000:43:00.0")
    assert len(vendor.discover().devices) == 7


def test_a_gpu_whose_memory_only_kfd_tells_has_that(tmp_path: Path) -> None:
    text = amd_tree([mi300x(mode="SPX")]).replace("mem_info_vram_total = 206141652992", "x = 1")
    (device,) = look(tmp_path, text).devices
    assert device.attributes["memory_source"] == "kfd"
    assert device.memory_bytes == 206141652992


def test_the_trees_of_this_folder_are_all_in_use() -> None:
    assert {path.stem for path in TREES.glob("*.tree")} <= set(NODES)


def test_a_gpu_without_a_drm_device_is_not_given(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["no-numa"])
    remove(tmp_path, "/sys/devices/pci0000:60/0000:63:00.0/drm")
    found = vendor.discover()
    assert offered(found) == []
    assert found.faults[0].reason == "device node /dev/dri/renderD* does not exist"


def test_two_gpus_as_functions_of_one_slot_are_two_whole_gpus(tmp_path: Path) -> None:
    gpus = [
        SimulatedGpu(address=f"0000:09:00.{n}", model=MI210, unique_id=f"1901ead3a2ecd4a{n}")
        for n in range(2)
    ]
    found = look(tmp_path, amd_tree(gpus))
    assert [d.id for d in offered(found)] == ["amd-1901ead3a2ecd4a0", "amd-1901ead3a2ecd4a1"]
    assert found.faults == ()


def test_a_gpu_whose_identity_cannot_be_read_is_told_and_costs_no_other(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["mi210-x8"])
    found = amd.create(Denied(tmp_path, ["0000:43:00.0/device"]), {}).discover()
    assert len(offered(found)) == 7
    (fault,) = found.faults
    assert (fault.device, fault.code) == ("0000:43:00.0", "unreadable")
    assert fault.kind is FaultClass.HARDWARE  # as with every vendor
    assert "0000:43:00.0/device" in fault.reason


def test_a_product_name_of_anything_is_shown_in_one_line(tmp_path: Path) -> None:
    tree = f"{NODES['mi300x-spx']}\n{PCI}/0000:05:00.0/product_name = MI\x1b[1m\\n 300\x07X"
    (device,) = look(tmp_path, tree).devices
    assert device.product == "MI\ufffd[1m 300\ufffdX"
