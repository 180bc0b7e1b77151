"""Nodes on which something is missing or may not be read: what it costs, and what is told."""

from pathlib import Path

import pytest

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.host import MAX_FILE_BYTES
from deviceplugin.model import Discovery, Health, Inventory
from deviceplugin.resources.plan import plan_resources
from deviceplugin.testing.intel import B60, FLEX_170, set_vfs, write_intel_node
from deviceplugin.testing.tree import remove, write_tree
from tests.vendors.intel.conftest import Codes, MakeVendor, Offered

QUOTA = 4227858432
PCI = "/sys/devices/pci0000:00"


class DeniedHost(Host):
    """A host on which every path that ends in `denied` may not be read."""

    def __init__(self, root: Path, denied: str = "") -> None:
        super().__init__(root)
        self.denied = denied

    def _check(self, host_path: str) -> None:
        if host_path.endswith(self.denied):
            raise DiscoveryError(f"{host_path}: Permission denied")

    def read_bytes(self, host_path: str, size: int = MAX_FILE_BYTES) -> bytes | None:
        self._check(host_path)
        return super().read_bytes(host_path, size)

    def read_names(self, host_path: str) -> tuple[str, ...]:
        self._check(host_path)
        return super().read_names(host_path)

    def read_link(self, host_path: str) -> str | None:
        self._check(host_path)
        return super().read_link(host_path)


def health(discovery: Discovery) -> dict[str, Health]:
    """The health of each offered device, as the daemon works it out."""
    faults = {
        d.id: tuple(f for f in discovery.faults if f.device == d.id) for d in discovery.devices
    }
    inventory = Inventory(devices={d.id: d for d in discovery.devices}, faults=faults)
    resources = plan_resources(inventory).resources.values()
    return {entry.id: entry.health for resource in resources for entry in resource.devices}


@pytest.fixture
def node(root: Path) -> Path:
    """A host with a B60 of three functions, the last for virtual machines."""
    write_intel_node(root, B60)
    set_vfs(root, B60, 3, QUOTA, ["xe", "xe", "vfio-pci"])
    return root


BOTH = {"intel.com/xe-4gb": 2, "intel.com/xe-4gb-vfio": 1}


@pytest.mark.parametrize(
    ("denied", "left", "told"),
    [
        ("/dev/dri/by-path", BOTH, []),
        ("/sys/module/xe/version", BOTH, []),
        ("/xe.mei-gscfi.768/mei", BOTH, []),
        ("/0000:04:00.1/class", {**BOTH, "intel.com/xe-4gb": 1}, ["0000:04:00.1"]),
        ("/0000:04:00.0/tile0", BOTH, []),
        ("/iommu_groups/39/devices", {"intel.com/xe-4gb": 2}, ["0000:04:00.3"]),
        ("/0000:04:00.2/iommu_group", {**BOTH, "intel.com/xe-4gb": 1}, ["0000:04:00.2"]),
        ("/0000:04:00.1/drm", {**BOTH, "intel.com/xe-4gb": 1}, ["0000:04:00.1"]),
    ],
)
def test_what_cannot_be_read_costs_no_more_than_itself(
    denied: str,
    left: dict[str, int],
    told: list[str],
    node: Path,
    make_vendor: MakeVendor,
    offered: Offered,
    codes: Codes,
) -> None:
    write_tree(node, f"{PCI}/0000:04:00.0/xe.mei-gscfi.768/mei/mei1/")
    vendor = make_vendor(host=DeniedHost(node, denied), intel={"monitoring": 1})
    discovery = vendor.discover()
    assert offered(discovery) == {**left, "intel.com/gpu-monitoring": 1}
    assert codes(discovery) == [(address, "unreadable") for address in told]


def test_a_pci_bus_that_cannot_be_listed_is_an_error_and_not_an_empty_node(
    node: Path, make_vendor: MakeVendor
) -> None:
    vendor = make_vendor(host=DeniedHost(node, "/sys/bus/pci/devices"))
    with pytest.raises(DiscoveryError, match="/sys/bus/pci/devices"):
        vendor.discover()


