"""Which ResourceSlices an inventory makes: one pool for each driver of the node; pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from deviceplugin.dra.attributes import Seen, attributes_of, capacity_of
from deviceplugin.dra.limits import (
    MAX_DEVICES,
    MAX_TAINTED_DEVICES,
    MAX_TAINTS,
    SliceDevice,
    Taint,
    Value,
    Version,
    dropped,
    fitted,
)
from deviceplugin.dra.names import MAX_LABEL
from deviceplugin.model import Device, Fault

Document = dict[str, Any]
TAINTS_SINCE = 36  # in a minor release before, the API server drops them unless a gate is on


class Pool(Struct, frozen=True, kw_only=True):
    """Whose slices they are: a driver on a node, and the minor release of the API server."""

    driver: str
    node: str
    minor: int


class Offered(Struct, frozen=True, kw_only=True):
    """A device as claims are to see it: `claimed` by one now, or held `elsewhere` by the device
    plugin."""

    name: str
    device: Device
    seen: Seen
    faults: tuple[Fault, ...] = ()
    claimed: bool = False
    elsewhere: bool = False


class SlicePlan(Struct, frozen=True, kw_only=True):
    """The specs of a pool's slices, all of generation 0, and what is not published of devices."""

    specs: tuple[Document, ...]
    dropped: tuple[str, ...] = ()


def plan_slices(pool: Pool, offered: Iterable[Offered]) -> SlicePlan:
    """The pool's slices; without a device one that is empty: the driver runs and has nothing.

    Where there are no taints, a device that no claim may have now is left out, unless a claim
    holds it.
    """
    with_taints = pool.minor >= TAINTS_SINCE
    devices: list[SliceDevice] = []
    told: list[str] = []
    for one in offered:
        taints = tuple(_taints(pool.driver, one))
        if taints and not with_taints and not one.claimed:
            continue
        device = _device(one, taints if with_taints else ())
        fits = fitted(device, most_taints=MAX_TAINTS)
        told += dropped(device, fits)
        devices += [fits] if fits else []
    size = MAX_TAINTED_DEVICES if with_taints else MAX_DEVICES
    parts = [devices[start : start + size] for start in range(0, len(devices), size)] or [[]]
    return SlicePlan(
        specs=tuple(_spec(pool, part, len(parts)) for part in parts), dropped=tuple(told)
    )


def _device(one: Offered, taints: tuple[Taint, ...]) -> SliceDevice:
    return SliceDevice(
        name=one.name,
        attributes=attributes_of(one.device, one.seen),
        capacity=capacity_of(one.device),
        taints=taints,
    )


def _taints(driver: str, one: Offered) -> Iterator[Taint]:
    """One for each kind of fault that makes it Unhealthy, and one while the device plugin has it:
    a set that follows from what is so now, and ends with it."""
    for key, value in sorted({(f.code, f.source) for f in one.faults if f.kind.withdraws}):
        yield Taint(key=f"{driver}/{_label(key)}", value=_label(value))
    if one.elsewhere:
        yield Taint(key=f"{driver}/in-use", value="device-plugin")


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:MAX_LABEL].strip("-_.")


def _spec(pool: Pool, devices: Iterable[SliceDevice], count: int) -> Document:
    return {
        "driver": pool.driver,
        "nodeName": pool.node,
        "pool": {"name": pool.node, "generation": 0, "resourceSliceCount": count},
        "devices": [_document(device) for device in devices],
    }


def _document(device: SliceDevice) -> Document:
    found: Document = {
        "name": device.name,
        "attributes": {key: _value(value) for key, value in sorted(device.attributes.items())},
        "capacity": {
            key: {"value": quantity(number)} for key, number in sorted(device.capacity.items())
        },
    }
    if device.taints:
        found["taints"] = [_taint(taint) for taint in device.taints]
    return {key: value for key, value in found.items() if value}


def _value(value: Value) -> Mapping[str, object]:
    if isinstance(value, Version):
        return {"version": value.text}
    if isinstance(value, bool):
        return {"bool": value}
    return {"int": value} if isinstance(value, int) else {"string": value}


def _taint(taint: Taint) -> Document:
    value = {"value": taint.value} if taint.value else {}
    return {"key": taint.key, **value, "effect": taint.effect}


def quantity(number: int) -> str:
    """A number as the API server gives it back (apimachinery, Quantity.CanonicalizeBytes): the
    largest unit of which it is a whole multiple. Written otherwise it would never compare equal.
    """
    base, units = (1024, "KMGTPE") if number and number % 1024 == 0 else (1000, "kMGTPE")
    unit = ""
    for following in units:
        if not number or number % base:
            break
        number, unit = number // base, following
    return f"{number}{unit}{'i' if unit and base == 1024 else ''}"
