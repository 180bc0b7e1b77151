"""A resource made of the offerings that share its name, and why it may not be offered; pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from operator import attrgetter

from msgspec import Struct, field
from msgspec.structs import replace

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
from deviceplugin.resources.section import Method
from deviceplugin.resources.shares import (
    form_text,
    memory_text,
    noun_text,
    replicas_bytes,
    share_ids,
    share_of,
    slices_bytes,
    smallest_unit,
)
from deviceplugin.resources.usage import Usage, children_of, in_use_as
from deviceplugin.schema import parse_bytes


class PlanProblem(Struct, frozen=True, kw_only=True):
    """A resource, or a part of one, that is not offered: why, and what to do."""

    resource: ResourceName
    reason: str
    action: str


Methods = Mapping[str, Method]


class Enforced(Struct, frozen=True):
    """The devices whose slices of memory the kernel holds to their size, and why those of others
    are not held; both are empty where nobody tries."""

    devices: frozenset[DeviceID] = frozenset()
    reasons: Mapping[DeviceID, str] = field(default_factory=dict)


NOT_ENFORCED = Enforced()


class Keeping(Struct, frozen=True):
    """What keeps the containers of a shared device apart: sharing methods, and the kernel."""

    methods: Methods
    enforced: Enforced = NOT_ENFORCED


def no_slice(offering: Offering, share: Share) -> PlanProblem | None:
    """Why a device that is to be divided has not even one slice, None where it has one."""
    memory, device = offering.offer.memory, offering.device
    if share.count or memory is None:
        return None
    where = f" ({device.pci_address})" if device.pci_address not in (None, device.id) else ""
    return PlanProblem(
        resource=offering.name,
        reason=f"{noun_text(device)} {device.id}{where} makes no slice of {memory.unit}:"
        f" {memory_text(device, memory.reserve)}",
        action=f"offer this {noun_text(device)} whole or as replicas by a rule of its own above"
        " this one" + ("" if device.memory_bytes is None else ", or use a smaller unit"),
    )


def isolation_of(offering: Offering, keeping: Keeping) -> Isolation:
    """What keeps the containers of an offering apart; of a shared device its method knows."""
    share = share_of(offering.device, offering.offer)
    if share is None:
        return offering.device.isolation
    if share.method is None and share.unit_bytes is not None:
        held = offering.device.id in keeping.enforced.devices
        return Isolation.MEMORY if held else Isolation.NONE
    if share.method is None or share.method not in keeping.methods:
        return Isolation.NONE
    return keeping.methods[share.method].isolation(share)


def not_held(group: Sequence[Offering], enforced: Enforced) -> str:
    """Why slices of memory are not held to their size, of the first device where that is so; ""
    where all are held or nobody tries."""
    reasons = (enforced.reasons.get(o.device.id, "") for o in group if o.offer.memory is not None)
    return next(filter(None, reasons), "")


def group_problem(
    name: ResourceName, group: Sequence[Offering], least: Isolation, keeping: Keeping
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
    if len({offering.offer.method for offering in group} - {None}) > 1:
        reason = "its devices would be shared by several methods"
        return PlanProblem(resource=name, reason=reason, action="give each method's a name")
    for reason in filter(None, (_method_problem(offering, keeping.methods) for offering in group)):
        return PlanProblem(resource=name, reason=reason, action="use sharing: time-slicing")
    return _isolation_problem(name, group, least, keeping)


def _method_problem(offering: Offering, methods: Methods) -> str | None:
    """Why a device cannot be shared by the method that its rule names, None where it can."""
    name, device = offering.offer.method, offering.device
    if name is None:
        return None
    if name not in methods:
        return f"no vendor that can be used has the sharing method {name!r}"
    method = methods[name]
    same = device.vendor == method.vendor
    why = method.refusal(device) if same else f"not for devices of vendor {device.vendor}"
    return f"sharing using {method.title} is for {method.devices}, {why}" if why else None


def _isolation_problem(
    name: ResourceName, group: Sequence[Offering], least: Isolation, keeping: Keeping
) -> PlanProblem | None:
    weakest = min((isolation_of(offering, keeping) for offering in group), key=_strength)
    asked = max((offering.device.least_isolation for offering in group), key=_strength)
    key = "scheduling.isolation" if asked.strength > least.strength else "isolation"
    wanted = max(asked, least, key=_strength)
    if weakest.strength >= wanted.strength:
        return None
    why = not_held(group, keeping.enforced)
    text = f" ({why})" if why else ""
    return PlanProblem(
        resource=name,
        reason=f"it isolates by {weakest!s}{text}, the configuration asks for {key}: {wanted!s}",
        action=f"offer whole {noun_text(group[0].device)}s or hardware partitions, or ask for less"
        " isolation",
    )


def size_problem(
    name: ResourceName, group: Sequence[Offering], limit_bytes: int
) -> PlanProblem | None:
    """Why the list of a resource would be too long for the kubelet, None where it fits.

    It is known before the list is made: one with a million ids would not fit into memory either.
    """
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


class EntryKey(Struct, frozen=True, kw_only=True):
    """All that the entries of a device in one resource depend on."""

    numa_node: int | None
    share: Share | None
    health: Health
    other: ResourceName | None
    held: frozenset[AdvertisedID]


Parts = Mapping[tuple[ResourceName, DeviceID], tuple[EntryKey, tuple[AdvertisedDevice, ...]]]


class Builder:
    """Makes the resources of one inventory and one usage; `previous` are the parts of an earlier
    plan, which are taken over where they are the same: lists can have tens of thousands of ids."""

    def __init__(
        self, inventory: Inventory, usage: Usage, previous: Parts, keeping: Keeping
    ) -> None:
        self._inventory, self._usage, self._previous = inventory, usage, previous
        self._keeping = keeping
        self.parts: dict[
            tuple[ResourceName, DeviceID], tuple[EntryKey, tuple[AdvertisedDevice, ...]]
        ] = {}
        self.decided: dict[DeviceID, ResourceName] = {}
        self._children: Mapping[DeviceID, tuple[DeviceID, ...]] = children_of(inventory.devices)

    def resource(self, name: ResourceName, group: Sequence[Offering]) -> Resource:
        """The resource with its complete list; limits are the strictest of its offerings'."""
        entries = joined([self._entries(offering) for offering in group])
        limits = [o.offer.limit for o in group if o.offer.limit is not None]
        policies = (offering.offer.policy or offering.device.policy for offering in group)
        return Resource(
            name=name,
            vendor=group[0].device.vendor,
            devices=entries,
            policy=next((policy for policy in policies if policy), None),
            isolation=min((isolation_of(o, self._keeping) for o in group), key=_strength),
            max_per_container=min(limits, default=None),
            distinct=any(offering.offer.distinct for offering in group),
            noun=group[0].device.noun,
            partner=next((o.partner for o in group if o.partner), None),
        )

    def _entries(self, offering: Offering) -> tuple[AdvertisedDevice, ...]:
        """The ids of an offering; those of the last plan where nothing about them changed."""
        device, share = offering.device, share_of(offering.device, offering.offer)
        share = share and replace(share, partner=offering.partner)
        form = (offering.name, form_text(share))
        children = self._children.get(device.id, ())
        other = in_use_as(self._usage, device, form, children, share.partner if share else None)
        if other is not None:
            self.decided[device.id] = other
        key = EntryKey(
            numa_node=device.numa_node,
            share=share,
            health=self._inventory.health_of(device),
            other=other,
            held=self._usage.kept(device.id, form) if other is not None else frozenset(),
        )
        before = self._previous.get((offering.name, device.id))
        if before is None or before[0] != key:
            before = (key, tuple(sorted(_entries(device.id, key), key=_entry_id)))
        self.parts[offering.name, device.id] = before
        return before[1]


