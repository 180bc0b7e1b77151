"""MxGPU virtual functions: for virtual machines, on a GIM host."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import FaultClass, ResourceName
from deviceplugin.resources.allocation import devices_of, select
from deviceplugin.resources.plan import plan_resources
from deviceplugin.testing.amd import V620_HOST, amd_tree
from deviceplugin.testing.contract import contract_problems
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendors import amd
from tests.vendors.amd.amd_nodes import NODES, Denied, look, offered, vendor_at

VFIO_4GB = ResourceName("amd.com/mxgpu-4gb-vfio")
VF = "/sys/devices/pci0000:40/0000:c3:02"


@pytest.mark.parametrize(
    ("text", "resource", "count"),
    [
        pytest.param(NODES["gim-v620"], VFIO_4GB, 8, id="v620-8"),
        pytest.param(
            amd_tree([], [replace(V620_HOST, functions=4)]),
            "amd.com/mxgpu-8gb-vfio",
            4,
            id="v620-4",
        ),
        pytest.param(NODES["gim-mi25"], VFIO_4GB, 4, id="mi25-4"),
        pytest.param(NODES["gim-mi300x"], "amd.com/mxgpu-192gb-vfio", 1, id="mi300x-1"),
    ],
)
def test_functions_under_vfio_are_named_by_their_share(
    tmp_path: Path, text: str, resource: str, count: int
) -> None:
    found = look(tmp_path, text)
    assert len(offered(found, resource)) == len(offered(found)) == count
    assert found.faults == ()
    assert found.driver_version == "8.1.0.K"


def test_a_function_tells_what_it_is_a_part_of_and_where_its_size_comes_from(
    tmp_path: Path,
) -> None:
    found = look(tmp_path, NODES["gim-v620"])
    physical, first, *_ = found.devices
    assert (physical.id, physical.resource) == ("0000:c3:00.0", None)
    assert (first.id, first.parent, first.numa_node) == ("0000:c3:02.0", "0000:c3:00.0", 1)
    assert (first.memory_bytes, first.nodes) == (4261412864, ("/dev/vfio/218",))
    assert first.attributes["memory_source"] == "(32 GiB - 256 MiB) / 8"
    assert (first.attributes["vf_index"], first.attributes["iommu_group"]) == ("0", "218")
    assert (first.ordinal, first.driver, first.shareable) == ("0:0", "vfio-pci", False)
    assert first.functions == ("0000:c3:02.0",)


def test_two_functions_in_one_request_give_both_addresses_and_the_shared_node_once(
    tmp_path: Path,
) -> None:
    vendor = vendor_at(tmp_path, NODES["gim-v620"])
    edits = vendor.container_edits(offered(vendor.discover())[:2])
    assert edits.env == {"PCI_RESOURCE_AMD_COM_MXGPU-4GB-VFIO": "0000:c3:02.0,0000:c3:02.1"}
    assert [(n.path, n.permissions) for n in edits.device_nodes] == [
        ("/dev/vfio/vfio", "mrw"),
        ("/dev/vfio/218", "mrw"),
        ("/dev/vfio/219", "mrw"),
    ]


def test_ids_that_were_never_listed_are_refused(tmp_path: Path) -> None:
    store = InventoryStore(lambda: 0.0)
    store.set_devices("amd", look(tmp_path, NODES["gim-v620"]).devices)
    resource = plan_resources(store.current).resources[VFIO_4GB]
    entries = {str(entry.id): entry for entry in resource.devices}
    with pytest.raises(AllocationError, match="unknown device 218") as refused:
        select(VFIO_4GB, entries, ["218"])
    assert refused.value.refusal is Refusal.UNKNOWN
    chosen = select(VFIO_4GB, entries, ["0000:c3:02.1", "0000:c3:02.0"])
    devices = devices_of(VFIO_4GB, chosen, store.current.devices)
    assert [d.pci_address for d in devices] == ["0000:c3:02.0", "0000:c3:02.1"]


def test_functions_of_one_iommu_group_are_one_unit(tmp_path: Path) -> None:
    text = amd_tree([], [replace(V620_HOST, grouped=2)])
    vendor = vendor_at(tmp_path, text)
    units = offered(vendor.discover(), VFIO_4GB)
    assert [d.id for d in units] == [f"0000:c3:02.{n}" for n in (0, 2, 4, 6)]
    assert units[0].memory_bytes == 2 * 4261412864
    edits = vendor.container_edits(units[:1])
    assert list(edits.env.values()) == ["0000:c3:02.0,0000:c3:02.1"]
    assert contract_problems(vendor, Host(tmp_path)) == []


def test_a_unit_is_named_by_its_smallest_function(tmp_path: Path) -> None:
    large = replace(V620_HOST, address="0000:c9:00.0", functions=1, group=218)
    small = replace(V620_HOST, address="0000:d3:00.0", functions=8, group=218, grouped=8)
    (unit,) = offered(look(tmp_path, amd_tree([], [large, small])))
    assert (unit.id, unit.resource) == ("0000:c9:02.0", VFIO_4GB)


def test_a_foreign_member_of_the_group_costs_the_function_and_is_named(tmp_path: Path) -> None:
    group = "/sys/kernel/iommu_groups/218/devices"
    vendor = vendor_at(tmp_path, NODES["gim-v620"])
    write_tree(tmp_path, f"{group}/0000:c3:00.1 -> ../../../../devices/0000:c3:00.1")
    found = vendor.discover()
    assert len(offered(found)) == 7
    (fault,) = found.faults
    assert (fault.source, fault.code) == ("amd.vfio", "iommu_group_in_use")
    assert fault.reason.endswith("group 218 also has 0000:c3:00.1")


def test_a_bridge_in_the_group_costs_nothing(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["gim-v620"])
    write_tree(
        tmp_path,
        "/sys/kernel/iommu_groups/218/devices/0000:c0:01.0 -> x\n"
        "/sys/bus/pci/devices/0000:c0:01.0/class = 0x060400",
    )
    assert len(offered(vendor.discover())) == 8


@pytest.mark.parametrize(("node", "left"), [("/dev/vfio/220", 7), ("/dev/vfio/vfio", 0)])
def test_a_missing_vfio_node_costs_what_needs_it(tmp_path: Path, node: str, left: int) -> None:
    vendor = vendor_at(tmp_path, NODES["gim-v620"])
    remove(tmp_path, node)
    found = vendor.discover()
    assert len(offered(found)) == left
    assert {f.reason for f in found.faults} == {f"VFIO node {node} does not exist"}
    assert {(f.source, f.code) for f in found.faults} == {("amd.vfio", "vfio_node_missing")}


def test_a_function_without_an_iommu_group_is_not_given(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["gim-v620"])
    remove(tmp_path, f"{VF}.3/iommu_group")
    found = vendor.discover()
    assert len(offered(found)) == 7
    (fault,) = found.faults
    assert (fault.source, fault.code, fault.kind) == (
        "amd.vfio",
        "no_iommu_group",
        FaultClass.SETUP,
    )
    assert "/0000:c3:02.3 has no IOMMU group" in fault.reason


def test_an_unbound_function_is_known_and_not_offered(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["gim-v620"])
    remove(tmp_path, f"{VF}.3/driver")
    found = vendor.discover()
    assert len(offered(found)) == 7
    (fault,) = found.faults
    assert (fault.device, fault.code, fault.kind) == ("0000:c3:02.3", "not_bound", FaultClass.INFO)


def test_with_iommufd_the_functions_own_node_is_given_too(tmp_path: Path) -> None:
    vendor = vendor_at(
        tmp_path,
        NODES["gim-v620"]
        + f"\n{VF}.0/vfio-dev/vfio0/\n/dev/vfio/devices/vfio0 c 511:0\n/dev/iommu c 10:125",
    )
    device = offered(vendor.discover())[0]
    assert device.nodes == ("/dev/vfio/218", "/dev/vfio/devices/vfio0", "/dev/iommu")


def test_gims_own_settings_correct_the_share(tmp_path: Path) -> None:
    settings = "total_vf_num = 4\\n    pf.fb_size = 0x200"
    path = "/sys/kernel/debug/gim/0000:c3:00.0/init_conf"
    device = offered(look(tmp_path, NODES["gim-v620"] + f"\n{path} = {settings}"))[0]
    assert device.memory_bytes == (32768 - 512) // 4 * (1 << 20)
    assert device.attributes["memory_source"] == "gim init_conf"


def test_debugfs_that_only_root_reads_falls_back_to_the_defaults(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["gim-v620"])
    found = amd.create(Denied(tmp_path, ["/debug/"]), {}).discover()
    assert len(offered(found, VFIO_4GB)) == 8


def test_a_model_that_is_not_listed_is_sized_by_its_bar(tmp_path: Path) -> None:
    text = amd_tree([], [replace(V620_HOST, device_id=0x7FFF, functions=1)])
    bar = f"{VF}.0/resource = 0x0000018000000000 0x00000181ffffffff 0x000000000014220c"
    (device,) = offered(look(tmp_path, f"{text}\n{bar}"))
    assert device.resource == "amd.com/mxgpu-8gb-vfio"
    assert device.attributes["memory_source"] == "BAR 0, upper bound"


def test_a_function_whose_size_nothing_tells_is_not_offered(tmp_path: Path) -> None:
    found = look(tmp_path, amd_tree([], [replace(V620_HOST, device_id=0x7FFF, functions=1)]))
    assert offered(found) == []
    assert "no source has the frame buffer size of 0000:c3:02.0" in found.faults[0].reason


@pytest.mark.parametrize(
    ("denied", "named"),
    [
        ("0000:c3:02.3/physfn", "0000:c3:02.3/physfn: Operation not permitted"),
        ("0000:c3:02.3/iommu_group", "0000:c3:02.3/iommu_group: Operation not permitted"),
    ],
)
def test_a_link_that_cannot_be_read_costs_that_function(
    tmp_path: Path, denied: str, named: str
) -> None:
    write_tree(tmp_path, NODES["gim-v620"])
    found = amd.create(Denied(tmp_path, [denied]), {}).discover()
    assert len(offered(found, VFIO_4GB)) == 7
    assert named in found.faults[0].reason


def test_a_group_whose_members_cannot_be_listed_is_not_given_away(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["gim-v620"])
    found = amd.create(Denied(tmp_path, ["iommu_groups/220"]), {}).discover()
    assert len(offered(found, VFIO_4GB)) == 7
    assert "iommu_groups/220/devices: Operation not permitted" in found.faults[0].reason
