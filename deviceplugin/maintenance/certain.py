"""Which faults are certain findings, and which ended the work of a GPU; pure.

A certain finding is a fault that only a replacement or a repair ends: it is no probability.
"""

from collections.abc import Mapping

from deviceplugin.maintenance.units import Kind

# By `source/code`. Each is a state of the hardware that its vendor documents as one that stays.
CERTAIN: Mapping[str, tuple[str, Kind]] = {
    "nvidia.memory/remap_failure": ("remap_failure", Kind.MEMORY),
    "nvidia.memory/no_spare_rows": ("bank_without_spares", Kind.MEMORY),
    "nvidia.memory/sram_threshold": ("sram_threshold", Kind.MEMORY),
}
# A reboot should have ended it: of class hardware it came back after several.
REPEATED = "nvidia.xid/79"
# Faults that end what runs on a GPU, by what failed.
_FAILED: Mapping[Kind, tuple[str, ...]] = {
    Kind.MEMORY: (
        *("nvidia.xid/48", "nvidia.xid/95", "nvidia.xid/140", "nvidia.xid/64"),
        *("nvidia.memory/remap_failure", "amd.ras/umc_uncorrectable", "amd.ras/bad_page_failed"),
    ),
    Kind.OFF_BUS: ("nvidia.xid/79", "nvidia.xid/167"),
    Kind.LINK: ("nvidia.xid/74", "nvidia.xid/136", "nvidia.xid/155"),
    Kind.THERMAL_POWER: ("nvidia.xid/54",),
}
FAILED: Mapping[str, Kind] = {name: kind for kind, names in _FAILED.items() for name in names}
_OFF_BUS_CODES = frozenset({"lost", "off_the_bus"})  # of every vendor


def finding_of(source: str, code: str, kind: str) -> tuple[str, Kind] | None:
    """The certain finding of a fault of that class (`kind`), None where it is none."""
    name = f"{source}/{code}"
    if name == REPEATED and kind == "hardware":
        return "off_bus_repeated", Kind.OFF_BUS
    return CERTAIN.get(name)


def failure_of(name: str) -> Kind | None:
    """What failed by a fault `source/code`, None where it ended no GPU's work or is of another
    kind."""
    found = FAILED.get(name)
    if found is None and name.rpartition("/")[2] in _OFF_BUS_CODES:
        return Kind.OFF_BUS
    return found