def joined(parts: Iterable[tuple[AdvertisedDevice, ...]]) -> tuple[AdvertisedDevice, ...]:
    """The entries of sorted parts, sorted. Parts mostly stand one after the other."""
    ordered = sorted(filter(None, parts), key=_first_id)
    entries = tuple(chain.from_iterable(ordered))
    if all(one[-1].id < other[0].id for one, other in pairwise(ordered)):
        return entries
    return tuple(sorted(entries, key=_entry_id))


def _first_id(part: tuple[AdvertisedDevice, ...]) -> AdvertisedID:
    return part[0].id


def _entries(device: DeviceID, key: EntryKey) -> Iterator[AdvertisedDevice]:
    """An id that a pod holds keeps its health: the kubelet would kill the pod for it."""
    ids = [AdvertisedID(device)] if key.share is None else share_ids(device, key.share)
    for number, advertised in enumerate(ids):
        blocked = key.other is not None and advertised not in key.held
        yield AdvertisedDevice(
            id=advertised,
            device=device,
            health=Health.UNHEALTHY if blocked else key.health,
            numa_node=key.numa_node,
            share=key.share,
            replica=None if key.share is None else number,
            reason=f"in_use_as {key.other}" if blocked else None,
        )


def _strength(isolation: Isolation) -> int:
    return isolation.strength


_entry_id = attrgetter("id")
