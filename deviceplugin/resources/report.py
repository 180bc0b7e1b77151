"""What `discover` shows: the node's devices and resources as plain data; pure."""

from typing import Any

from deviceplugin.inventory.changes import fault_document
from deviceplugin.model import Device, Inventory, Resource
from deviceplugin.resources.plan import Plan

Report = dict[str, Any]


def report(node: str, inventory: Inventory, plan: Plan) -> Report:
    """The JSON document of `discover`, sorted, the same for the same hardware."""
    return {
        "node": node,
        "vendors": [
            {
                "name": status.name,
                "driver_version": status.driver_version,
                "library_version": status.library_version,
                "error": status.error,
            }
            for status in inventory.vendors.values()
        ],
        "devices": [_device(inventory, device) for device in inventory.devices.values()],
        "resources": {
            name: [
                {"id": entry.id, "health": entry.health, "device": entry.device}
                for entry in resource.devices
            ]
            for name, resource in sorted(plan.resources.items())
        },
        "sharing": {name: _sharing(r) for name, r in sorted(plan.resources.items())},
        "problems": [
            {"resource": p.resource, "reason": p.reason, "action": p.action} for p in plan.problems
        ],
    }


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
