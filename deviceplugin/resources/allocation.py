"""Allocate: the devices of a request, its limits, and the edits of its shares; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Device,
    DeviceID,
    Health,
    Mount,
    Resource,
    ResourceName,
    Share,
    frozen,
)
from deviceplugin.names import MAX_ID, id_problem
from deviceplugin.resources.section import DEVICE_MEMORY, DEVICE_SM, MPS_MEMORY, MPS_THREADS
from deviceplugin.resources.shares import MIB, share_bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What a front end asks for: `ids` of a resource as it is listed, `entries` by id."""

    resource: Resource
    entries: Mapping[str, AdvertisedDevice]
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one container was given, as every listener gets it: entries and the devices behind
    them in the order of their ids, and the edits of its container."""

    resource: Resource
    entries: tuple[AdvertisedDevice, ...]
    devices: tuple[Device, ...]
    edits: ContainerEdits

    @property
    def ids(self) -> list[AdvertisedID]:
        """The ids that it was given, sorted."""
        return [entry.id for entry in self.entries]


def select(
    name: ResourceName, entries: Mapping[str, AdvertisedDevice], ids: Sequence[str]
) -> tuple[AdvertisedDevice, ...]:
    """The entries that `ids` name, in id order: the kubelet's own order is random.

    Raises AllocationError for an empty request, a duplicate, an unknown or an Unhealthy id.
    """
    if not ids:
        raise AllocationError(Refusal.EMPTY, f"{name}: the request names no device")
    if len(set(ids)) != len(ids):
        twice = min(i for i, times in Counter(ids).items() if times > 1)
        text = f"{name}: device {_told(twice)} is asked for twice"
        raise AllocationError(Refusal.DUPLICATE, text)
    return tuple(_healthy(name, entries.get(device_id), device_id) for device_id in sorted(ids))


def _healthy(
    name: ResourceName, entry: AdvertisedDevice | None, device_id: str
) -> AdvertisedDevice:
    if entry is None:
        raise AllocationError(Refusal.UNKNOWN, f"{name}: unknown device {_told(device_id)}")
    if entry.health is not Health.HEALTHY and entry.reason is not None:
        raise AllocationError(Refusal.IN_USE, f"{name}: device {device_id}: {entry.reason}")
    if entry.health is not Health.HEALTHY:
        raise AllocationError(Refusal.UNHEALTHY, f"{name}: device {device_id} is unhealthy")
    return entry


def _told(device_id: str) -> str:
    """An id as a message can carry it: what the caller sent may be anything, of any length."""
    return repr(device_id[:MAX_ID]) if id_problem(device_id) else device_id


def devices_of(
    name: ResourceName, entries: Iterable[AdvertisedDevice], devices: Mapping[DeviceID, Device]
) -> tuple[Device, ...]:
    """The devices behind list entries as they are offered, each once, in the order of the entries.

    Raises AllocationError where one is not in the inventory any more.
    """
    found: dict[DeviceID, Device] = {}
    for entry in entries:
        device = devices.get(entry.device)
        if device is None:
            raise AllocationError(Refusal.UNKNOWN, f"{name}: device {entry.id} is gone")
        found[device.id] = offered_as(name, device)
    return tuple(found.values())


def offered_as(name: ResourceName, device: Device) -> Device:
    """The device under the name that rules may have given its resource."""
    return device if device.resource == name else replace(device, resource=name)


# Ours, whoever enforces: `<device id>=<amount>` with commas between.
MEMORY_BYTES, MEMORY_MIB, ISOLATION = (
    "GPU_SHARE_MEMORY_BYTES",
    "GPU_SHARE_MEMORY_MIB",
    "GPU_SHARE_ISOLATION",
)


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
    gpus = {gpu_of(entry.device, entry.share) for entry in entries}
    if resource.distinct and len(gpus) < len(entries):
        text = f"{len(entries)} different GPUs are asked for, {len(gpus)} have a free replica"
        raise AllocationError(Refusal.LIMIT, f"{resource.name}: {text}")
    if len(counts) > 1 and any(e.share and e.share.unit_bytes for e in entries):
        _check_spread(resource, len(entries), len(counts))


def gpu_of(device: DeviceID, share: Share | None) -> DeviceID:
    """The physical GPU that a device is or is a part of."""
    return (share.whole if share else None) or device


def _check_spread(resource: Resource, size: int, used: int) -> None:
    """Slices come from one GPU, unless the request is larger than any GPU."""
    needed, left = 0, size
    for capacity in sorted(capacities(shares_of(resource)).values(), reverse=True):
        if left > 0:
            needed, left = needed + 1, left - capacity
    if used > needed:
        text = f"{size} slices fit on {needed} GPU(s), the free ones are spread over {used}"
        raise AllocationError(Refusal.LIMIT, f"{resource.name}: {text}")


def shares_of(resource: Resource) -> Mapping[DeviceID, Share | None]:
    return {entry.device: entry.share for entry in resource.devices}


def capacities(shares: Mapping[DeviceID, Share | None]) -> Mapping[DeviceID, int]:
    return {device: share.count if share else 1 for device, share in shares.items()}


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
