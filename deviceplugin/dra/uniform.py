"""One set of attributes and capacities for all devices of a type; pure.

An expression that reads what one device lacks is an error, for which the scheduler gives a claim
nothing of the node: so what only some of a type have costs the few, not the claims of all.
"""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence

from msgspec.structs import replace

from deviceplugin.dra.limits import SliceDevice, Value

PLACES = "memorySlice"  # those of a MIG instance are its own, and say which these are
Kept = tuple[list[SliceDevice], list[str]]


def uniform(devices: Sequence[SliceDevice], claimed: Container[str]) -> Kept:
    """The devices as they are published, and what is not, in words.

    A capacity that most of a type have is asked for: one that lacks it is left out, unless a claim
    holds it. An attribute that not all have is left out of all.
    """
    types = {_type(device) for device in devices}
    kept: dict[str, SliceDevice] = {}
    told: list[str] = []
    for kind in types:
        found, texts = _of_type([one for one in devices if _type(one) == kind], claimed)
        kept |= {one.name: one for one in found}
        told += texts
    return [kept[one.name] for one in devices if one.name in kept], sorted(told)


def _of_type(devices: Sequence[SliceDevice], claimed: Container[str]) -> Kept:
    told: list[str] = []
    usual = _keys(devices, _comparable, lambda count: 2 * count > len(devices))
    stay = []
    for one in devices:
        lacking = ", ".join(sorted(usual - one.capacity.keys()))
        if lacking and one.name not in claimed:
            told.append(f"device {one.name}: {lacking} of it is not known, that of others is")
        else:
            stay.append(one)
    common = _keys(stay, _attributes, lambda count: count == len(stay))
    capacities = _keys(stay, _comparable, lambda count: count == len(stay)) | usual
    return [_only(one, common, capacities) for one in stay], told


def _only(device: SliceDevice, attributes: Container[str], capacity: Container[str]) -> SliceDevice:
    """What several claims take of a device stays: without it they would take nothing."""
    return replace(
        device,
        attributes={key: value for key, value in device.attributes.items() if key in attributes},
        capacity={
            key: n
            for key, n in device.capacity.items()
            if key in capacity or device.policies or key.startswith(PLACES)
        },
    )


def _keys(
    devices: Sequence[SliceDevice],
    of: Callable[[SliceDevice], Mapping[str, object]],
    enough: Callable[[int], bool],
) -> set[str]:
    counts = Counter(key for device in devices for key in of(device))
    return {key for key, count in counts.items() if enough(count)}


def _attributes(device: SliceDevice) -> Mapping[str, Value]:
    return device.attributes


def _comparable(device: SliceDevice) -> Mapping[str, int]:
    return {key: n for key, n in device.capacity.items() if not key.startswith(PLACES)}


def _type(device: SliceDevice) -> str:
    return str(device.attributes.get("type", ""))