def test_a_quota_directory_that_cannot_be_listed_is_named(
    root: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    write_intel_node(root, FLEX_170)
    set_vfs(root, FLEX_170, 4, 0)
    discovery = make_vendor(host=DeniedHost(root, "/iov/vf1")).discover()
    assert offered(discovery) == {"intel.com/xe-4gb": 4}
    (fault,) = discovery.faults
    assert (fault.device, fault.code) == ("0000:3a:00.1", "value_unreadable")
    assert "/iov/vf1" in fault.reason


@pytest.mark.parametrize(
    ("gone", "code"),
    [
        ([f"{PCI}/0000:04:00.1/drm"], "no_drm_nodes"),
        (["/dev/dri/card2"], "node_missing"),
    ],
    ids=["the driver made no nodes", "the node is not in /dev"],
)
def test_a_slice_without_nodes_is_not_given(
    gone: str, code: str, node: Path, make_vendor: MakeVendor, offered: Offered, codes: Codes
) -> None:
    remove(node, *gone)
    discovery = make_vendor().discover()
    assert offered(discovery) == {**BOTH, "intel.com/xe-4gb": 1}
    assert codes(discovery) == [("0000:04:00.1", code)]


def test_a_slice_bound_to_something_else_is_not_offered(
    node: Path, make_vendor: MakeVendor, offered: Offered, codes: Codes
) -> None:
    write_tree(node, f"{PCI}/0000:04:00.1/driver -> ../../../bus/pci/drivers/pci-stub")
    discovery = make_vendor().discover()
    assert offered(discovery) == {**BOTH, "intel.com/xe-4gb": 1}
    assert codes(discovery) == [("0000:04:00.1", "not_bound")]


def test_slices_are_unhealthy_while_their_gpu_has_no_driver(
    node: Path, make_vendor: MakeVendor
) -> None:
    assert set(health(make_vendor().discover()).values()) == {Health.HEALTHY}
    remove(node, f"{PCI}/0000:04:00.0/driver")
    discovery = make_vendor().discover()
    assert set(health(discovery).values()) == {Health.UNHEALTHY}
    (fault,) = discovery.faults
    assert fault.code == "physical_function_undriven"


def test_a_gpu_in_survivability_at_run_time_stays_listed_and_unhealthy(
    root: Path, make_vendor: MakeVendor
) -> None:
    write_intel_node(root, B60)
    write_tree(root, f"{PCI}/{B60.address}/survivability_mode = Runtime")
    assert health(make_vendor().discover()) == {B60.address: Health.UNHEALTHY}


def test_survivability_is_told_where_only_the_administrator_may_read_it(
    root: Path, make_vendor: MakeVendor
) -> None:
    write_intel_node(root, B60)
    write_tree(root, f"{PCI}/{B60.address}/survivability_mode = Runtime")
    discovery = make_vendor(host=DeniedHost(root, "survivability_mode")).discover()
    assert [fault.code for fault in discovery.faults] == ["survivability_mode"]


def test_a_driver_that_made_no_nodes_is_a_fault_of_a_whole_gpu(
    root: Path, make_vendor: MakeVendor, codes: Codes
) -> None:
    write_intel_node(root, B60)
    remove(root, f"{PCI}/{B60.address}/drm")
    assert codes(make_vendor().discover()) == [(B60.address, "no_drm_nodes")]


def test_the_versions_of_drivers_outside_the_kernel_are_told(
    root: Path, make_vendor: MakeVendor
) -> None:
    write_intel_node(root, FLEX_170)
    assert make_vendor().discover().driver_version is None
    write_tree(root, "/sys/module/i915/version = 1.25.2")
    assert make_vendor().discover().driver_version == "i915 1.25.2"


def test_a_simulated_node_refuses_two_gpus_with_the_same_nodes(root: Path) -> None:
    with pytest.raises(ValueError, match="same card"):
        write_intel_node(root, B60, FLEX_170)


def test_a_slice_that_is_being_made_is_one_device_of_its_gpu(
    root: Path, make_vendor: MakeVendor
) -> None:
    write_intel_node(root, B60)
    set_vfs(root, B60, 2, QUOTA)
    remove(root, f"{PCI}/0000:04:00.2/physfn")
    found = make_vendor().discover()
    assert sorted(d.id for d in found.devices) == ["0000:04:00.0", "0000:04:00.1", "0000:04:00.2"]
