"""What an API server takes of a ResourceSlice's spec, drops of it and refuses; pure.

Written from the API's documentation for itself: nothing here is the daemon's own idea of it.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

Document = dict[str, Any]
TAINTS, PARTITIONS, CAPACITY = (
    "DRADeviceTaints",
    "DRAPartitionableDevices",
    "DRAConsumableCapacity",
)
GATES = (TAINTS, PARTITIONS, CAPACITY)
BETA_SINCE, SEPARATE_SINCE = 36, 35
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_KEY = re.compile(r"([a-z0-9][-a-z0-9.]{0,62}/)?[A-Za-z_][A-Za-z0-9_]{0,31}")
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+].*)?")
_UNITS = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_SUFFIX = re.compile(r"(\d+)([kMGTPE]?)(i?)", re.IGNORECASE)


def amount(quantity: str) -> int:
    """A quantity in units of one; ValueError for what is none."""
    match = _SUFFIX.fullmatch(quantity)
    if match is None:
        raise ValueError(quantity)
    unit = match[2] if match[2] == "k" else match[2].upper()
    base: int = (1024 if match[3] else 1000) ** _UNITS[unit]
    return int(match[1]) * base


def kept(spec: Document, gates: Collection[str], before: Document | None) -> Document:
    """The spec without fields whose gate is off, unless the stored object has used them; taints
    are stamped."""
    used = set(gates) | (set(_used(before)) if before else set())
    found = dict(spec)
    if PARTITIONS not in used:
        found.pop("sharedCounters", None)
    if "devices" in found:
        found["devices"] = [_kept_device(device, used) for device in found["devices"]]
    return found


def _kept_device(device: Document, gates: Collection[str]) -> Document:
    found = dict(device)
    if TAINTS not in gates:
        found.pop("taints", None)
    if PARTITIONS not in gates:
        found.pop("consumesCounters", None)
    if CAPACITY not in gates:
        found.pop("allowMultipleAllocations", None)
        capacity = found.get("capacity", {})
        found["capacity"] = {key: {"value": one["value"]} for key, one in capacity.items()}
    if "taints" in found:
        added = {"timeAdded": "2026-01-01T00:00:00Z"}
        found["taints"] = [added | taint for taint in found["taints"]]
    return {key: value for key, value in found.items() if value}


def _used(spec: Document) -> Iterator[str]:
    devices = spec.get("devices") or ()
    if any("taints" in one for one in devices):
        yield TAINTS
    if spec.get("sharedCounters") or any("consumesCounters" in one for one in devices):
        yield PARTITIONS
    if any("allowMultipleAllocations" in one for one in devices):
        yield CAPACITY


def problems(spec: Document, minor: int) -> Iterator[str]:
    """Why the spec is refused whole; `minor` is the server's release."""
    devices, sets = spec.get("devices") or [], spec.get("sharedCounters") or []
    heavy = any({"taints", "consumesCounters"} & device.keys() for device in devices)
    if len(devices) > (64 if heavy and minor >= SEPARATE_SINCE else 128):
        yield "too many devices"
    if len({device["name"] for device in devices}) < len(devices):
        yield "a device is there twice"
    yield from _set_problems(sets)
    if minor >= SEPARATE_SINCE and devices and sets:
        yield "sharedCounters and devices exclude each other"
    if minor < SEPARATE_SINCE:
        yield from _early_problems(devices, sets)
    for device in devices:
        for text in _device_problems(device, most_taints=16 if minor >= SEPARATE_SINCE else 4):
            yield f"{device['name']}: {text}"


def _early_problems(devices: Iterable[Document], sets: Iterable[Document]) -> Iterator[str]:
    taken = [one for device in devices for one in device.get("consumesCounters", ())]
    if sum(len(one["counters"]) for one in sets) > 32:
        yield "more than 32 counters"
    if sum(len(one["counters"]) for one in taken) > 1024:
        yield "more than 1024 consumptions"
    names = {one["name"] for one in sets}
    if any(one["counterSet"] not in names for one in taken):
        yield "a counter set is missing"


def _set_problems(sets: Collection[Document]) -> Iterator[str]:
    if len(sets) > 8:
        yield "more than 8 counter sets"
    if len({one["name"] for one in sets}) < len(sets):
        yield "a counter set is there twice"
    for one in sets:
        if not _LABEL.fullmatch(one["name"]) or not 1 <= len(one["counters"]) <= 32:
            yield f"counter set {one['name']}"
        if not all(map(_LABEL.fullmatch, one["counters"])):
            yield f"counters of {one['name']}"


def _device_problems(device: Document, most_taints: int) -> Iterator[str]:
    values = {**device.get("attributes", {}), **device.get("capacity", {})}
    if not _LABEL.fullmatch(device["name"]):
        yield "not a DNS label"
    if len(values) > 32 or not all(map(_KEY.fullmatch, values)):
        yield "its keys"
    for value in device.get("attributes", {}).values():
        if len(str(value.get("string", ""))) > 64:
            yield "a string"
        if "version" in value and not _SEMVER.fullmatch(value["version"]):
            yield "a version"
    if len(device.get("taints", ())) > most_taints:
        yield "its taints"
    taken = device.get("consumesCounters", ())
    if len(taken) > 2 or len({one["counterSet"] for one in taken}) < len(taken):
        yield "its counter sets"
    for one in device.get("capacity", {}).values():
        yield from _capacity_problems(one, shared=device.get("allowMultipleAllocations", False))


def _capacity_problems(one: Document, *, shared: bool) -> Iterator[str]:
    policy = one.get("requestPolicy")
    if policy is None:
        return
    value, default = amount(one["value"]), amount(policy["default"])
    span = policy.get("validRange", {})
    least, step = (amount(span[key]) if key in span else None for key in ("min", "step"))
    if not shared:
        yield "a request policy without allowMultipleAllocations"
    if default > value or (least is not None and not least <= default):
        yield "the default of a request policy"
    if step is not None and (least is None or least + step > value or default % step):
        yield "the step of a request policy"


def pool_problem(specs: Collection[Document]) -> str:
    """Why nothing of a pool can be allocated, empty where it can: its sets are not all there."""
    sets = {
        one["name"]: one["counters"] for spec in specs for one in spec.get("sharedCounters", ())
    }
    count = sum(len(spec.get("sharedCounters") or ()) for spec in specs)
    if count > len(sets):
        return "a counter set is there twice"
    for spec in specs:
        for device in spec.get("devices") or ():
            for one in device.get("consumesCounters", ()):
                there = sets.get(one["counterSet"], {})
                if not one["counters"].keys() <= there.keys():
                    return f"{device['name']}: counters of {one['counterSet']} are missing"
    return ""
