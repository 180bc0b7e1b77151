"""What `discover` shows: the node's devices and resources as plain data; pure."""

from collections import Counter
from typing import Any

from deviceplugin.inventory.changes import fault_document
from deviceplugin.model import AdvertisedDevice, Device, Health, Inventory, Resource, VendorStatus
from deviceplugin.resources.plan import Plan, Resources

Report = dict[str, Any]


def report(node: str, inventory: Inventory, plan: Plan, listed: Resources | None = None) -> Report:
    """The JSON document of `discover`, sorted, the same for the same hardware.

    `listed` is what a daemon lists to the kubelet: the plan, and what pods may still hold.
    """
    resources = plan.resources if listed is None else listed
    return {
        "node": node,
        "vendors": [_vendor(status) for status in inventory.vendors.values()],
        "devices": [_device(inventory, device) for device in inventory.devices.values()],
        "resources": {
            name: [
                {"id": entry.id, "health": entry.health, "device": entry.device}
                for entry in resource.devices
            ]
            for name, resource in sorted(resources.items())
        },
        "sharing": {name: _sharing(r) for name, r in sorted(resources.items())},
        "unavailable": {
            name: reasons
            for name, resource in sorted(resources.items())
            if (reasons := _unavailable(inventory, resource))
        },
        "problems": [
            {"resource": p.resource, "reason": p.reason, "action": p.action} for p in plan.problems
        ],
    }


def _vendor(status: VendorStatus) -> Report:
    return {
        "name": status.name,
        "driver_version": status.driver_version,
        "library_version": status.library_version,
        "error": status.error,
        "notes": list(status.notes),
    }


def _unavailable(inventory: Inventory, resource: Resource) -> list[Report]:
    """Why ids are listed and cannot be had: so capacity is more than is allocatable."""
    unhealthy = [entry for entry in resource.devices if entry.health is Health.UNHEALTHY]
    tally = Counter(_reason(inventory, entry) for entry in unhealthy)
    return [{"ids": count, "reason": reason} for reason, count in sorted(tally.items())]


def _reason(inventory: Inventory, entry: AdvertisedDevice) -> str:
    if entry.device not in inventory.devices:
        return f"{entry.device} is gone; its id stays until no pod can hold it any more"
    device = inventory.devices[entry.device]
    if inventory.health_of(device) is Health.UNHEALTHY:
        return f"{device.parent or device.id} is Unhealthy"
    if entry.reason:
        return f"{device.parent or device.id} is {entry.reason}".replace("in_use_as", "in use as")
    return f"{device.id} is not offered as this any more; its id stays until no pod can hold it"


def _sharing(resource: Resource) -> Report:
    return {
        "isolation": resource.isolation,
        "max_per_container": resource.max_per_container,
        "distinct": resource.distinct,
    }


def _device(inventory: Inventory, device: Device) -> Report:
    return {
        "id": device.id,
        "vendor": device.vendor,
        "product": device.product,
        "parent": device.parent,
        "profile": device.profile,
        "pci_address": device.pci_address,
        "numa_node": device.numa_node,
        "memory_bytes": device.memory_bytes,
        "health": inventory.health_of(device),
        "faults": [fault_document(fault) for fault in inventory.faults_of(device)],
        "resource": device.resource,
        "nodes": list(device.nodes),
        "links": [
            {
                "peer": link.peer,
                "kind": link.kind,
                "width": link.width,
                "weight": link.weight,
                "cost": link.cost,
            }
            for link in device.links
        ],
        "attributes": dict(device.attributes),
    }
