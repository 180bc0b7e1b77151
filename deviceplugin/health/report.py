"""What `deviceplugin health` shows: devices, who holds them, faults, since when, what clears
them; pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from deviceplugin.health.records import CORDON, OPERATOR, WAIT, FaultRecords
from deviceplugin.inventory.changes import fault_document
from deviceplugin.inventory.conditions import RECOVERING, SOURCE, condition_of
from deviceplugin.model import (
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Health,
    Inventory,
    Resource,
    ResourceName,
)

Report = dict[str, Any]
# Namespace, pod and container, then the resource and the device of an id that it holds.
Held = tuple[tuple[str, str, str], ResourceName, DeviceID]
Listed = Mapping[ResourceName, Resource]
GONE = "gone"  # the condition of a device that pods hold and that is not on the node

_BY_OPERATOR = "an operator: deviceplugin uncordon {device} --forget-faults"
_CLEARED_BY = {
    FaultClass.SETUP: _BY_OPERATOR,
    FaultClass.RESET: "a reset of the GPU, a driver reload or a reboot",
    FaultClass.REBOOT: "a reboot of the node",
    FaultClass.HARDWARE: _BY_OPERATOR,
}


def _nobody() -> Iterable[Held]:
    return ()


def _nothing() -> Listed:
    return {}


def _no_lines() -> Sequence[Report]:
    return ()


class Uses(Struct, frozen=True):
    """Who holds which device, and under which names devices are listed; asked at each report.

    `problems` are what the rules name and cannot be offered, `kept` the ids that are listed
    although nothing is behind them, as `discover` shows them.
    """

    held: Callable[[], Iterable[Held]] = _nobody
    listed: Callable[[], Listed] = _nothing
    problems: Callable[[], Sequence[Report]] = _no_lines
    kept: Callable[[], Sequence[Report]] = _no_lines


def health_report(inventory: Inventory, records: FaultRecords, uses: Uses | None = None) -> Report:
    """The JSON document of `health`, sorted; times in Unix seconds."""
    uses = uses or Uses()
    held, listed = tuple(uses.held()), uses.listed()
    holders, names = _holders(held), _names(listed)
    devices = []
    for device in inventory.devices.values():
        used = {"resources": names.get(device.id, []), "held_by": holders.get(device.id, [])}
        devices.append({**_device(inventory, records, device), **used})
    # What pods hold of a resource that is not listed has not been looked for yet.
    gone = {d for _, name, d in held if d not in inventory.devices and name in listed}
    return {
        "vendors": [
            {"name": status.name, "error": status.error, "notes": list(status.notes)}
            for status in inventory.vendors.values()
        ],
        "devices": [*devices, *(_gone(device, holders[device]) for device in sorted(gone))],
        "problems": list(uses.problems()),
        "kept": list(uses.kept()),
    }


def _holders(held: Iterable[Held]) -> dict[DeviceID, list[Report]]:
    found: dict[DeviceID, list[Report]] = {}
    for (namespace, pod, container), resource, device in sorted(set(held)):
        holder = {"namespace": namespace, "pod": pod, "container": container}
        found.setdefault(device, []).append({**holder, "resource": resource})
    return found


def _names(listed: Listed) -> dict[DeviceID, list[str]]:
    found: dict[DeviceID, list[str]] = {}
    for name, resource in sorted(listed.items()):
        for device in dict.fromkeys(entry.device for entry in resource.devices):
            found.setdefault(device, []).append(name)
    return found


def _device(inventory: Inventory, records: FaultRecords, device: Device) -> Report:
    return {
        "id": device.id,
        "vendor": device.vendor,
        "product": device.product,
        "parent": device.parent,
        "profile": device.profile,
        "index": device.index,
        "pci_address": device.pci_address,
        "health": inventory.health_of(device),
        "condition": condition_of(inventory, device),
        "faults": [_fault(records, fault) for fault in inventory.faults_of(device)],
    }


def _gone(device: DeviceID, holders: list[Report]) -> Report:
    """A device that was taken away while pods hold it: it has no faults any more, but they do."""
    fault = Fault(
        device=device,
        source="deviceplugin.inventory",
        code=GONE,
        reason="it is not on the node any more, and pods still hold it",
        action="end these pods; if it was not taken out on purpose, see the kernel log",
        kind=FaultClass.HARDWARE,
    )
    end = "the end of these pods, or the return of the device"
    return {
        "id": device,
        "vendor": None,
        "product": None,
        "parent": None,
        "profile": None,
        "index": None,
        "pci_address": None,
        "health": Health.UNHEALTHY,
        "condition": GONE,
        "faults": [{**fault_document(fault), "since": None, "cleared_by": end}],
        "resources": sorted({str(holder["resource"]) for holder in holders}),
        "held_by": holders,
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
        return "its end" if fault.action == WAIT else f"deviceplugin uncordon {fault.device}"
    record = records.faults.get(fault.key)
    if record is None:
        end = f"as soon as {fault.source} does not report it any more"
        by_itself = not fault.kind.withdraws or fault.action.startswith("none")
        return f"itself, {end}" if by_itself else f"the action above; it ends {end}"
    how = _CLEARED_BY.get(record.fault.kind, "time, when it does not happen again")
    return how.format(device=fault.device)
