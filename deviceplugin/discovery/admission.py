"""What a vendor claims, checked before anything believes it; pure.

Vendor modules are plug-ins: one that returns nonsense, or devices that are not its own, must cost
its own devices only. Where two vendors claim one id or one resource name, the earlier in `order`
has it: nobody can tell from the outside which of them lies.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import TypeVar

from deviceplugin.cdi.spec import precedes
from deviceplugin.errors import DiscoveryError
from deviceplugin.model import MAX_NUMA_NODES, Device, Discovery, Fault, FaultClass, Isolation, Link
from deviceplugin.names import id_problem, name_problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A claim, or a part of one, that is not believed: of which device, and why."""

    device: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What is left of a claim; `displaced` has what is left to weaker vendors that it contests."""

    devices: tuple[Device, ...]
    displaced: Mapping[str, tuple[Device, ...]]
    refused: tuple[Refused, ...]


_OPTIONAL_TEXT = (str, NoneType)


_OPTIONAL_NUMBER = (int, NoneType)


_DEVICE_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "id": str,
    "vendor": str,
    "product": _OPTIONAL_TEXT,
    "resource": _OPTIONAL_TEXT,
    "index": _OPTIONAL_NUMBER,
    "parent": _OPTIONAL_TEXT,
    "profile": _OPTIONAL_TEXT,
    "pci_address": _OPTIONAL_TEXT,
    "numa_node": _OPTIONAL_NUMBER,
    "memory_bytes": _OPTIONAL_NUMBER,
    "policy": _OPTIONAL_TEXT,
    "nodes": tuple,
    "links": tuple,
    "attributes": Mapping,
    "isolation": Isolation,
    "ordinal": _OPTIONAL_TEXT,
    "driver": _OPTIONAL_TEXT,
    "shareable": bool,
    "ecc": (bool, NoneType),
    "architecture": _OPTIONAL_TEXT,
    "functions": tuple,
}


_FAULT_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "device": str,
    "source": str,
    "code": str,
    "reason": str,
    "kind": FaultClass,
    "action": str,
}


def checked(vendor: str, found: object) -> tuple[Discovery, tuple[Refused, ...]]:
    """A discovery without the devices and faults that are none, and what was left out.

    Raises DiscoveryError where it is no discovery at all.
    """
    if not isinstance(found, Discovery):
        raise DiscoveryError(f"discover() gave {type(found).__name__}, not a Discovery")
    refused: list[Refused] = []
    devices = _each(found.devices, lambda device: device_problem(vendor, device), refused)
    kept = tuple(_with_numa(device, refused) for device in _distinct(devices, refused))
    faults = tuple(_each(found.faults, fault_problem, refused))
    return replace(found, devices=kept, faults=faults, **_versions(found)), tuple(refused)


def device_problem(vendor: str, device: object) -> str | None:
    """Why a vendor's device cannot be taken over as it is, None where it can."""
    if not isinstance(device, Device):
        return f"{type(device).__name__} is not a Device"
    if problem := _type_problem(device, _DEVICE_TYPES) or _content_problem(device):
        return problem
    if device.vendor != vendor:
        return f"it is said to be of vendor {device.vendor[:40]!r}"
    if problem := id_problem(device.id):
        return f"the id cannot be used: {problem}"
    if device.resource is not None and (problem := name_problem(device.resource)):
        return f"the resource {device.resource[:80]!r} cannot be offered: {problem}"
    return None


def fault_problem(fault: object) -> str | None:
    """Why something is no fault, None where it is one."""
    if not isinstance(fault, Fault):
        return f"{type(fault).__name__} is not a Fault"
    return _type_problem(fault, _FAULT_TYPES)


