"""A ResourceSlice's spec as the API server has it; pure."""

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from msgspec import Struct, field

from deviceplugin.dra.limits import Counters, Policy, SliceDevice, Taint, Value, Version

Document = dict[str, Any]
_QUANTITY = re.compile(r"(?P<number>\d{1,20}(\.\d{1,9})?)(?P<unit>m|[kMGTPE]|[KMGTPE]i)?")
_UNITS: Mapping[str | None, Decimal] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000**power) for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024**power) for power, unit in enumerate("KMGTPE", 1)},
}


class Content(Struct, frozen=True, kw_only=True):
    """What one slice has: devices, sets of counters, or before 1.35 both."""

    devices: tuple[SliceDevice, ...] = ()
    sets: Mapping[str, Counters] = field(default_factory=dict)


def spec_of(driver: str, node: str, content: Content, count: int) -> Document:
    """The spec of one of `count` slices, of generation 0."""
    found: Document = {
        "driver": driver,
        "nodeName": node,
        "pool": {"name": node, "generation": 0, "resourceSliceCount": count},
    }
    if content.sets:
        found["sharedCounters"] = [_counters("name", *one) for one in sorted(content.sets.items())]
    if content.devices or not content.sets:
        found["devices"] = [device_document(device) for device in content.devices]
    return found


def device_document(device: SliceDevice) -> Document:
    """A device, without what it has none of."""
    found: Document = {
        "name": device.name,
        "attributes": {key: _value(value) for key, value in sorted(device.attributes.items())},
        "capacity": {
            key: _capacity(number, device.policies.get(key))
            for key, number in sorted(device.capacity.items())
        },
        "consumesCounters": [
            _counters("counterSet", *one) for one in sorted(device.consumes.items())
        ],
        "taints": _taints(device.taints),
    }
    if device.policies:
        found["allowMultipleAllocations"] = True
    return {key: value for key, value in found.items() if value}


@lru_cache(maxsize=4096)  # the same few numbers at every plan
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


def parse_quantity(text: object) -> int | None:
    """A quantity in units of one, rounded up as the scheduler does; None for what is none."""
    found = _QUANTITY.fullmatch(str(text)) if isinstance(text, str | int) else None
    if found is None:
        return None
    return math.ceil(Decimal(found["number"]) * _UNITS[found["unit"]])


def _counters(key: str, name: str, counters: Counters) -> Document:
    amounts = {counter: {"value": quantity(n)} for counter, n in sorted(counters.items())}
    return {key: name, "counters": amounts}


def _capacity(number: int, policy: Policy | None) -> Document:
    found: Document = {"value": quantity(number)}
    if policy is None:
        return found
    found["requestPolicy"] = {"default": quantity(policy.default)}
    if policy.least is not None:
        least = {"min": quantity(policy.least)}
        step = {} if policy.step is None else {"step": quantity(policy.step)}
        found["requestPolicy"]["validRange"] = least | step
    return found


def _value(value: Value) -> Mapping[str, object]:
    if isinstance(value, Version):
        return {"version": value.text}
    if isinstance(value, bool):
        return {"bool": value}
    return {"int": value} if isinstance(value, int) else {"string": value}


def _taints(taints: Iterable[Taint]) -> list[Document]:
    return [
        {"key": one.key, **({"value": one.value} if one.value else {}), "effect": one.effect}
        for one in taints
    ]
