"""Every tree through the vendor contract, and what each node offers."""

from pathlib import Path

import pytest

from deviceplugin.errors import UnavailableError
from deviceplugin.host import Host
from deviceplugin.testing.contract import contract_problems
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.intel import SECTIONS, create
from tests.vendors.intel.conftest import Codes, FindDevice, MakeVendor, Offered

TREES = sorted(path.stem for path in (Path(__file__).parent / "trees").glob("*.tree"))
B60_SPLIT = {"intel.com/xe-4gb": 4, "intel.com/xe-4gb-vfio": 2}

OFFERED = {
    "b60": {"intel.com/gpu": 1},
    "b60-6vf": B60_SPLIT,
    "b60-6vf-debugfs": B60_SPLIT,
    "b60-6vf-debugfs-gt": B60_SPLIT,
    "b60-6vf-nothing-readable": B60_SPLIT,
    "flex170-4vf-iov": {"intel.com/xe-4gb": 4},
    "flex170-4vf-prelim-iov": {"intel.com/xe-4gb": 4},
    "guest-vf": {"intel.com/gpu": 1},
    "integrated-3vf": {"intel.com/gpu-vf": 2, "intel.com/gpu-vf-vfio": 1},
    "integrated-and-discrete": {"intel.com/gpu": 2},
    "max1550": {"intel.com/gpu": 1},
    "max1550-4vf": {"intel.com/xe-30gb": 4},
    "survivability": {},
}

SETTINGS = {
    "as shipped": {},
    "everything on": {
        "monitoring": 2,
        "resource_naming": "driver",
        "device_list_strategy": ["device-specs", "cdi-cri", "cdi-annotations"],
    },
}


def test_every_tree_has_its_expectation() -> None:
    assert sorted(OFFERED) == TREES


@pytest.mark.parametrize("tree", TREES)
def test_a_node_offers_exactly_what_its_tree_holds(
    tree: str, make_vendor: MakeVendor, offered: Offered
) -> None:
    assert offered(make_vendor(tree).discover()) == OFFERED[tree]


