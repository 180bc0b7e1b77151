"""What `discover` shows: the node's devices and resources as plain data; pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deviceplugin.inventory.changes import fault_document
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Health,
    Inventory,
    Resource,
    VendorStatus,
)
from deviceplugin.resources.compute import ComputeShare
from deviceplugin.resources.plan import Plan, Resources

Report = dict[str, Any]
MAX_NAMED = 2  # of the devices that are gone


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
        "sharing": {name: _sharing(resource, plan) for name, resource in sorted(resources.items())},
        "unavailable": {
            name: reasons
            for name, resource in sorted(resources.items())
            if (reasons := _unavailable(inventory, resource))
        },
        "problems": problems_of(plan),
    }


def problems_of(plan: Plan) -> list[Report]:
    """What the rules name and cannot be offered: resources, and devices that come to nothing."""
    return [{"resource": p.resource, "reason": p.reason, "action": p.action} for p in plan.problems]


def kept_of(inventory: Inventory, resources: Resources) -> list[Report]:
    """The ids that are listed although nothing is behind them any more, by resource: these are in
    a node's capacity and not in what is allocatable, and no fault says why."""
    found = []
    for name, resource in sorted(resources.items()):
        kept = [e for e in resource.devices if _is_kept(inventory, e)]
        tally = Counter(reason for reason in _reasons(inventory, kept).values())
        found += [{"resource": name, "ids": n, "reason": text} for text, n in sorted(tally.items())]
    return found


def _is_kept(inventory: Inventory, entry: AdvertisedDevice) -> bool:
    if entry.health is Health.HEALTHY:
        return False
    device = inventory.devices.get(entry.device)
    return device is None or not (inventory.health_of(device) is Health.UNHEALTHY or entry.reason)


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
    tally = Counter(_reasons(inventory, unhealthy).values())
    return [{"ids": count, "reason": reason} for reason, count in sorted(tally.items())]


def _reasons(
    inventory: Inventory, entries: Sequence[AdvertisedDevice]
) -> Mapping[AdvertisedID, str]:
    """Why each cannot be had; devices that are gone have one reason together."""
    gone = sorted({e.device for e in entries if e.device not in inventory.devices})
    text = _gone(gone)
    return {
        e.id: text if e.device not in inventory.devices else _reason(inventory, e) for e in entries
    }


def _gone(devices: Sequence[DeviceID]) -> str:
    if len(devices) < 2:
        return f"{''.join(devices)} is gone; its id stays until no pod can hold it any more"
    more = f" and {len(devices) - MAX_NAMED} more" if len(devices) > MAX_NAMED else ""
    named = f"{', '.join(devices[:MAX_NAMED])}{more}"
    return f"{named} are gone; their ids stay until no pod can hold them any more"


def _reason(inventory: Inventory, entry: AdvertisedDevice) -> str:
    device = inventory.devices[entry.device]
    if inventory.health_of(device) is Health.UNHEALTHY:
        return f"{device.parent or device.id} is Unhealthy"
    if entry.reason:
        return f"{device.parent or device.id} is {entry.reason}".replace("in_use_as", "in use as")
    return f"{device.id} is not offered as this any more; its id stays until no pod can hold it"


def _sharing(resource: Resource, plan: Plan) -> Report:
    """With the reason where the kernel should hold containers to their memory and does not, and
    the compute that comes with slices."""
    not_held = plan.not_held.get(resource.name, "")
    return {
        "isolation": resource.isolation,
        "max_per_container": resource.max_per_container,
        "distinct": resource.distinct,
        **({"memory_not_held": not_held} if not_held else {}),
        **compute_document(plan.compute.get(resource.name)),
    }


def compute_document(share: ComputeShare | None) -> Report:
    """The compute that comes with each slice, and what holds a container to it."""
    if share is None:
        return {}
    why = {"compute_not_held": share.reason} if share.reason else {}
    return {"compute_percent": share.percent, "compute": share.level, **why}


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
