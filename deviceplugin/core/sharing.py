"""What a container may have of shared devices: limits, choice and the edits that tell it; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice

from deviceplugin.core.shares import MIB, share_bytes
from deviceplugin.core.sharing_sections import DEVICE_MEMORY, DEVICE_SM, MPS_MEMORY, MPS_THREADS
from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Device,
    DeviceID,
    Mount,
    Preference,
    Resource,
    Share,
    frozen,
)

# Ours, whoever enforces: `<device id>=<amount>` with commas between.
MEMORY_BYTES, MEMORY_MIB, ISOLATION = (
    "GPU_SHARE_MEMORY_BYTES",
    "GPU_SHARE_MEMORY_MIB",
    "GPU_SHARE_ISOLATION",
)
PACKED = "packed"
Grant = tuple[Device, Share, int]


def check_request(resource: Resource, entries: Sequence[AdvertisedDevice]) -> None:
    """Raise AllocationError for more than a container may have; the kubelet is free to ignore
    the preferred allocation, so the choice is checked here once more."""
    if not any(entry.share for entry in entries):
        return
    most = resource.max_per_container
    if most is not None and len(entries) > most:
        text = f"maximum request size for shared resources is {most}; found {len(entries)}"
        raise AllocationError(Refusal.LIMIT, f"{resource.name}: {text}")
    counts = Counter(entry.device for entry in entries)
    gpus = {_gpu(entry.device, entry.share) for entry in entries}
    if resource.distinct and len(gpus) < len(entries):
        text = f"{len(entries)} different GPUs are asked for, {len(gpus)} have a free replica"
        raise AllocationError(Refusal.LIMIT, f"{resource.name}: {text}")
    if len(counts) > 1 and any(e.share and e.share.unit_bytes for e in entries):
        _check_spread(resource, len(entries), len(counts))


def _gpu(device: DeviceID, share: Share | None) -> DeviceID:
    """The physical GPU that a device is or is a part of."""
    return (share.whole if share else None) or device


def _check_spread(resource: Resource, size: int, used: int) -> None:
    """Slices come from one GPU, unless the request is larger than any GPU."""
    needed, left = 0, size
    for capacity in sorted(_capacities(_shares(resource)).values(), reverse=True):
        if left > 0:
            needed, left = needed + 1, left - capacity
    if used > needed:
        text = f"{size} slices fit on {needed} GPU(s), the free ones are spread over {used}"
        raise AllocationError(Refusal.LIMIT, f"{resource.name}: {text}")


def _shares(resource: Resource) -> Mapping[DeviceID, Share | None]:
    return {entry.device: entry.share for entry in resource.devices}


def _capacities(shares: Mapping[DeviceID, Share | None]) -> Mapping[DeviceID, int]:
    return {device: share.count if share else 1 for device, share in shares.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
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
    return Shared(resource=resource, ids=ids, share=_shares(resource))


def narrow(listed: Shared, preference: Preference) -> Preference:
    """The question with only those ids left that sharing wants; the same for unshared devices.

    Slices come from as few GPUs as possible, from the fullest that has room; replicas from
    different GPUs, the least shared first, or the most shared with the policy `packed`.
    """
    available, must = preference.available, preference.must_include & preference.available
    held = _counts(listed, must)
    free = {d: n - held.get(d, 0) for d, n in _counts(listed, available).items()}
    shares = [share for device in free if (share := listed.share[device])]
    if not shares:
        return preference
    pick = _pick_slices if any(share.unit_bytes for share in shares) else _pick_replicas
    picked = pick(listed, free, held, preference.size - sum(held.values()))
    ids = {i for device in held for i in listed.ids[device] if i in must}
    for device, count in picked.items():
        others = (i for i in listed.ids[device] if i in available and i not in must)
        ids.update(islice(others, count))
    if len(ids) < preference.size:
        return preference  # it may know ids that we do not, and would choose by chance
    return replace(preference, available=frozenset(ids))


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
    gpus = {device: _gpu(device, share) for device, share in listed.share.items()}
    capacities = _capacities(listed.share)
    taken: Counter[DeviceID] = Counter()
    for device, count in held.items():
        taken[gpus[device]] += count
    left, picked = dict(free), Counter[DeviceID]()
    for _ in range(min(missing, sum(left.values()))):
        device = min(
            (d for d, count in left.items() if count),
            key=lambda d: (taken[gpus[d]], sign * (capacities[d] - left[d]), d),
        )
        taken[gpus[device]] += 1
        picked[device] += 1
        left[device] -= 1
    return picked


def share_edits(
    resource: Resource,
    entries: Sequence[AdvertisedDevice],
    devices: Mapping[DeviceID, Device],
    mps_root: str,
) -> ContainerEdits:
    """What a container is told of its shares; nothing for devices that it has whole.

    Raises AllocationError for a limit of zero: enforcers read it as no limit.
    """
    counts = Counter((entry.device, entry.share) for entry in entries)
    grants = [(devices[d], share, n) for (d, share), n in counts.items() if share is not None]
    if not grants:
        return ContainerEdits()
    grants.sort(key=_pci_order)
    env = {ISOLATION: str(resource.isolation)} | _own_variables(grants)
    for variable in dict.fromkeys(v for _, share, _ in grants for v in share.variables):
        env |= _limits(resource, variable, grants)
    if not any(share.mps for _, share, _ in grants):
        return ContainerEdits(env=frozen(env))
    pipe = f"/mps/{resource.name}/pipe"
    mounts = (
        Mount(path=pipe, host_path=f"{mps_root}/{resource.name}/pipe", read_only=False),
        Mount(path="/dev/shm", host_path=f"{mps_root}/shm", read_only=False),  # noqa: S108
    )
    return ContainerEdits(env=frozen(env | {"CUDA_MPS_PIPE_DIRECTORY": pipe}), mounts=mounts)


def _pci_order(grant: Grant) -> tuple[str, str]:
    """Equal GPUs are numbered in a container by their PCI address."""
    return (grant[0].pci_address or "", grant[0].id)


def _own_variables(grants: Iterable[Grant]) -> dict[str, str]:
    known = [(g[0].id, size) for g in grants if (size := _granted(g)) is not None]
    if not known:
        return {}
    return {
        MEMORY_BYTES: ",".join(f"{device}={size}" for device, size in known),
        MEMORY_MIB: ",".join(f"{device}={size // MIB}" for device, size in known),
    }


def _granted(grant: Grant) -> int | None:
    device, share, count = grant
    each = share_bytes(device, share)
    return None if each is None else each * count


def _limits(resource: Resource, variable: str, grants: Sequence[Grant]) -> dict[str, str]:
    """The variable with its values, as its enforcer reads it (MPS: CUDA's manual; the
    CUDA_DEVICE_ ones: HAMi-core)."""
    if variable in (MPS_THREADS, DEVICE_SM):
        percents = [_limit(resource, variable, _percent(grant)) for grant in grants]
        return {variable: str(min(percents))}
    sizes = [
        _limit(resource, variable, size // MIB if (size := _granted(g)) else None) for g in grants
    ]
    if variable == MPS_MEMORY:
        return {variable: ",".join(f"{i}={size}M" for i, size in enumerate(sizes))}
    return {f"{DEVICE_MEMORY}_{i}": f"{size}m" for i, size in enumerate(sizes)}


def _percent(grant: Grant) -> int | None:
    """The share of the GPU, in percent, rounded down as memory is."""
    device, share, count = grant
    if share.unit_bytes is None:
        return 100 * count // share.count
    memory = device.memory_bytes
    return None if not memory else 100 * share.unit_bytes * count // memory


def _limit(resource: Resource, variable: str, value: int | None) -> int:
    if not value:
        known = "the GPU's memory is unknown" if value is None else "it would be 0, which is none"
        text = f"{resource.name}: no limit can be set by {variable}: {known}"
        raise AllocationError(Refusal.LIMIT, f"{text}; ask for more, or drop the variable")
    return value
