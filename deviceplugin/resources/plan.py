"""Planning: which extended resources an inventory makes, and which ids each lists; pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.model import (
    AdvertisedDevice,
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
from deviceplugin.resources.build import (
    NOT_ENFORCED,
    Builder,
    Enforced,
    Keeping,
    Parts,
    PlanProblem,
    group_problem,
    not_held,
    size_problem,
)
from deviceplugin.resources.compute import ComputeShare, compute_of, mixed_compute
from deviceplugin.resources.grants import Granted, granted
from deviceplugin.resources.ids import Ids, clear_offerings, ids_of
from deviceplugin.resources.rules import Offering, choices_of, offerings
from deviceplugin.resources.section import Rule, SharingSection
from deviceplugin.resources.shares import entry_bytes, noun_text
from deviceplugin.resources.usage import NOTHING_USED, Usage
from deviceplugin.schema import section_of
from deviceplugin.vendor import ComputeLimit, Sections

Resources = Mapping[ResourceName, Resource]


NO_PARTS: Parts = MappingProxyType({})


# The kubelet receives with gRPC's default limit and drops a longer list without a word.
MAX_LIST_BYTES = 4 * 1024 * 1024


class Plan(Struct, frozen=True, kw_only=True):
    """The resources that an inventory makes, and those that it cannot make.

    `choices` has the devices that can be held in one of several forms only, with the form that
    comes first (None: only the whole that it is a part of is first); `decided` has those of which
    one form is in use. `not_held` says of resources of memory why the kernel does not hold their
    containers to it, where it should; `compute` has those whose slices come with compute.
    """

    resources: Resources
    problems: tuple[PlanProblem, ...] = ()
    choices: Mapping[DeviceID, ResourceName | None] = field(default_factory=dict)
    decided: Mapping[DeviceID, ResourceName] = field(default_factory=dict)
    parts: Parts = field(default_factory=dict)
    not_held: Mapping[ResourceName, str] = field(default_factory=dict)
    compute: Mapping[ResourceName, ComputeShare] = field(default_factory=dict)


def plan_resources(
    inventory: Inventory,
    rules: Sequence[Rule] = (),
    usage: Usage = NOTHING_USED,
    previous: Parts = NO_PARTS,
) -> Plan:
    """The resources that the rules make of the devices; sorted, whole, checked.

    A GPU that `usage` has in one form is Unhealthy in its others. `previous` are the parts of an
    earlier plan, to be cheaper.
    """
    return _planned(Sharing(rules=tuple(rules)), inventory, usage, previous)


def _planned(sharing: "Sharing", inventory: Inventory, usage: Usage, previous: Parts) -> Plan:
    offered, unclear = clear_offerings(sharing.offerings(inventory), inventory.devices)
    grouped = _grouped(offered)
    resources: dict[ResourceName, Resource] = {}
    problems = list(unclear)
    builder = Builder(inventory, usage, previous, keeping := sharing.keeping)
    for name in sorted(grouped):
        group = grouped[name]
        problem = group_problem(name, group, sharing.least, keeping) or mixed_compute(name, group)
        problem = problem or size_problem(name, group, MAX_LIST_BYTES)
        if problem is None:
            resources[name] = builder.resource(name, group)
            problem = resource_problem(resources[name])
        if problem is not None:
            resources.pop(name, None)
            problems.append(problem)
    compute = _computes(resources, grouped, sharing)
    return Plan(
        resources=MappingProxyType(_levelled(resources, compute)),
        problems=tuple(problems),
        choices=choices_of(o for o in offered if o.name in resources),
        decided=builder.decided,
        parts=builder.parts,
        not_held=_not_held(resources, grouped, sharing.enforced),
        compute=compute,
    )


def _grouped(offered: Iterable[Offering]) -> Mapping[ResourceName, Sequence[Offering]]:
    grouped: dict[ResourceName, list[Offering]] = {}
    for offering in offered:
        grouped.setdefault(offering.name, []).append(offering)
    return grouped


def _computes(
    resources: Resources, grouped: Mapping[ResourceName, Sequence[Offering]], sharing: "Sharing"
) -> Mapping[ResourceName, ComputeShare]:
    return {
        name: compute_of(resource, grouped[name], sharing.compute)
        for name, resource in resources.items()
        if grouped[name][0].offer.compute is not None
    }


def _levelled(resources: Resources, compute: Mapping[ResourceName, ComputeShare]) -> Resources:
    levels = {name: replace(resources[name], compute=one.level) for name, one in compute.items()}
    return {**resources, **levels}


def _not_held(
    names: Iterable[ResourceName],
    grouped: Mapping[ResourceName, Sequence[Offering]],
    enforced: Enforced,
) -> Mapping[ResourceName, str]:
    return {name: why for name in names if (why := not_held(grouped[name], enforced))}


def resource_problem(resource: Resource) -> PlanProblem | None:
    """Why a resource cannot be offered to a kubelet, None where it can."""
    if reason := name_problem(resource.name):
        return PlanProblem(
            resource=resource.name,
            reason=f"the kubelet refuses the name: {reason}",
            action="choose another name in the configuration",
        )
    longest = max([len(entry.id) for entry in resource.devices], default=0)
    if len(resource.devices) * entry_bytes(longest, 0) < MAX_LIST_BYTES:
        return None  # they need not be counted one by one
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


class Sharing(Struct, frozen=True, kw_only=True):
    """The sections `rules`, `sharing` and `isolation`, and what the kernel enforces.

    A resource that isolates less than `least` is refused. `compute` has the limits on shares of
    compute, `automatic` the methods for slices of memory whose rule names none, both by vendor.
    """

    rules: tuple[Rule, ...] = ()
    least: Isolation = Isolation.NONE
    section: SharingSection = field(default_factory=SharingSection)
    enforced: Enforced = NOT_ENFORCED
    compute: Mapping[str, ComputeLimit] = field(default_factory=dict)
    automatic: Mapping[str, str] = field(default_factory=dict)

    @property
    def keeping(self) -> Keeping:
        """What keeps containers of one device apart."""
        return Keeping(self.section.METHODS, self.enforced)

    @property
    def methods_used(self) -> frozenset[str]:
        """The sharing methods that the rules name or a policy chose, without time-slicing."""
        forms = (offer for rule in self.rules for offer in rule.forms)
        return frozenset(offer.method for offer in forms if offer.method) | frozenset(
            self.automatic.values()
        )

    def offerings(self, inventory: Inventory) -> Iterator[Offering]:
        """Every form of every device that is offered."""
        found = offerings(inventory, self.rules, self.section.DOMAINS)
        return map(self._with_method, found) if self.automatic else found

    def _with_method(self, offering: Offering) -> Offering:
        """With the method that was chosen, where it is for this device."""
        offer, name = offering.offer, self.automatic.get(offering.device.vendor)
        if name is None or offer.memory is None or offer.sharing or offering.partner:
            return offering
        if self.section.METHODS[name].refusal(offering.device):
            return offering
        return replace(offering, offer=replace(offer, sharing=name))

    def plan(
        self, inventory: Inventory, usage: Usage = NOTHING_USED, previous: Plan | None = None
    ) -> Plan:
        """What is offered of an inventory while `usage` is in use; `previous` saves work."""
        return _planned(self, inventory, usage, previous.parts if previous else NO_PARTS)

    def ids(self, inventory: Inventory) -> Ids:
        """What the advertised ids of an inventory mean, whatever is in use."""
        return ids_of(self.offerings(inventory), inventory.devices)

    def faults(self, inventory: Inventory) -> tuple[Fault, ...]:
        """Warnings about devices that are shared."""
        shared = {o.device.id: o for o in self.offerings(inventory) if not o.offer.whole}
        return tuple(fault for o in shared.values() for fault in _warnings(o))

    def granted(
        self,
        resource: Resource,
        entries: Sequence[AdvertisedDevice],
        devices: Sequence[Device],
    ) -> Granted:
        """The shares that a container gets, and the edits that they bring.

        Raises VendorError where a vendor's sharing method fails.
        """
        return granted(resource, entries, {d.id: d for d in devices}, self.section)


def sharing_of(sections: Sections) -> Sharing:
    """The value that decoded core sections make."""
    rules: Any = sections.get("rules") or ()  # a tuple of Rule, see config/load.py
    section = section_of(sections, "sharing", SharingSection)
    return Sharing(
        rules=rules,
        least=Isolation(str(sections.get("isolation") or Isolation.NONE)),
        section=section,
        compute={vendor: limit(sections) for vendor, limit in section.COMPUTE.items()},
    )


def _warnings(offering: Offering) -> Iterator[Fault]:
    device = offering.device
    if device.ecc is False:
        yield Fault(
            device=device.id,
            source=SOURCE,
            code="ecc_off_shared",
            reason=f"ECC is off and the {noun_text(device)} is shared as {offering.name}: a"
            " neighbour can flip bits in another's memory (GPUHammer, 2025)",
            action="turn ECC on (nvidia-smi -e 1, then reset the GPU), or offer it whole",
            kind=FaultClass.WARN,
        )
