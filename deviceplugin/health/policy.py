"""What the operator's policy makes of a fault: left out, or of another class; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from deviceplugin.model import Fault, FaultClass

_XIDS = ".xid"  # the end of the sources of XIDs


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """`disabled` and `enabled` name faults: `all`, `xids`, an XID, a source, or `source/code`.

    Enabled wins over disabled, and an XID that is enabled takes its device away: that is what
    DP_DISABLE_HEALTHCHECKS and DP_ENABLE_HEALTHCHECKS are documented to mean.
    """

    disabled: frozenset[str] = frozenset()
    enabled: frozenset[str] = frozenset()
    classes: Mapping[str, FaultClass] = field(default_factory=lambda: MappingProxyType({}))


def name_of(fault: Fault) -> str:
    """How configuration names the fault: `nvidia.xid/79`."""
    return f"{fault.source}/{fault.code}"


def judged(fault: Fault, verdicts: Verdicts) -> Fault | None:
    """The fault in the class that the policy gives it, None where it is disabled."""
    is_xid = fault.source.endswith(_XIDS)
    names = {"all", fault.source, name_of(fault)} | ({"xids", fault.code} if is_xid else set())
    enabled = bool(names & verdicts.enabled)
    if not enabled and names & verdicts.disabled:
        return None
    kind = verdicts.classes.get(name_of(fault), fault.kind)
    if enabled and is_xid and not kind.withdraws:
        kind = FaultClass.RESET
    return fault if kind is fault.kind else replace(fault, kind=kind)
