"""A resource made of the offerings that share its name, and why it may not be offered; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Health,
    Inventory,
    Isolation,
    Resource,
    ResourceName,
    Share,
)
from deviceplugin.resources.rules import Offering
from deviceplugin.resources.shares import (
    form_text,
    replicas_bytes,
    share_ids,
    share_of,
    slices_bytes,
    smallest_unit,
)
from deviceplugin.resources.usage import Usage, children_of, in_use_as
from deviceplugin.schema import parse_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProblem:
    """A resource, or a part of one, that is not offered: why, and what to do."""

    resource: ResourceName
    reason: str
    action: str


def isolation_of(offering: Offering) -> Isolation:
    """What keeps the containers of an offering apart.

    MPS holds each client of a server to the server's own limits, which fit replicas: those are
    all alike. The limit of a memory slice is the client's own variable, which a pod can set
    anew, so it is a request and no isolation.
    """
    offer = offering.offer
    if offer.whole:
        return offering.device.isolation
    return Isolation.MEMORY if offer.mps and offer.replicas is not None else Isolation.NONE


def group_problem(
    name: ResourceName, group: Sequence[Offering], least: Isolation, limit_bytes: int
) -> PlanProblem | None:
    """Why the offerings of one name cannot be a resource, None where they can."""
    vendors = sorted({offering.device.vendor for offering in group})
    if len(vendors) > 1:
        reason = f"it would be of several vendors: {', '.join(vendors)}"
        return PlanProblem(resource=name, reason=reason, action="give each vendor's a name")
    counted = [offering.device.id for offering in group]
    if len(set(counted)) != len(counted):
        reason = "two forms of one device have this name"
        return PlanProblem(resource=name, reason=reason, action="give each offer a name")
    units = {offering.offer.memory.unit for offering in group if offering.offer.memory}
    if len(units) > 1 or (units and not all(offering.offer.memory for offering in group)):
        reason = "its ids would not all stand for the same amount of memory"
        return PlanProblem(resource=name, reason=reason, action="give each unit a name")
    if any(o.offer.mps and (o.device.parent or o.device.vendor != "nvidia") for o in group):
        reason = "sharing using MPS is for whole NVIDIA GPUs, not supported for MIG devices"
        return PlanProblem(resource=name, reason=reason, action="use sharing: time-slicing")
    return _isolation_problem(name, group, least) or _size_problem(name, group, limit_bytes)


def _isolation_problem(
    name: ResourceName, group: Sequence[Offering], least: Isolation
) -> PlanProblem | None:
    weakest = min((isolation_of(offering) for offering in group), key=_strength)
    if weakest.strength >= least.strength:
        return None
    return PlanProblem(
        resource=name,
        reason=f"it isolates by {weakest!s}, the configuration asks for isolation: {least!s}",
        action="offer whole GPUs or hardware partitions, or ask for less isolation",
    )


def _size_problem(
    name: ResourceName, group: Sequence[Offering], limit_bytes: int
) -> PlanProblem | None:
    """Told before the list is made: one with a million ids would not fit into memory either."""
    memory = group[0].offer.memory
    counts = [(o.device, s.count) for o in group if (s := share_of(o.device, o.offer))]
    if memory is None:
        return _replicas_problem(name, counts, limit_bytes)
    unit = parse_bytes(memory.unit)
    size = sum(slices_bytes(device, unit, count) for device, count in counts)
    if size < limit_bytes:
        return None
    reserve = parse_bytes(memory.reserve) if memory.reserve else 0
    fitting = smallest_unit((offering.device for offering in group), reserve, limit_bytes)
    advice = f"{fitting >> 20}MiB" if fitting else "a larger one"
    return PlanProblem(
        resource=name,
        reason=f"its list of {sum(count for _, count in counts)} slices of {memory.unit} has"
        f" {size} bytes, the kubelet takes less than {limit_bytes}",
        action=f"use a larger unit: the smallest power of two that fits is {advice}",
    )


def _replicas_problem(
    name: ResourceName, counts: Sequence[tuple[Device, int]], limit_bytes: int
) -> PlanProblem | None:
    size = sum(replicas_bytes(device, count) for device, count in counts)
    if size < limit_bytes:
        return None
    reason = f"its list of {sum(count for _, count in counts)} replicas has {size} bytes"
    return PlanProblem(
        resource=name,
        reason=f"{reason}, the kubelet takes less than {limit_bytes}",
        action="offer fewer replicas",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """All that the entries of a device in one resource depend on."""

    numa_node: int | None
    share: Share | None
    health: Health
    other: ResourceName | None
    held: frozenset[AdvertisedID]


Parts = Mapping[tuple[ResourceName, DeviceID], tuple[Terms, tuple[AdvertisedDevice, ...]]]


class Builder:
    """Makes the resources of one inventory and one usage; `previous` are the parts of an earlier
    plan, which are taken over where they are the same: lists can have tens of thousands of ids."""

    def __init__(self, inventory: Inventory, usage: Usage, previous: Parts) -> None:
        self._inventory, self._usage, self._previous = inventory, usage, previous
        self.parts: dict[
            tuple[ResourceName, DeviceID], tuple[Terms, tuple[AdvertisedDevice, ...]]
        ] = {}
        self.decided: dict[DeviceID, ResourceName] = {}
        self._children: Mapping[DeviceID, tuple[DeviceID, ...]] = children_of(inventory.devices)

    def resource(self, name: ResourceName, group: Sequence[Offering]) -> Resource:
        """The resource with its complete list; limits are the strictest of its offerings'."""
        entries = [entry for offering in group for entry in self._entries(offering)]
        limits = [o.offer.limit for o in group if o.offer.limit is not None]
        policies = (offering.offer.policy or offering.device.policy for offering in group)
        return Resource(
            name=name,
            vendor=group[0].device.vendor,
            devices=tuple(sorted(entries, key=_entry_id)),
            policy=next((policy for policy in policies if policy), None),
            isolation=min((isolation_of(offering) for offering in group), key=_strength),
            max_per_container=min(limits, default=None),
            distinct=any(offering.offer.distinct for offering in group),
        )

    def _entries(self, offering: Offering) -> tuple[AdvertisedDevice, ...]:
        """The ids of an offering; those of the last plan where nothing about them changed."""
        device, share = offering.device, share_of(offering.device, offering.offer)
        form = (offering.name, form_text(share))
        other = in_use_as(self._usage, device, form, self._children.get(device.id, ()))
        if other is not None:
            self.decided[device.id] = other
        terms = Terms(
            numa_node=device.numa_node,
            share=share,
            health=self._inventory.health_of(device),
            other=other,
            held=self._usage.ids(device.id, form) if other is not None else frozenset(),
        )
        before = self._previous.get((offering.name, device.id))
        if before is None or before[0] != terms:
            before = (terms, tuple(_entries(device.id, terms)))
        self.parts[offering.name, device.id] = before
        return before[1]


def _entries(device: DeviceID, terms: Terms) -> Iterator[AdvertisedDevice]:
    """An id that a pod holds keeps its health: the kubelet would kill the pod for it."""
    ids = [AdvertisedID(device)] if terms.share is None else share_ids(device, terms.share)
    for number, advertised in enumerate(ids):
        blocked = terms.other is not None and advertised not in terms.held
        yield AdvertisedDevice(
            id=advertised,
            device=device,
            health=Health.UNHEALTHY if blocked else terms.health,
            numa_node=terms.numa_node,
            share=terms.share,
            replica=None if terms.share is None else number,
            reason=f"in_use_as {terms.other}" if blocked else None,
        )


def _strength(isolation: Isolation) -> int:
    return isolation.strength


def _entry_id(entry: AdvertisedDevice) -> AdvertisedID:
    return entry.id
