"""What `deviceplugin health` shows: devices, faults, since when, what clears them; pure."""

from typing import Any

from deviceplugin.health.records import CORDON, OPERATOR, FaultRecords
from deviceplugin.inventory.changes import fault_document
from deviceplugin.inventory.conditions import RECOVERING, SOURCE, condition_of
from deviceplugin.model import Device, Fault, FaultClass, Inventory

Report = dict[str, Any]

_CLEARED_BY = {
    FaultClass.RESET: "a reset of the GPU, a driver reload or a reboot",
    FaultClass.REBOOT: "a reboot of the node",
    FaultClass.HARDWARE: "an operator: deviceplugin uncordon {device} --forget-faults",
}


def health_report(inventory: Inventory, records: FaultRecords) -> Report:
    """The JSON document of `health`, sorted; times in Unix seconds."""
    return {
        "vendors": [
            {"name": status.name, "error": status.error} for status in inventory.vendors.values()
        ],
        "devices": [_device(inventory, records, d) for d in inventory.devices.values()],
    }


def _device(inventory: Inventory, records: FaultRecords, device: Device) -> Report:
    return {
        "id": device.id,
        "product": device.product,
        "parent": device.parent,
        "pci_address": device.pci_address,
        "health": inventory.health_of(device),
        "condition": condition_of(inventory, device),
        "faults": [_fault(records, fault) for fault in inventory.faults_of(device)],
    }


def _fault(records: FaultRecords, fault: Fault) -> Report:
    return {
        **fault_document(fault),
        "since": fault.since,
        "cleared_by": cleared_by(records, fault),
    }


def cleared_by(records: FaultRecords, fault: Fault) -> str:
    """What ends a fault, in words."""
    if (fault.source, fault.code) == (SOURCE, RECOVERING):
        return "time"
    if (fault.source, fault.code) == (OPERATOR, CORDON):
        return f"deviceplugin uncordon {fault.device}"
    record = records.faults.get(fault.key)
    if record is None:
        return f"itself, as soon as {fault.source} does not report it any more"
    how = _CLEARED_BY.get(record.fault.kind, "time, when it does not happen again")
    return how.format(device=fault.device)
