"""Planning: which extended resources an inventory makes, and which ids each lists; pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from deviceplugin.model import (
    AdvertisedDevice,
    ContainerEdits,
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Inventory,
    Isolation,
    Resource,
    ResourceName,
)
from deviceplugin.names import name_problem
from deviceplugin.resources.allocation import share_edits
from deviceplugin.resources.build import Builder, Parts, PlanProblem, group_problem
from deviceplugin.resources.ids import Ids, clear_offerings, ids_of
from deviceplugin.resources.rules import Offering, choices_of, offerings
from deviceplugin.resources.section import MpsSettings, Rule, SharingSection
from deviceplugin.resources.shares import entry_bytes
from deviceplugin.resources.usage import NOTHING_USED, Usage
from deviceplugin.vendor import Sections

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
    offered, unclear = clear_offerings(offerings(inventory, rules), inventory.devices)
    for offering in offered:
        grouped.setdefault(offering.name, []).append(offering)
    resources: dict[ResourceName, Resource] = {}
    problems = list(unclear)
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


SOURCE = "sharing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """The sections `rules`, `sharing` and `isolation`."""

    rules: tuple[Rule, ...] = ()
    least: Isolation = Isolation.NONE
    mps: MpsSettings = field(default_factory=MpsSettings)

    @property
    def uses_mps(self) -> bool:
        """Whether any rule shares through MPS."""
        return any(offer.mps for rule in self.rules for offer in rule.forms)

    def plan(
        self, inventory: Inventory, usage: Usage = NOTHING_USED, previous: Plan | None = None
    ) -> Plan:
        """What is offered of an inventory while `usage` is in use; `previous` saves work."""
        parts = previous.parts if previous else NO_PARTS
        return plan_resources(inventory, self.rules, usage, self.least, parts)

    def ids(self, inventory: Inventory) -> Ids:
        """What the advertised ids of an inventory mean, whatever is in use."""
        return ids_of(offerings(inventory, self.rules), inventory.devices)

    def faults(self, inventory: Inventory) -> tuple[Fault, ...]:
        """Warnings about devices that are shared."""
        shared = {o.device.id: o for o in offerings(inventory, self.rules) if not o.offer.whole}
        return tuple(fault for o in shared.values() for fault in _warnings(o))

    def edits(
        self,
        resource: Resource,
        entries: Sequence[AdvertisedDevice],
        devices: Sequence[Device],
    ) -> ContainerEdits:
        """What a container is told of its shares; raises AllocationError."""
        return share_edits(resource, entries, {d.id: d for d in devices}, self.mps.root)


def sharing_of(sections: Sections) -> Sharing:
    """The value that decoded core sections make."""
    settings = cast("SharingSection", sections.get("sharing") or SharingSection())
    return Sharing(
        rules=cast("tuple[Rule, ...]", sections.get("rules") or ()),
        least=Isolation(str(sections.get("isolation") or Isolation.NONE)),
        mps=settings.mps,
    )


def _warnings(offering: Offering) -> Iterator[Fault]:
    device = offering.device
    if device.ecc is False:
        yield Fault(
            device=device.id,
            source=SOURCE,
            code="ecc_off_shared",
            reason=f"ECC is off and the GPU is shared as {offering.name}: a neighbour can flip"
            " bits in another's memory (GPUHammer, 2025)",
            action="turn ECC on (nvidia-smi -e 1, then reset the GPU), or offer it whole",
            kind=FaultClass.WARN,
        )
