"""What a GPU can be cut into, as devices that take of its counters; pure.

Names of devices, sets and counters are those of the vendors' own DRA drivers. `placements` is the
way from a device's name to what has to be made for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.dra.attributes import CAPACITIES, STANDARD, Seen, attributes_of, capacity_of
from deviceplugin.dra.limits import Counters, Policy, SliceDevice
from deviceplugin.dra.names import mig_name
from deviceplugin.model import Device, DeviceID, frozen
from deviceplugin.vendor.partitions import Mig, Modes, PartitionedGpu, Profile

# Of a counter set, by NVML's word for the engine.
_ENGINES = {
    "copy": "copy-engines",
    "decoder": "decoders",
    "encoder": "encoders",
    "jpeg": "jpeg-engines",
    "ofa": "ofa-engines",
}
_MODE = "partition-mode"
# How many partitions a mode makes; CPX makes one of each die.
_PARTITIONS = {"SPX": 1, "DPX": 2, "TPX": 3, "QPX": 4}
Kind = tuple[int, tuple[int, ...]]  # an instance's slices, and where it may start
ONE_OF_MANY = Policy(default=1, least=1, step=1)


class Placement(Struct, frozen=True, kw_only=True, order=True):
    """What a device stands for: a MIG instance of `profile` at memory slice `start`, or one of
    the partitions that compute mode `profile` makes of the GPU (`start` None)."""

    gpu: DeviceID
    profile: str
    start: int | None = None


class Division(Struct, frozen=True, kw_only=True):
    """A GPU with its counters: the parts that it can be cut into by their placements, in the order
    in which they leave most beside them, and what the whole takes (None: it cannot be had so)."""

    counter_set: str
    counters: Counters
    whole: Counters | None = None
    parts: Mapping[Placement, SliceDevice] = field(default_factory=dict)


def division(name: str, device: Device, gpu: PartitionedGpu, seen: Seen) -> Division | None:
    """How `device`, which is called `name`, can be cut; None where it cannot, or where the driver
    does not say what an instance takes."""
    if device.vendor == "nvidia" and gpu.mig is not None and not gpu.mig.fixed:
        return _of_mig(name, device, gpu.mig, seen)
    if device.vendor == "amd" and gpu.modes is not None and gpu.modes.memory is not None:
        return _of_modes(device, gpu.modes, seen)
    return None


def placements(
    devices: Mapping[str, Device], gpus: Mapping[DeviceID, PartitionedGpu]
) -> Mapping[str, Placement]:
    """What the devices of slices stand for that are not there yet, by their names; `devices` are
    those of `names.device_names`."""
    found: dict[str, Placement] = {}
    for name, device in devices.items():
        gpu = gpus.get(device.id)
        divided = division(name, device, gpu, Seen()) if gpu is not None else None
        for place, part in divided.parts.items() if divided else ():
            found[part.name] = place
    return found


def overlap(one: Placement, other: Placement, mig: Mig) -> bool:
    """Whether two MIG placements want the same memory slice of a GPU."""
    return bool(_slices(one, mig) & _slices(other, mig))


def place_of(device: Device) -> Placement | None:
    """Where a MIG instance is that exists, None where that is not known."""
    start = device.attributes.get("placement_start", "")
    if device.parent is None or device.profile is None or not start.isdecimal():
        return None
    return Placement(gpu=device.parent, profile=device.profile, start=int(start))


def _slices(place: Placement, mig: Mig) -> frozenset[int]:
    sizes = {profile.name: profile.size for profile in mig.profiles}
    start = place.start or 0
    return frozenset(range(start, start + sizes.get(place.profile, 0)))


# -- NVIDIA -----------------------------------------------------------------------------------
def _of_mig(name: str, device: Device, mig: Mig, seen: Seen) -> Division | None:
    """A GPU whose mode changes at once is whole or cut, as claims want it; another is only what
    its mode makes it."""
    known = [profile for profile in mig.profiles if _is_known(profile)]
    cuttable = (mig.enabled or mig.live) and any(profile.starts for profile in known)
    if not cuttable or device.memory_bytes is None:
        return None
    counters = _most(known, device.memory_bytes)
    of_set = f"{name}-counter-set"
    kinds = {profile.id: _instance(_as_instance(device, profile), seen) for profile in known}
    parts = {
        Placement(gpu=device.id, profile=profile.name, start=start): replace(
            kinds[profile.id],
            name=mig_name(name, profile.name, profile.id, start),
            consumes={of_set: _taken(profile, start)},
        )
        for profile, start in _in_order(known)
    }
    return Division(
        counter_set=of_set, counters=counters, whole=counters if mig.live else None, parts=parts
    )


def _is_known(profile: Profile) -> bool:
    return profile.memory_bytes is not None and profile.multiprocessors is not None


def _in_order(profiles: Sequence[Profile]) -> Iterator[tuple[Profile, int]]:
    kinds = sorted(profiles, key=lambda one: (one.size, one.id))
    for number, start in _order(tuple((one.size, one.starts) for one in kinds)):
        yield kinds[number], start


@lru_cache(maxsize=8)
def _order(kinds: tuple[Kind, ...]) -> tuple[tuple[int, int], ...]:
    """A scheduler takes the first that is free: a place beside which no slice is left that only
    larger instances could use comes first (of 8 memory slices the last is such a one for 1g and
    2g), and of equal ones that at the end."""
    return tuple(
        (number, start)
        for number, kind in enumerate(kinds)
        for start in sorted(kind[1], key=lambda start: (_lost(kind, start, kinds), -start))
    )


def _lost(kind: Kind, start: int, kinds: Sequence[Kind]) -> int:
    """How many slices of larger places around it instances like it could never use."""
    own, starts = kind
    usable = {n for one in starts for n in range(one, one + own)}
    larger = [kind for kind in kinds if kind[0] > own]
    places = [range(first, first + size) for size, firsts in larger for first in firsts]
    return sum(n not in usable for place in places if start in place for n in place)


def _most(profiles: Sequence[Profile], memory_bytes: int) -> Counters:
    """What there is of everything: as much as the largest profile has, and each memory slice."""
    end = max(start + profile.size for profile in profiles for start in profile.starts)
    found = {"memory": memory_bytes, **_memory_slices(range(end))}
    for profile in profiles:
        for counter, amount in _amounts(profile).items():
            found[counter] = max(amount, found.get(counter, 0))
    return dict(sorted(found.items()))


def _taken(profile: Profile, start: int) -> Counters:
    taken = _amounts(profile) | _memory_slices(range(start, start + profile.size))
    return {counter: amount for counter, amount in sorted(taken.items()) if amount}


def _amounts(profile: Profile) -> dict[str, int]:
    engines = {counter: profile.engines.get(key) for key, counter in _ENGINES.items()}
    return {
        "memory": profile.memory_bytes or 0,
        "multiprocessors": profile.multiprocessors or 0,
        **{counter: amount for counter, amount in engines.items() if amount is not None},
    }


def _memory_slices(numbers: range) -> dict[str, int]:
    return {f"memory-slice-{number}": 1 for number in numbers}


def _as_instance(device: Device, profile: Profile) -> Device:
    """The device that an instance would be, but for its id."""
    engines = {f"{key}_engines": str(count) for key, count in profile.engines.items()}
    more = {"multiprocessors": str(profile.multiprocessors), **engines}
    return replace(
        device,
        parent=device.id,
        profile=profile.name,
        memory_bytes=profile.memory_bytes,
        attributes=frozen({**device.attributes, **more}),
    )


def _instance(device: Device, seen: Seen) -> SliceDevice:
    """Without a uuid, which it has when it is made, and without what only an instance that is
    there says: all of a type have the same capacities. The name and the place follow."""
    attributes = {key: v for key, v in attributes_of(device, seen).items() if key != "uuid"}
    capacity = {key: n for key, n in capacity_of(device).items() if key in CAPACITIES}
    return SliceDevice(name="", attributes=attributes, capacity=capacity)


# -- AMD --------------------------------------------------------------------------------------
def _of_modes(device: Device, modes: Modes, seen: Seen) -> Division | None:
    """One mode of a GPU at a time: all take the only one of a counter. The memory mode is that of
    the node now. A mode of which it is not known how many partitions it makes is left out."""
    if device.index is None or modes.memory is None:
        return None
    of_set = f"gpu-{device.index}-mutex"
    one = {_MODE: 1}
    counts = {mode: _count(mode, modes) for mode in modes.available if mode != "SPX"}
    parts = {
        Placement(gpu=device.id, profile=mode): _mode(device, (mode, modes.memory), count, seen)
        for mode, count in sorted(counts.items())
        if count is not None and count > 1
    }
    if not parts:
        return None
    parts = {place: replace(part, consumes={of_set: one}) for place, part in parts.items()}
    return Division(
        counter_set=of_set,
        counters=one,
        whole=one if "SPX" in modes.available else None,
        parts=parts,
    )


def _count(mode: str, modes: Modes) -> int | None:
    return modes.dies if mode == "CPX" else _PARTITIONS.get(mode)


def _mode(device: Device, names: tuple[str, str], count: int, seen: Seen) -> SliceDevice:
    compute, memory = (name.lower() for name in names)
    base = attributes_of(replace(device, parent=device.id), seen)
    units = capacity_of(device).get("computeUnits")
    known = {
        "memory": None if device.memory_bytes is None else device.memory_bytes // count,
        "computeUnits": None if units is None else units // count,
    }
    capacity = {key: amount for key, amount in known.items() if amount is not None}
    return SliceDevice(
        name=f"gpu-{device.index}-{compute}-{memory}",
        attributes={
            **base,
            "partitionProfile": f"{compute}_{memory}",
            "computePartition": compute,
            "memoryPartition": memory,
            "gpuIndex": device.index or 0,
            f"{STANDARD}/pciBusID": device.pci_address or "",
        },
        capacity={**capacity, "partitions": count},
        policies={**dict.fromkeys(capacity, Policy(default=0)), "partitions": ONE_OF_MANY},
    )
