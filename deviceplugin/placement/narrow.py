"""A preferred-allocation question narrowed to the ids that sharing wants; pure."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.model import (
    AdvertisedID,
    DeviceID,
    Preference,
    Resource,
    Share,
)
from deviceplugin.resources.allocation import capacities, gpu_of, shares_of

PACKED = "packed"


class Shared(Struct, frozen=True, kw_only=True):
    """The ids of each device in a list, in its order, and which share of the device each id is,
    None for all of it.

    Made once for each list: a question may name tens of thousands of ids.
    """

    resource: Resource
    ids: Mapping[DeviceID, Sequence[AdvertisedID]]
    share: Mapping[DeviceID, Share | None]


def shared(resource: Resource) -> Shared:
    """A resource's list by device."""
    ids: dict[DeviceID, list[AdvertisedID]] = {}
    for entry in resource.devices:
        ids.setdefault(entry.device, []).append(entry.id)
    return Shared(resource=resource, ids=ids, share=shares_of(resource))


def narrow(listed: Shared, preference: Preference) -> Preference:
    """The question with only those ids left that sharing wants; the same for unshared devices.

    Slices come from as few GPUs as possible, from the fullest that has room; replicas from
    different GPUs, the least shared first, or the most shared with the policy `packed`.
    """
    available, must = preference.available, preference.must_include & preference.available
    held = _counts(listed, must)
    free = {d: n - held.get(d, 0) for d, n in _counts(listed, available).items()}
    if not any(listed.share[device] for device in free):
        return preference
    picks = picked(listed, free, held, preference.size - sum(held.values()))
    ids = {i for device in held for i in listed.ids[device] if i in must}
    for device, count in picks.items():
        others = (i for i in listed.ids[device] if i in available and i not in must)
        ids.update(islice(others, count))
    if len(ids) < preference.size:
        return preference  # it may know ids that we do not, and would choose by chance
    return replace(preference, available=frozenset(ids))


def picked(
    listed: Shared, free: Mapping[DeviceID, int], held: Mapping[DeviceID, int], missing: int
) -> Mapping[DeviceID, int]:
    """How many more ids each device gives, of those that it has free beside what is held of it."""
    shares = (listed.share[device] for device in free)
    slices = any(share.unit_bytes for share in shares if share)
    return (_pick_slices if slices else _pick_replicas)(listed, free, held, missing)


def _counts(listed: Shared, ids: Set[AdvertisedID]) -> dict[DeviceID, int]:
    """How many of `ids` each device has, without those that have none."""
    if not ids:
        return {}
    counts = {device: sum(map(ids.__contains__, its)) for device, its in listed.ids.items()}
    return {device: count for device, count in counts.items() if count}


def _pick_slices(
    listed: Shared, free: Mapping[DeviceID, int], held: Mapping[DeviceID, int], missing: int
) -> Mapping[DeviceID, int]:
    picked: dict[DeviceID, int] = {}
    left = {device: count for device, count in free.items() if count}
    while missing > 0 and left:
        begun = {device: count for device, count in left.items() if device in held} or left
        fitting = [device for device, count in begun.items() if count >= missing]
        sign = -1 if listed.resource.policy == "spread" or not fitting else 1
        device = min(fitting or begun, key=lambda d: (sign * begun[d], d))
        picked[device] = min(missing, left.pop(device))
        missing -= picked[device]
    return picked


def _pick_replicas(
    listed: Shared, free: Mapping[DeviceID, int], held: Mapping[DeviceID, int], missing: int
) -> Mapping[DeviceID, int]:
    sign = -1 if listed.resource.policy == PACKED else 1
    gpus = {device: gpu_of(device, share) for device, share in listed.share.items()}
    sizes = capacities(listed.share)
    taken: Counter[DeviceID] = Counter()
    for device, count in held.items():
        taken[gpus[device]] += count
    left, picked = dict(free), Counter[DeviceID]()
    for _ in range(min(missing, sum(left.values()))):
        device = min(
            (d for d, count in left.items() if count),
            key=lambda d: (taken[gpus[d]], sign * (sizes[d] - left[d]), d),
        )
        taken[gpus[device]] += 1
        picked[device] += 1
        left[device] -= 1
    return picked
