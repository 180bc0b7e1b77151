"""Planning: which extended resources an inventory makes, and which ids each lists; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from deviceplugin.core.building import Builder, Parts, PlanProblem, group_problem
from deviceplugin.core.names import name_problem
from deviceplugin.core.rules import Offering, choices_of, offerings
from deviceplugin.core.shares import entry_bytes
from deviceplugin.core.sharing_sections import Rule
from deviceplugin.core.usage import NOTHING_USED, Usage
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Inventory,
    Isolation,
    Resource,
    ResourceName,
)

Resources = Mapping[ResourceName, Resource]

NO_PARTS: Parts = MappingProxyType({})
# The kubelet receives with gRPC's default limit and drops a longer list without a word.
MAX_LIST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The resources that an inventory makes, and those that it cannot make.

    `choices` has the devices that can be held in one of several forms only, with the form that
    comes first (None: only the whole that it is a part of is first); `decided` has those of which
    one form is in use.
    """

    resources: Resources
    problems: tuple[PlanProblem, ...] = ()
    choices: Mapping[DeviceID, ResourceName | None] = field(default_factory=dict)
    decided: Mapping[DeviceID, ResourceName] = field(default_factory=dict)
    parts: Parts = field(default_factory=dict, repr=False, compare=False)


def plan_resources(
    inventory: Inventory,
    rules: Sequence[Rule] = (),
    usage: Usage = NOTHING_USED,
    least: Isolation = Isolation.NONE,
    previous: Parts = NO_PARTS,
) -> Plan:
    """The resources that the rules make of the devices; sorted, whole, checked.

    A GPU that `usage` has in one form is Unhealthy in its others; a resource that isolates less
    than `least` is refused. `previous` are the parts of an earlier plan, to be cheaper.
    """
    grouped: dict[ResourceName, list[Offering]] = {}
    offered = tuple(offerings(inventory, rules))
    for offering in offered:
        grouped.setdefault(offering.name, []).append(offering)
    resources: dict[ResourceName, Resource] = {}
    problems: list[PlanProblem] = []
    builder = Builder(inventory, usage, previous)
    for name in sorted(grouped):
        problem = group_problem(name, grouped[name], least, MAX_LIST_BYTES)
        if problem is None:
            resource = builder.resource(name, grouped[name])
            resources[name] = resource
            problem = resource_problem(resource)
        if problem is not None:
            resources.pop(name, None)
            problems.append(problem)
    return Plan(
        resources=MappingProxyType(resources),
        problems=tuple(problems),
        choices=choices_of(o for o in offered if o.name in resources),
        decided=builder.decided,
        parts=builder.parts,
    )


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
    """The encoded size of a ListAndWatchResponse with every device Unhealthy, the longest form."""
    return sum(entry_bytes(len(device.id), device.numa_node) for device in devices)


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


def _entry_id(entry: AdvertisedDevice) -> AdvertisedID:
    return entry.id
