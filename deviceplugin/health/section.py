"""The configuration section `health`, and the field's variables that stand for parts of it."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from deviceplugin.model import FaultClass
from deviceplugin.schema import Section

Seconds = Annotated[float, Meta(ge=0, le=30 * 86400)]
Count = Annotated[int, Meta(ge=1, le=100)]
# The field's variables (NVIDIA's device plugin): they replace the key of the section `health`.
HEALTH_VARIABLES = {"DP_DISABLE_HEALTHCHECKS": "disable", "DP_ENABLE_HEALTHCHECKS": "enable"}
_FAULT_NAME = re.compile(r"all|xids|\d{1,5}|[a-z0-9_.-]+(/[A-Za-z0-9_.:-]+)?")


class RepeatSection(Section, frozen=True):
    """An event that comes `count` times within `window_s` seconds is of the class `kind`."""

    count: Count
    window_s: Seconds
    kind: FaultClass = msgspec.field(name="class")


def _default_repeats() -> dict[str, RepeatSection]:
    slow = RepeatSection(count=6, window_s=600.0, kind=FaultClass.HARDWARE)
    return {
        "nvidia.clocks/hw_slowdown": slow,
        "nvidia.clocks/hw_thermal": slow,
        "nvidia.clocks/power_brake": slow,
        "nvidia.xid/31": RepeatSection(count=2, window_s=86400.0, kind=FaultClass.WARN),
    }


class HealthSection(Section, frozen=True):
    """Section `health`: which faults count, as what, and how fast a device comes back.

    A fault is named `source/code` as `deviceplugin health` shows it (`nvidia.xid/79`); `disable`
    and `enable` also take a source, an XID's number, `xids` and `all`.
    """

    disable: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    classes: dict[str, FaultClass] = msgspec.field(default_factory=dict)
    repeats: dict[str, RepeatSection] = msgspec.field(default_factory=_default_repeats)
    hold_s: Seconds = 3.0
    hold_max_s: Seconds = 600.0
    flap_limit: Count = 6
    flap_window_s: Seconds = 3600.0
    escalate_after_reboots: Count = 2
    told_s: Seconds = 3600.0
    agents: bool = True
    call_deadline_s: Annotated[float, Meta(gt=0, le=60)] = 5.0

    def __post_init__(self) -> None:
        """Refuse what cannot be a fault's name, and a longest hold that is not the longest."""
        for name in (*self.disable, *self.enable, *self.classes, *self.repeats):
            if not _FAULT_NAME.fullmatch(name):
                raise ValueError(f"{name!r} names no fault: all, xids, 79, nvidia.xid/79")
        for name in (*self.classes, *self.repeats):
            if "/" not in name:
                raise ValueError(f"{name!r} is not of the form source/code, as in nvidia.xid/79")
        if self.hold_max_s < self.hold_s:
            raise ValueError(f"hold_max_s {self.hold_max_s:g} is below hold_s {self.hold_s:g}")


def with_health_variables(raw: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The document with the field's variables in it; items that name nothing are left out.

    Any: what YAML gives before the schema has spoken.
    """
    given = {
        key: [item for item in _items(environ[variable]) if _FAULT_NAME.fullmatch(item)]
        for variable, key in HEALTH_VARIABLES.items()
        if environ.get(variable)
    }
    section = raw.get("health") or {}
    if not given or not isinstance(section, dict):
        return raw
    return {**raw, "health": {**section, **given}}


def _items(text: str) -> list[str]:
    return [item.strip().lower() for item in text.split(",")]