@pytest.mark.parametrize("intel", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("tree", TREES)
def test_the_vendor_contract_holds(
    tree: str, intel: dict[str, object], make_vendor: MakeVendor, root: Path
) -> None:
    assert contract_problems(make_vendor(tree, intel=intel), Host(root)) == []


@pytest.mark.parametrize(
    ("tree", "source"),
    [
        ("b60-6vf", "sriov_admin"),
        ("b60-6vf-debugfs", "debugfs"),
        ("b60-6vf-debugfs-gt", "debugfs"),
        ("b60-6vf-nothing-readable", "share of table"),
        ("flex170-4vf-iov", "iov"),
        ("flex170-4vf-prelim-iov", "iov"),
    ],
)
def test_a_slice_tells_where_its_size_is_from(
    tree: str, source: str, make_vendor: MakeVendor
) -> None:
    slices = [d for d in make_vendor(tree).discover().devices if d.parent]
    assert {d.attributes["memory_source"] for d in slices} == {source}


def test_a_physical_function_is_seen_but_not_offered_while_its_functions_serve(
    make_vendor: MakeVendor, device: FindDevice
) -> None:
    discovery = make_vendor("b60-6vf").discover()
    physical = device(discovery, "0000:04:00.0")
    assert physical.resource is None
    assert physical.attributes["virtual_functions"] == "6"
    assert {d.parent for d in discovery.devices} == {None, physical.id}


def test_a_slice_knows_its_place(make_vendor: MakeVendor, device: FindDevice) -> None:
    second = device(make_vendor("b60-6vf").discover(), "0000:04:00.2")
    assert second.product == "Intel Arc Pro B60"
    assert second.numa_node == 0
    assert second.memory_bytes == 4227858432
    assert second.nodes == ("/dev/dri/card3", "/dev/dri/renderD130")
    assert second.attributes["physical_function"] == "0000:04:00.0"
    assert second.attributes["vf_index"] == "2"
    assert second.attributes["driver"] == "xe"


def test_a_slice_of_two_tiles_has_the_sum_of_both_quotas(
    make_vendor: MakeVendor, device: FindDevice
) -> None:
    discovery = make_vendor("max1550-4vf").discover()
    assert device(discovery, "0000:9a:00.1").memory_bytes == 2 * 16106127360


def test_a_whole_gpu_of_two_tiles_is_one_device(
    make_vendor: MakeVendor, device: FindDevice
) -> None:
    gpu = device(make_vendor("max1550").discover(), "0000:9a:00.0")
    assert gpu.product == "Intel Data Center GPU Max 1550"
    assert gpu.attributes["tiles"] == "2"
    assert gpu.memory_bytes == 128 << 30


def test_an_integrated_gpu_has_no_memory_of_its_own(
    make_vendor: MakeVendor, device: FindDevice
) -> None:
    gpu = device(make_vendor("integrated-and-discrete").discover(), "0000:00:02.0")
    assert gpu.memory_bytes is None
    assert gpu.numa_node is None
    assert "memory_source" not in gpu.attributes


def test_driver_names_replace_the_native_ones_and_never_add_to_them(
    make_vendor: MakeVendor, offered: Offered
) -> None:
    vendor = make_vendor("integrated-and-discrete", intel={"resource_naming": "driver"})
    assert offered(vendor.discover()) == {"gpu.intel.com/i915": 1, "gpu.intel.com/xe": 1}


def test_driver_names_cover_slices_for_containers_only(
    make_vendor: MakeVendor, offered: Offered
) -> None:
    vendor = make_vendor("b60-6vf", intel={"resource_naming": "driver"})
    assert offered(vendor.discover()) == {"gpu.intel.com/xe": 4, "intel.com/xe-4gb-vfio": 2}


def test_a_guest_slice_is_named_by_the_size_its_driver_tells(
    make_vendor: MakeVendor, offered: Offered, device: FindDevice
) -> None:
    discovery = make_vendor("guest-vf", query=lambda driver, node: 4227858432).discover()
    assert offered(discovery) == {"intel.com/xe-4gb": 1}
    assert device(discovery, "0000:06:00.0").attributes["function"] == "virtual in a guest"


def test_a_guest_function_whose_driver_tells_nothing_has_no_size(
    make_vendor: MakeVendor, device: FindDevice
) -> None:
    gpu = device(make_vendor("guest-vf").discover(), "0000:06:00.0")
    assert gpu.resource == "intel.com/gpu"
    assert gpu.memory_bytes is None


def test_a_guest_function_that_cannot_be_asked_whether_it_is_a_slice_has_no_name(
    make_vendor: MakeVendor, root: Path, device: FindDevice
) -> None:
    vendor = make_vendor("guest-vf")
    (root / "dev/dri/card0").unlink()
    discovery = vendor.discover()
    assert device(discovery, "0000:06:00.0").resource is None
    assert [(fault.code, fault.kind) for fault in discovery.faults] == [("node_missing", "setup")]


def test_a_whole_gpu_given_to_a_guest_stays_a_whole_gpu(
    make_vendor: MakeVendor, offered: Offered
) -> None:
    vendor = make_vendor("guest-vf", query=lambda driver, node: 25669140480)
    assert offered(vendor.discover()) == {"intel.com/gpu": 1}


def test_broken_firmware_is_a_fault_that_tells_what_to_flash(make_vendor: MakeVendor) -> None:
    discovery = make_vendor("survivability").discover()
    (fault,) = discovery.faults
    assert (fault.device, fault.source) == ("0000:04:00.0", "intel.survivability")
    assert fault.kind.withdraws
    assert "Survivability mode type: Boot" in fault.reason
    assert "firmware" in fault.action


def test_a_bound_gpu_without_nodes_costs_only_itself(
    make_vendor: MakeVendor, root: Path, offered: Offered, codes: Codes
) -> None:
    vendor = make_vendor("integrated-and-discrete")
    (root / "dev/dri/card1").unlink()
    discovery = vendor.discover()
    assert offered(discovery) == {"intel.com/gpu": 1}
    assert codes(discovery) == [("0000:04:00.0", "node_missing")]


def test_a_gpu_without_a_driver_is_seen_but_not_offered(
    make_vendor: MakeVendor, root: Path, offered: Offered, codes: Codes
) -> None:
    vendor = make_vendor("integrated-and-discrete")
    (root / "sys/devices/pci0000:00/0000:04:00.0/driver").unlink()
    assert codes(vendor.discover()) == [("0000:04:00.0", "not_bound")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        (
            "/sys/bus/pci/devices/0000:00:0b.0/vendor = 0x8086\n"
            "/sys/bus/pci/devices/0000:00:0b.0/device = 0x7d1d\n"
            "/sys/bus/pci/devices/0000:00:0b.0/class = 0x120000"
        ),
        (
            "/sys/bus/pci/devices/0000:63:00.0/vendor = 0x1002\n"
            "/sys/bus/pci/devices/0000:63:00.0/device = 0x740f\n"
            "/sys/bus/pci/devices/0000:63:00.0/class = 0x038000"
        ),
    ],
    ids=["no PCI bus", "an Intel NPU", "a GPU of another vendor"],
)
def test_a_node_without_intel_gpus_is_normal(
    text: str, make_vendor: MakeVendor, root: Path
) -> None:
    write_tree(root, text)
    with pytest.raises(UnavailableError):
        make_vendor().discover()


def test_the_vendor_is_made_from_decoded_sections(root: Path) -> None:
    sections = {name: section() for name, section in SECTIONS.items()}
    assert create(Host(root), sections).name == "intel"
