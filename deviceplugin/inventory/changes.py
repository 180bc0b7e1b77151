"""What changed between two inventories, as log events for people; pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from deviceplugin.faults import former_name
from deviceplugin.model import Device, Fault, FaultClass, Health, Inventory

Event = tuple[str, Mapping[str, Any]]


def events(before: Inventory, after: Inventory) -> Iterator[Event]:
    """Name and fields of each event, in a fixed order."""
    yield from _vendor_events(before, after)
    for device_id, device in after.devices.items():
        if device_id not in before.devices:
            yield "device_found", {"device": device_id, **_description(device)}
    for device_id, device in before.devices.items():
        if device_id not in after.devices:
            yield "device_gone", {"device": device_id, **_description(device)}
    yield from _fault_events(before, after)
    for device_id, device in after.devices.items():
        known = before.devices.get(device_id)
        was = before.health_of(known) if known else Health.HEALTHY
        if after.health_of(device) != was:
            yield f"device_{after.health_of(device).lower()}", _health(after, device)


def _health(inventory: Inventory, device: Device) -> Mapping[str, Any]:
    """The reason of the most serious fault, and what a person should do about it."""
    faults = [fault for fault in inventory.faults_of(device) if fault.kind.withdraws]
    if not faults:
        return {"device": device.id}
    worst = max(faults, key=lambda fault: list(FaultClass).index(fault.kind))
    return {"device": device.id, "reason": worst.reason, "action": worst.action}


def _description(device: Device) -> Mapping[str, Any]:
    return {
        "product": device.product,
        "resource": device.resource,
        "pci_address": device.pci_address,
    }


def _vendor_events(before: Inventory, after: Inventory) -> Iterator[Event]:
    for name, status in after.vendors.items():
        was = before.vendors.get(name)
        if status.error and (was is None or was.error != status.error):
            yield "vendor_waits", {"vendor": name, "reason": status.error}
        elif not status.error and (was is None or was.error):
            yield "vendor_serves", {"vendor": name, "driver_version": status.driver_version}


def _fault_events(before: Inventory, after: Inventory) -> Iterator[Event]:
    old = {fault.key for faults in before.faults.values() for fault in faults}
    new = {fault.key for faults in after.faults.values() for fault in faults}
    for faults in after.faults.values():
        for fault in faults:
            if fault.key not in old:
                yield "fault", fault_document(fault)
    for device, source, code in sorted(old - new):
        yield "fault_cleared", {"device": device, "source": source, "code": code}


def fault_document(fault: Fault) -> dict[str, Any]:
    """A fault for people and log lines; without the time of day, which differs from run to run.

    A fault that was renamed has its former name, `source/code`, as `was`.
    """
    former = former_name(f"{fault.source}/{fault.code}")
    document = {
        "device": fault.device,
        "source": fault.source,
        "code": fault.code,
        "class": fault.kind,
        "reason": fault.reason,
        "action": fault.action,
    }
    return document if former is None else {**document, "was": former}
