"""What a person wants to be advised about, as documents name it; pure."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from deviceplugin.advice.values import Advice, Kind

# The words of `auto_optimization.optimizations` and of `cost_optimization.optimization`.
AUTO: Mapping[str, tuple[Kind, ...]] = {
    "memory_allocation": ("right-size",),
    "compute_scheduling": ("share", "layout", "idle"),
    "power_management": ("power-cap",),
    "thermal_management": ("thermal-imbalance",),
}
COST: Mapping[str, tuple[Kind, ...]] = {
    "resource_rightsizing": ("right-size", "idle"),
    "scheduling_optimization": ("share", "layout"),
    "power_management": ("power-cap", "thermal-imbalance"),
    "maintenance_scheduling": (),
}
_ABOUT_SIZE = "size of "


class Wishes(Struct, frozen=True, kw_only=True):
    """What a person allows: sizes below the last week's peak, workloads that may be idle. `kinds`
    is None for everything."""

    consent: bool = False
    interactive: tuple[str, ...] = ()
    kinds: frozenset[Kind] | None = None

    def has(self, one: Advice) -> bool:
        """Whether it is asked for; what is not known belongs to what it would have been."""
        kind: Kind = one.kind
        if kind == "unknown":
            kind = "right-size" if one.subject.startswith(_ABOUT_SIZE) else "idle"
        return self.kinds is None or kind in self.kinds


def kinds_of(words: Iterable[str], known: Mapping[str, tuple[Kind, ...]]) -> frozenset[Kind]:
    """The kinds that a document's words name; raises KeyError for a word that is none."""
    return frozenset(kind for word in words for kind in known[word])
