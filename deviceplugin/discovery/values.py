"""A single value that a vendor reports: whether it is of the right type and can be used; pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from types import NoneType

from deviceplugin.faults import source_problem
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, Isolation, Link
from deviceplugin.names import id_problem, name_problem

MAX_KIND = 40  # characters of a link's kind, which stands in tables


MAX_COST = 1000


_NOUN = re.compile(r"[a-z][a-z0-9-]{0,19}")  # it stands in names of resources


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
    "noun": str,
    "ordinal": _OPTIONAL_TEXT,
    "driver": _OPTIONAL_TEXT,
    "shareable": bool,
    "ecc": (bool, NoneType),
    "architecture": _OPTIONAL_TEXT,
    "functions": tuple,
    "least_isolation": Isolation,
}


_FAULT_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "device": str,
    "source": str,
    "code": str,
    "reason": str,
    "kind": FaultClass,
    "action": str,
}


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


def fault_problem(fault: object, vendor: str | None = None) -> str | None:
    """Why something is not a fault, nor one of this vendor's sources; None where it is one."""
    if not isinstance(fault, Fault):
        return f"{type(fault).__name__} is not a Fault"
    if problem := _type_problem(fault, _FAULT_TYPES):
        return problem
    return source_problem(vendor, fault.source) if vendor else None


def link_problem(device: Device, link: Link, ids: Collection[DeviceID]) -> str | None:
    """Why a link of `device` counts for nothing, None where it counts; `ids` are its vendor's."""
    kind: object = link.kind
    if not isinstance(kind, str) or not kind.isprintable() or not 0 < len(kind) <= MAX_KIND:
        return f"the kind of a link, {repr(kind)[:60]}, is not a printable word"
    if link.peer == device.id:
        return "a link leads to the device itself"
    if link.peer not in ids:
        return f"a link leads to {repr(link.peer)[:80]}, which is not a device of this vendor"
    if isinstance(link.width, bool) or not isinstance(link.width, int) or link.width < 1:
        return f"the width of a link is {repr(link.width)[:60]}"
    cost = link.cost
    if cost is not None and (
        isinstance(cost, bool) or not isinstance(cost, int) or not 1 <= cost <= MAX_COST
    ):
        return f"the cost of a link, {repr(cost)[:60]}, is not a number from 1 to {MAX_COST}"
    return None


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
    if not _NOUN.fullmatch(device.noun):
        return f"noun is {device.noun[:40]!r}, not a word such as npu"
    if device.memory_bytes is not None and device.memory_bytes < 0:
        return f"memory_bytes is {device.memory_bytes}"
    texts = [part for pair in device.attributes.items() for part in pair]
    members: tuple[tuple[str, Iterable[object], type, str], ...] = (
        ("nodes", device.nodes, str, "paths"),
        ("functions", device.functions, str, "PCI addresses"),
        ("links", device.links, Link, "links"),
        ("attributes", texts, str, "text"),
    )
    for name, values, kind, what in members:
        if not all(isinstance(value, kind) for value in values):
            return f"{name} holds something other than {what}"
    return None
