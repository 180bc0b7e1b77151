"""A scheduler's choice of devices, for tests: the first that is free; pure.

It never has more taken of a counter or a capacity than there is.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.testing.slicerules import amount, pool_problem

Document = dict[str, Any]
Match = Callable[[Document], bool]


class UnschedulableError(Exception):
    """No device of the node is left for the request."""


def choose(
    specs: Sequence[Document],
    results: Sequence[Document],
    match: Match,
    asked: Mapping[str, str],
) -> Document:
    """What is said of the device that a request gets, beside its name: `device`, and of a shared
    one `shareID` and `consumedCapacity`. `specs` are those of a complete pool in order, `results`
    what other claims have of it, `asked` the capacity that is asked for.

    Raises UnschedulableError.
    """
    if problem := pool_problem(specs):
        raise UnschedulableError(problem)
    for spec in specs:
        for device in spec.get("devices") or ():
            if not match(device) or _keeps_away(device):
                continue
            found = _result(device, specs, results, asked)
            if found is not None:
                return found
    raise UnschedulableError("no device is free")


def overdrawn(specs: Sequence[Document], results: Sequence[Document]) -> Iterator[str]:
    """Counters and capacities of which more is taken than there is, and devices given twice."""
    devices = {d["name"]: d for spec in specs for d in spec.get("devices") or ()}
    for name, left in _left(specs, results).items():
        if left < 0:
            yield f"counter {name}"
    for name, device in devices.items():
        mine = [one for one in results if one["device"] == name]
        if not device.get("allowMultipleAllocations"):
            if len(mine) > 1:
                yield f"device {name}"
            continue
        for key, capacity in device.get("capacity", {}).items():
            if _taken(key, mine) > amount(capacity["value"]):
                yield f"capacity {key} of {name}"


def _keeps_away(device: Document) -> bool:
    return any(taint["effect"] != "None" for taint in device.get("taints", ()))


def _result(
    device: Document,
    specs: Sequence[Document],
    results: Sequence[Document],
    asked: Mapping[str, str],
) -> Document | None:
    mine = [one for one in results if one["device"] == device["name"]]
    shared = device.get("allowMultipleAllocations", False)
    if mine and not shared:
        return None
    if not mine and not _has_counters(device, _left(specs, results)):
        return None
    if not shared:
        fits = all(_has(device, key, amount(text)) for key, text in asked.items())
        return {"device": device["name"]} if fits else None
    consumed = {key: _consumption(one, asked.get(key)) for key, one in device["capacity"].items()}
    for key, one in device["capacity"].items():
        if _taken(key, mine) + consumed[key] > amount(one["value"]):
            return None
    return {
        "device": device["name"],
        "shareID": str(uuid.uuid4()),
        "consumedCapacity": {key: str(int(number)) for key, number in consumed.items()},
    }


def _has(device: Document, key: str, wanted: int) -> bool:
    capacity = device.get("capacity", {}).get(key)
    return capacity is not None and amount(capacity["value"]) >= wanted


def _consumption(capacity: Document, asked: str | None) -> int:
    policy = capacity.get("requestPolicy", {})
    if asked is None:
        return amount(policy.get("default", capacity["value"]))
    span, wanted = policy.get("validRange", {}), amount(asked)
    wanted = max(wanted, amount(span.get("min", "0")))
    step = amount(span["step"]) if "step" in span else 1
    return -(-wanted // step) * step


def _taken(key: str, results: Iterable[Document]) -> int:
    return sum(amount(one["consumedCapacity"].get(key, "0")) for one in results)


def _has_counters(device: Document, left: Mapping[tuple[str, str], int]) -> bool:
    return all(
        left.get((one["counterSet"], name), -1) >= amount(counter["value"])
        for one in device.get("consumesCounters", ())
        for name, counter in one["counters"].items()
    )


def _left(specs: Sequence[Document], results: Sequence[Document]) -> dict[tuple[str, str], int]:
    """A device takes of its counters once, however many claims share it."""
    given = {one["device"] for one in results}
    left = {
        (one["name"], name): amount(counter["value"])
        for spec in specs
        for one in spec.get("sharedCounters") or ()
        for name, counter in one["counters"].items()
    }
    for spec in specs:
        for device in spec.get("devices") or ():
            for one in device.get("consumesCounters", ()) if device["name"] in given else ():
                for name, counter in one["counters"].items():
                    left[one["counterSet"], name] -= amount(counter["value"])
    return left
