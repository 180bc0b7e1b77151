"""What a container may have of shared devices: limits, choice and the edits that tell it; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

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
    gpus = {_gpu(entry) for entry in entries}
    if resource.distinct and len(gpus) < len(entries):
        text = f"{len(entries)} different GPUs are asked for, {len(gpus)} have a free replica"
        raise AllocationError(Refusal.LIMIT, f"{resource.name}: {text}")
    if len(counts) > 1 and any(e.share and e.share.unit_bytes for e in entries):
        _check_spread(resource, len(entries), len(counts))


def _gpu(entry: AdvertisedDevice) -> DeviceID:
    """The physical GPU behind an entry."""
    return (entry.share.whole if entry.share else None) or entry.device


def _check_spread(resource: Resource, size: int, used: int) -> None:
    """Slices come from one GPU, unless the request is larger than any GPU."""
    needed, left = 0, size
    for capacity in sorted(_capacities(resource).values(), reverse=True):
        if left > 0:
            needed, left = needed + 1, left - capacity
    if used > needed:
        text = f"{size} slices fit on {needed} GPU(s), the free ones are spread over {used}"
        raise AllocationError(Refusal.LIMIT, f"{resource.name}: {text}")


def _capacities(resource: Resource) -> Mapping[DeviceID, int]:
    return {e.device: e.share.count if e.share else 1 for e in resource.devices}


def narrow(resource: Resource, preference: Preference) -> Preference:
    """The question with only those ids left that sharing wants; the same for unshared devices.

    Slices come from as few GPUs as possible, from the fullest that has room; replicas from
    different GPUs, the least shared first, or the most shared with the policy `packed`.
    """
    chosen, free = _listed(resource, preference)
    shares = [entry.share for entry in (*chosen, *(ids[0] for ids in free.values()))]
    if not any(shares):
        return preference
    missing = preference.size - len(chosen)
    pick = _pick_slices if any(s and s.unit_bytes for s in shares) else _pick_replicas
    chosen += pick(resource, free, chosen, missing)
    return replace(preference, available=_with_unlisted(chosen, preference))


def _listed(
    resource: Resource, preference: Preference
) -> tuple[list[AdvertisedDevice], dict[DeviceID, list[AdvertisedDevice]]]:
    """Of what is listed and available the ids that must be in, and the others of each device,
    which all have one share."""
    available, must = preference.available, preference.must_include
    chosen: list[AdvertisedDevice] = []
    free: dict[DeviceID, list[AdvertisedDevice]] = {}
    for entry in resource.devices:
        if entry.id not in available:
            continue
        if entry.id in must:
            chosen.append(entry)
        else:
            free.setdefault(entry.device, []).append(entry)
    return chosen, free


def _with_unlisted(
    chosen: Iterable[AdvertisedDevice], preference: Preference
) -> frozenset[AdvertisedID]:
    """The kubelet may know ids that we do not: too few ids would let it choose by chance."""
    ids = frozenset(entry.id for entry in chosen)
    return ids if len(ids) >= preference.size else preference.available


def _pick_slices(
    resource: Resource,
    free: Mapping[DeviceID, Sequence[AdvertisedDevice]],
    chosen: Sequence[AdvertisedDevice],
    missing: int,
) -> list[AdvertisedDevice]:
    started = {entry.device for entry in chosen}
    picked: list[AdvertisedDevice] = []
    left = dict(free)
    while missing > 0 and left:
        begun = {device: ids for device, ids in left.items() if device in started} or left
        fitting = [d for d, ids in begun.items() if len(ids) >= missing]
        sign = -1 if resource.policy == "spread" or not fitting else 1
        device = min(fitting or begun, key=lambda d: (sign * len(begun[d]), d))
        picked += left[device][:missing]
        missing -= len(left.pop(device)[:missing])
    return picked


def _pick_replicas(
    resource: Resource,
    free: Mapping[DeviceID, Sequence[AdvertisedDevice]],
    chosen: Sequence[AdvertisedDevice],
    missing: int,
) -> list[AdvertisedDevice]:
    sign = -1 if resource.policy == PACKED else 1
    capacities = _capacities(resource)
    gpus = {e.device: _gpu(e) for entries in free.values() for e in entries}
    taken = Counter(map(_gpu, chosen))
    left = {device: list(ids) for device, ids in free.items()}
    picked: list[AdvertisedDevice] = []
    for _ in range(min(missing, sum(map(len, left.values())))):
        device = min(
            (d for d, ids in left.items() if ids),
            key=lambda d: (taken[gpus[d]], sign * (capacities[d] - len(left[d])), d),
        )
        taken[gpus[device]] += 1
        picked.append(left[device].pop(0))
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
