"""What changed between two inventories, as log events for people; pure.

One cause is one event: a fault that begins on several devices at once, or a reason for which
several become Unhealthy, is written once, with all of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from deviceplugin.faults import former_name
from deviceplugin.inventory.conditions import RECOVERING, SOURCE
from deviceplugin.model import Device, Fault, FaultClass, Health, Inventory

Fields = Mapping[str, Any]
Event = tuple[str, Fields]
OPERATOR_SOURCE = "deviceplugin.operator"  # an order is no failure: it has its own event


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
    yield from _health_events(before, after)


def levelled(before: Inventory, after: Inventory) -> Iterator[tuple[str, Event]]:
    """Each event with the level at which it is logged.

    What only follows from a fault that is logged in the same step is info: one cause is one line
    at the levels that people are woken by.
    """
    found = tuple(events(before, after))
    causes = {fields["reason"] for name, fields in found if name == "fault"}
    for name, fields in found:
        follows = name in ("device_unhealthy", "vendor_waits") and fields.get("reason") in causes
        yield "info" if follows else level_of((name, fields)), (name, fields)


def level_of(event: Event) -> str:
    """The level at which an event is logged: error for what takes devices away, warning for what
    should be looked at, info for the rest and for every recovery."""
    name, fields = event
    if name == "fault":
        return _fault_level(fields)
    if name == "device_unhealthy":
        return "warning" if fields.get("source") == OPERATOR_SOURCE else "error"
    if name == "vendor_waits":
        return "warning" if fields.get("served") else "info"
    return "warning" if name == "device_gone" and not fields.get("parent") else "info"


def _fault_level(fields: Fields) -> str:
    if fields["source"] == OPERATOR_SOURCE or (fields["source"], fields["code"]) == (
        SOURCE,
        RECOVERING,
    ):
        return "info"
    kind = FaultClass(fields["class"])
    if kind.withdraws:
        return "error"
    return "warning" if kind is FaultClass.WARN else "info"


def _health_events(before: Inventory, after: Inventory) -> Iterator[Event]:
    changed = []
    for device_id, device in after.devices.items():
        known = before.devices.get(device_id)
        was = before.health_of(known) if known else Health.HEALTHY
        if after.health_of(device) != was:
            event = f"device_{after.health_of(device).lower()}"
            changed.append((event, {"device": device_id, **_why(after, device)}))
    return _grouped(changed)


def _why(inventory: Inventory, device: Device) -> Fields:
    """The most serious fault, and what a person should do about it; nothing of a healthy one."""
    faults = [fault for fault in inventory.faults_of(device) if fault.kind.withdraws]
    if not faults:
        return {}
    worst = max(faults, key=lambda fault: list(FaultClass).index(fault.kind))
    return {"source": worst.source, "reason": worst.reason, "action": worst.action}


def _grouped(events: Iterable[Event]) -> Iterator[Event]:
    """Events that differ only in their device as one: `device` is the first, `devices` all."""
    found: dict[tuple[str, tuple[tuple[str, Any], ...]], list[Fields]] = {}
    for name, fields in events:
        rest = tuple((k, v) for k, v in fields.items() if k not in ("device", "pci_address"))
        found.setdefault((name, rest), []).append(fields)
    for (name, _), group in found.items():
        devices = [fields["device"] for fields in group]
        yield name, group[0] if len(group) == 1 else {**group[0], "devices": devices}


def _description(device: Device) -> Fields:
    named = {
        "product": device.product,
        "resource": device.resource,
        "pci_address": device.pci_address,
    }
    return named if device.parent is None else {**named, "parent": device.parent}


def _vendor_events(before: Inventory, after: Inventory) -> Iterator[Event]:
    for name, status in after.vendors.items():
        was = before.vendors.get(name)
        if status.error and (was is None or was.error != status.error):
            waits = {"vendor": name, "reason": status.error}
            served = was is not None and not was.error
            yield "vendor_waits", {**waits, "served": True} if served else waits
        elif not status.error and (was is None or was.error):
            yield "vendor_serves", {"vendor": name, "driver_version": status.driver_version}
        for note in status.notes:
            if was is None or note not in was.notes:
                yield "vendor_note", {"vendor": name, "note": note}


def _fault_events(before: Inventory, after: Inventory) -> Iterator[Event]:
    old = {fault.key for faults in before.faults.values() for fault in faults}
    new = {fault.key for faults in after.faults.values() for fault in faults}
    begun = [
        ("fault", {**fault_document(fault), **_address(after, fault)})
        for faults in after.faults.values()
        for fault in faults
        if fault.key not in old
    ]
    yield from _grouped(begun)
    ended = [
        ("fault_cleared", {"device": device, "source": source, "code": code})
        for device, source, code in sorted(old - new)
    ]
    yield from _grouped(ended)


def _address(inventory: Inventory, fault: Fault) -> Fields:
    device = inventory.devices.get(fault.device)
    return {"pci_address": device.pci_address} if device and device.pci_address else {}


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
