"""What the configuration makes of a fault: left out, or of another class; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.faults import spellings
from deviceplugin.health.section import HealthSection
from deviceplugin.model import Fault, FaultClass

T = TypeVar("T")


class FaultPolicy(Struct, frozen=True, kw_only=True):
    """The section `health`, and what vendors call their sources of numbered faults.

    `numbered` is the source by its word, `{"xids": "nvidia.xid"}`: in `disable` and `enable` the
    word stands for the source and a bare number for one of its codes. A numbered fault that is
    enabled makes its device Unhealthy: that is what NVIDIA documents for its variables.
    """

    section: HealthSection = field(default_factory=HealthSection)
    numbered: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def name_of(fault: Fault) -> str:
    """How configuration names the fault: `nvidia.xid/79`."""
    return f"{fault.source}/{fault.code}"


def for_fault(table: Mapping[str, T], fault: Fault) -> T | None:
    """The entry of a fault in a table by name, old or new."""
    return next((table[name] for name in spellings(name_of(fault)) if name in table), None)


def apply_policy(fault: Fault, policy: FaultPolicy) -> Fault | None:
    """The fault in the class that the policy gives it, None where it is disabled."""
    words = {word for word, source in policy.numbered.items() if source == fault.source}
    names = {"all", fault.source, *spellings(name_of(fault))}
    if words:
        names |= {*words, fault.code}
    enabled = not names.isdisjoint(policy.section.enable)
    if not enabled and not names.isdisjoint(policy.section.disable):
        return None
    kind = for_fault(policy.section.classes, fault) or fault.kind
    if enabled and words and not kind.withdraws:
        kind = FaultClass.RESET
    return fault if kind is fault.kind else replace(fault, kind=kind)
