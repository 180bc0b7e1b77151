"""The configured sharing as one value: planning, warnings and the edits of shares; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from deviceplugin.core.resources import NO_PARTS, Plan, plan_resources
from deviceplugin.core.rules import Offering, offerings
from deviceplugin.core.sharing import share_edits
from deviceplugin.core.sharing_sections import MpsSettings, Rule, SharingSection
from deviceplugin.core.usage import NOTHING_USED, Usage
from deviceplugin.model import (
    AdvertisedDevice,
    ContainerEdits,
    Device,
    Fault,
    FaultClass,
    Inventory,
    Isolation,
    Resource,
)
from deviceplugin.vendor import Sections

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
    if device.attributes.get("ecc") == "disabled":
        yield Fault(
            device=device.id,
            source=SOURCE,
            code="ecc_off_shared",
            reason=f"ECC is off and the GPU is shared as {offering.name}: a neighbour can flip"
            " bits in another's memory (GPUHammer, 2025)",
            action="turn ECC on (nvidia-smi -e 1, then reset the GPU), or offer it whole",
            kind=FaultClass.WARN,
        )
