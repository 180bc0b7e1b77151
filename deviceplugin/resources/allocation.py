"""Allocate: the devices of a request, and its limits; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Device,
    DeviceID,
    Health,
    Resource,
    ResourceName,
    Share,
)
from deviceplugin.names import MAX_ID, id_problem
from deviceplugin.resources.shares import noun_text


class Request(Struct, frozen=True):
    """What a front end asks for: `ids` of a resource as it is listed, `entries` by id."""

    resource: Resource
    entries: Mapping[str, AdvertisedDevice]
    ids: Sequence[str]


class Allocation(Struct, frozen=True):
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
        noun = noun_text(resource)
        text = f"{len(entries)} different {noun}s are asked for, {len(gpus)} have a free replica"
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
        fits = f"{size} slices fit on {needed} {noun_text(resource)}(s)"
        text = f"{fits}, the free ones are spread over {used}"
        raise AllocationError(Refusal.LIMIT, f"{resource.name}: {text}")


def shares_of(resource: Resource) -> Mapping[DeviceID, Share | None]:
    return {entry.device: entry.share for entry in resource.devices}


def capacities(shares: Mapping[DeviceID, Share | None]) -> Mapping[DeviceID, int]:
    return {device: share.count if share else 1 for device, share in shares.items()}