def admitted(
    vendor: str, devices: Sequence[Device], others: Iterable[Device], order: Sequence[str]
) -> Admitted:
    """The devices that `vendor` may have beside those of the other vendors.

    A device under an id of another vendor is refused, one under a resource name of another is
    known and not offered; a vendor that comes after this one in `order` has to give way instead.
    """
    others = tuple(other for other in others if other.vendor != vendor)
    weaker = {o.vendor for o in others if precedes(vendor, o.vendor, order)}
    stronger = [other for other in others if other.vendor not in weaker]
    ids: dict[str, str] = {other.id: other.vendor for other in stronger}
    names: dict[str, str] = {o.resource: o.vendor for o in stronger if o.resource}
    kept, refused = _yielding(devices, ids, names)
    mine: set[str] = {device.id for device in kept}
    my_names: set[str] = {device.resource for device in kept if device.resource}
    displaced = {
        name: tuple(d for d in others if d.vendor == name and _apart(d, mine, my_names))
        for name in sorted(weaker)
        if any(d.vendor == name and not _apart(d, mine, my_names) for d in others)
    }
    return Admitted(devices=kept, displaced=displaced, refused=refused)


def _yielding(
    devices: Sequence[Device], ids: Mapping[str, str], names: Mapping[str, str]
) -> tuple[tuple[Device, ...], tuple[Refused, ...]]:
    kept, refused = [], []
    for device in devices:
        if device.id in ids:
            reason = f"the id is that of a device of vendor {ids[device.id]}"
            refused.append(Refused(device=device.id, reason=reason))
        elif device.resource is not None and device.resource in names:
            reason = f"the resource {device.resource} is that of vendor {names[device.resource]}"
            refused.append(Refused(device=device.id, reason=reason))
            kept.append(replace(device, resource=None))
        else:
            kept.append(device)
    return tuple(kept), tuple(refused)


def _apart(device: Device, ids: set[str], names: set[str]) -> bool:
    return device.id not in ids and device.resource not in names


def _each(
    items: Iterable[T], problem_of: Callable[[T], str | None], refused: list[Refused]
) -> Iterator[T]:
    for item in items:
        if problem := problem_of(item):
            refused.append(Refused(device=_name_of(item), reason=problem))
        else:
            yield item


def _distinct(devices: Iterable[Device], refused: list[Refused]) -> tuple[Device, ...]:
    """An id that two devices claim identifies neither of them."""
    devices = tuple(devices)
    counted = Counter(device.id for device in devices)
    for device_id, count in counted.items():
        if count > 1:
            refused.append(Refused(device=device_id, reason=f"{count} devices have this id"))
    return tuple(device for device in devices if counted[device.id] == 1)


def _with_numa(device: Device, refused: list[Refused]) -> Device:
    """The kernel's -1 is no NUMA node; the device is none the worse for it."""
    if device.numa_node is None or 0 <= device.numa_node < MAX_NUMA_NODES:
        return device
    reason = f"NUMA node {device.numa_node} is taken as unknown"
    refused.append(Refused(device=device.id, reason=reason))
    return replace(device, numa_node=None)


def _versions(found: Discovery) -> dict[str, str | None]:
    return {
        name: str(value) if (value := getattr(found, name)) is not None else None
        for name in ("driver_version", "library_version")
    }


def _type_problem(value: object, types: Mapping[str, type | tuple[type, ...]]) -> str | None:
    for name, kind in types.items():
        part = getattr(value, name)
        if not isinstance(part, kind) or (isinstance(part, bool) and not _takes_bool(kind)):
            return f"{name} is {repr(part)[:60]}"
    return None


def _takes_bool(kind: type | tuple[type, ...]) -> bool:
    """Python calls True a number: it is one for us only where a field is declared so."""
    return kind is bool or (isinstance(kind, tuple) and bool in kind)


def _content_problem(device: Device) -> str | None:
    if not all(isinstance(node, str) for node in device.nodes):
        return "nodes holds something other than paths"
    if not all(isinstance(function, str) for function in device.functions):
        return "functions holds something other than PCI addresses"
    if not all(isinstance(link, Link) for link in device.links):
        return "links holds something other than links"
    if not all(isinstance(part, str) for pair in device.attributes.items() for part in pair):
        return "attributes holds something other than text"
    if device.memory_bytes is not None and device.memory_bytes < 0:
        return f"memory_bytes is {device.memory_bytes}"
    return None


def _name_of(item: object) -> str:
    """How to name something that may be anything."""
    known = {field.name for field in fields(item)} if isinstance(item, Device | Fault) else set()
    name = getattr(item, "id" if "id" in known else "device", item)
    return name[:80] if isinstance(name, str) else repr(name)[:80]
