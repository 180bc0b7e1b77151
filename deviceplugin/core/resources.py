"""Planning: which extended resources an inventory makes, and which ids each lists; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from deviceplugin.core.names import name_problem
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Health,
    Inventory,
    Resource,
    ResourceName,
)

Resources = Mapping[ResourceName, Resource]

# The kubelet receives with gRPC's default limit and drops a longer list without a word.
MAX_LIST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProblem:
    """A resource, or a part of one, that is not offered: why, and what to do."""

    resource: ResourceName
    reason: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The resources that an inventory makes, and those that it cannot make."""

    resources: Resources
    problems: tuple[PlanProblem, ...] = ()


def plan_resources(inventory: Inventory) -> Plan:
    """Group the devices by the resource that each is offered as; sorted, whole, checked."""
    grouped: dict[ResourceName, list[Device]] = {}
    for device in inventory.devices.values():
        if device.resource is not None:
            grouped.setdefault(device.resource, []).append(device)
    resources = {name: _resource(name, grouped[name], inventory) for name in sorted(grouped)}
    problems = tuple(p for r in resources.values() if (p := resource_problem(r)) is not None)
    refused = {problem.resource for problem in problems}
    kept = {name: r for name, r in resources.items() if name not in refused}
    return Plan(resources=MappingProxyType(kept), problems=problems)


def _resource(name: ResourceName, devices: list[Device], inventory: Inventory) -> Resource:
    entries = tuple(
        AdvertisedDevice(
            id=AdvertisedID(device.id),
            device=device.id,
            health=inventory.health_of(device),
            numa_node=device.numa_node,
        )
        for device in sorted(devices, key=_device_id)
    )
    return Resource(name=name, vendor=devices[0].vendor, devices=entries, policy=devices[0].policy)


def resource_problem(resource: Resource) -> PlanProblem | None:
    """Why a resource cannot be offered to a kubelet, None where it can."""
    if reason := name_problem(resource.name):
        return PlanProblem(
            resource=resource.name,
            reason=f"the kubelet refuses the name: {reason}",
            action="choose another name in the configuration",
        )
    size = list_bytes(resource.devices)
    if size >= MAX_LIST_BYTES:
        return PlanProblem(
            resource=resource.name,
            reason=f"its list of {len(resource.devices)} ids has {size} bytes,"
            f" the kubelet takes less than {MAX_LIST_BYTES}",
            action="offer fewer ids: fewer replicas, or a larger memory unit",
        )
    return None


def list_bytes(devices: Iterable[AdvertisedDevice]) -> int:
    """The encoded size of a ListAndWatchResponse with every device Unhealthy, the longest form.

    A device is field 1 of the response: tag, length, then ID, health and topology as fields of
    their own (v1beta1 api.proto); a NUMA node takes at most 6 bytes here.
    """
    unhealthy = 2 + len(Health.UNHEALTHY)
    total = 0
    for device in devices:
        body = 2 + len(device.id) + unhealthy + (0 if device.numa_node is None else 6)
        total += body + (2 if body < 128 else 3)
    return total


def with_tombstones(planned: Resources, gone: Mapping[ResourceName, Resource]) -> Resources:
    """`planned` with the ids of `gone` that a pod may still hold, listed Unhealthy.

    An id that is a tombstone of one resource is listed by no other of its vendor: ids are unique
    node-wide, and another vendor's device of that id is another device.
    """
    if not gone:
        return planned
    buried: dict[str, set[AdvertisedID]] = {}
    for resource in gone.values():
        buried.setdefault(resource.vendor, set()).update(e.id for e in resource.devices)
    merged = {name: _without(r, buried.get(r.vendor, set())) for name, r in planned.items()}
    for name, resource in gone.items():
        base = merged.get(name, replace(resource, devices=()))
        dead = tuple(replace(e, health=Health.UNHEALTHY) for e in resource.devices)
        merged[name] = replace(base, devices=tuple(sorted(base.devices + dead, key=_entry_id)))
    return MappingProxyType(dict(sorted(merged.items())))


def _without(resource: Resource, ids: set[AdvertisedID]) -> Resource:
    if ids.isdisjoint(entry.id for entry in resource.devices):
        return resource
    return replace(resource, devices=tuple(e for e in resource.devices if e.id not in ids))


def _device_id(device: Device) -> DeviceID:
    return device.id


def _entry_id(entry: AdvertisedDevice) -> AdvertisedID:
    return entry.id
