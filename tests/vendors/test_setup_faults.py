"""One rule for every vendor: a device that cannot be given is listed Unhealthy, in its resource."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from deviceplugin.config.schema import decode_sections
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import AdvertisedID, DeviceID, FaultClass, Health, Inventory, ResourceName
from deviceplugin.resources.plan import plan_resources
from deviceplugin.testing.amd import V620_HOST, write_amd_node
from deviceplugin.testing.contract import contract_problems
from deviceplugin.testing.intel import (
    B60,
    FLEX_170,
    iommu_group,
    set_vfs,
    vf_address,
    write_intel_node,
)
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor import Vendor
from deviceplugin.vendors import amd, intel, nvidia
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree
from tests.vendors.nvidia import test_vgpu as vgpu

PCI = "sys/bus/pci/devices"
QUOTA = 4 << 30
FLEX = replace(FLEX_170, card=20, render=148)


def nvidia_node(root: Path) -> Vendor:
    """An A100 whole, one with an instance of each half."""
    double = NvmlDouble(root, scenario=Scenario(gpus=(a100_40gb(0), a100_40gb(1))))
    double.set_mig(1, ["3g.20gb", "3g.20gb"])
    write_host_tree(root, double.scenario)
    given = {"nvidia": {"pass_device_specs": True}}
    return nvidia.create(Host(root), decode_sections(given, nvidia.SECTIONS))


def vgpu_node(root: Path) -> Vendor:
    write_tree(root, vgpu.TREE)
    return vgpu.vendor_of(root)


def amd_node(root: Path) -> Vendor:
    """An MI300X whole, one in eight partitions, a V620 with functions for virtual machines."""
    write_amd_node(root, hosts=[V620_HOST])
    return amd.create(Host(root), {})


def intel_node(root: Path) -> Vendor:
    """A Flex 170 whole, a B60 in four slices for containers and two for virtual machines."""
    write_intel_node(root, B60, FLEX)
    set_vfs(root, B60, 6, QUOTA, ["xe"] * 4 + ["vfio-pci"] * 2)
    return intel.create(Host(root), decode_sections({}, intel.SECTIONS))


class Lists(NamedTuple):
    """What would be listed, and all that is known."""

    resources: Mapping[ResourceName, Mapping[AdvertisedID, Health]]
    inventory: Inventory


def lists_of(vendor: Vendor) -> Lists:
    store, found = InventoryStore(lambda: 0.0), vendor.discover()
    store.set_faults(f"{vendor.name}:discovery", found.faults)
    store.set_devices(vendor.name, found.devices)
    plan = plan_resources(store.current)
    listed = {n: {e.id: e.health for e in r.devices} for n, r in plan.resources.items()}
    return Lists(listed, store.current)


def unhealthy(lists: Lists) -> list[tuple[str, str]]:
    found = lists.resources.items()
    return [(n, i) for n, ids in found for i, health in ids.items() if health is Health.UNHEALTHY]


CASES = [
    (nvidia_node, "dev/nvidia0", "nvidia.com/gpu", "setup"),
    (nvidia_node, "dev/nvidia-caps/nvidia-cap156", "nvidia.com/mig-3g.20gb", "setup"),
    (vgpu_node, "dev/vfio/91", "nvidia.com/GRID_T4-8Q", "setup"),
    (vgpu_node, "dev/vfio/101", "nvidia.com/NVIDIA_L40S-8Q", "setup"),
    (amd_node, "dev/dri/renderD128", "amd.com/gpu", "setup"),
    (amd_node, "dev/dri/renderD138", "amd.com/gpu", "setup"),
    (amd_node, "dev/vfio/219", "amd.com/mxgpu-4gb-vfio", "setup"),
    (amd_node, f"{PCI}/0000:c3:02.3/iommu_group", "amd.com/mxgpu-4gb-vfio", "setup"),
    (intel_node, "dev/dri/card20", "intel.com/gpu", "setup"),
    (intel_node, f"{PCI}/{FLEX.address}/drm", "intel.com/gpu", "reset"),
    (intel_node, f"{PCI}/{vf_address(B60, 1)}/drm", "intel.com/xe-4gb", "reset"),
    (intel_node, f"dev/vfio/{iommu_group(B60, 5)}", "intel.com/xe-4gb-vfio", "setup"),
    (intel_node, f"{PCI}/{vf_address(B60, 5)}/iommu_group", "intel.com/xe-4gb-vfio", "setup"),
]


@pytest.mark.parametrize(("make", "gone", "resource", "kind"), CASES)
def test_a_device_that_cannot_be_given_stays_in_its_list_unhealthy(
    tmp_path: Path, make: Callable[[Path], Vendor], gone: str, resource: str, kind: str
) -> None:
    vendor = make(tmp_path)
    whole = lists_of(vendor)
    assert unhealthy(whole) == []
    path, aside = tmp_path / gone, tmp_path / "aside"
    path.rename(aside)
    broken = lists_of(vendor)
    assert {n: ids.keys() for n, ids in broken.resources.items()} == {
        n: ids.keys() for n, ids in whole.resources.items()
    }
    ((name, device),) = unhealthy(broken)
    assert name == resource
    (fault,) = (f for f in broken.inventory.faults[DeviceID(device)] if f.kind.withdraws)
    assert fault.kind is FaultClass(kind)
    assert fault.reason
    assert fault.action
    assert contract_problems(vendor, Host(tmp_path)) == []
    aside.rename(path)
    assert lists_of(vendor).resources == whole.resources
