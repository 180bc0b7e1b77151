"""Which alerts of the section fire for which GPU; pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from deviceplugin.documents.maintenance import MaintenanceAlert
from deviceplugin.maintenance.certain import finding_of
from deviceplugin.model import DeviceID, Inventory

Document = Mapping[str, Any]
Certain = Mapping[DeviceID, tuple[str, ...]]


class Firing(Struct, frozen=True, order=True):
    """An alert whose bound holds for a GPU."""

    alert: str
    severity: str
    device: str


def certain_of(inventory: Inventory) -> Certain:
    """The certain findings of each GPU that has one."""
    found: dict[DeviceID, tuple[str, ...]] = {}
    for device in inventory.devices.values():
        faults = () if device.parent else inventory.faults_of(device)
        findings = [finding_of(fault.source, fault.code, str(fault.kind)) for fault in faults]
        names = sorted({one[0] for one in findings if one})
        if names:
            found[device.id] = tuple(names)
    return found


def firing_of(
    alerts: Iterable[MaintenanceAlert], certain: Certain, document: Document | None
) -> frozenset[Firing]:
    """What is unknown of a GPU raises no alert."""
    gpus = {one["id"]: one for one in document["gpus"]} if document else {}
    found = set()
    for alert in alerts:
        bound = alert.bound
        for device in sorted({*certain, *gpus}):
            values = _values(gpus.get(device), len(certain.get(DeviceID(device), ())))
            if bound.holds(values.get(bound.quantity)):
                found.add(Firing(alert.name, alert.severity, str(device)))
    return frozenset(found)


def _values(gpu: Document | None, certain: int) -> Mapping[str, float | None]:
    """By the quantities of bounds; of an interval of life the early end counts."""
    values: dict[str, float | None] = {"certain_findings": float(certain)}
    if gpu is not None:
        life = gpu["remaining_life"]
        values |= {
            "failure_probability": gpu["failure_probability"],
            "relative_risk": gpu.get("relative_to_fleet"),
            "remaining_life": life["low_days"] if life else None,
        }
    return values
