"""Allocate: which devices a request names, and the refusals; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from deviceplugin.core.names import MAX_ID, id_problem
from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import AdvertisedDevice, Device, DeviceID, Health, ResourceName


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
