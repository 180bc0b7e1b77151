"""The configuration section `health`, and what vendors and the environment add to it; pure."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from deviceplugin.errors import ConfigError
from deviceplugin.faults import source_problem
from deviceplugin.model import FaultClass
from deviceplugin.schema import Section
from deviceplugin.vendor import HealthDefaults, Repeat

Seconds = Annotated[float, Meta(ge=0, le=30 * 86400)]
Count = Annotated[int, Meta(ge=1, le=100)]
Raw = dict[str, Any]  # Any: what YAML gives before the schema has spoken
# Keys by their name in 0.1, which is accepted until 0.3.
RENAMED_KEYS: Mapping[str, str] = MappingProxyType({"told_s": "event_ttl_s"})
_FAULT_NAME = re.compile(r"[a-z0-9_.-]+(/[A-Za-z0-9_.:-]+)?")
_LISTS = ("disable", "enable")


class HealthSection(Section, frozen=True):
    """Section `health`: which faults count, as what, and how fast a device recovers.

    A fault is named `source/code` as `deviceplugin health` shows it (`nvidia.xid/79`); `disable`
    and `enable` also take a source, `all`, and the words and numbers that a vendor declares
    (`xids`, `79`). An event that does not make a device Unhealthy is shown for `event_ttl_s`
    seconds. A fault that comes back after `escalate_after_reboots` reboots is of class hardware.
    """

    disable: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    classes: dict[str, FaultClass] = msgspec.field(default_factory=dict)
    repeats: dict[str, Repeat] = msgspec.field(default_factory=dict)
    hold_s: Seconds = 3.0
    hold_max_s: Seconds = 600.0
    flap_limit: Count = 6
    flap_window_s: Seconds = 3600.0
    escalate_after_reboots: Count = 2
    event_ttl_s: Seconds = 3600.0
    agents: bool = True
    call_deadline_s: Annotated[float, Meta(gt=0, le=60)] = 5.0

    def __post_init__(self) -> None:
        """Refuse what cannot be a fault's name, and a longest hold that is not the longest."""
        for key in ("disable", "enable", "classes", "repeats"):
            for name in getattr(self, key):
                if not _FAULT_NAME.fullmatch(name):
                    raise ValueError(f"{key}: faults such as nvidia.xid/79, not {name!r}")
                if key in ("classes", "repeats") and "/" not in name:
                    raise ValueError(f"{key}: such as nvidia.xid/79, not {name!r}")
        if self.hold_max_s < self.hold_s:
            raise ValueError(f"hold_max_s: at least hold_s, which is {self.hold_s:g}")


SECTIONS: Mapping[str, Any] = {"health": HealthSection}


def vendor_defaults(modules: Iterable[object]) -> HealthDefaults:
    """What the vendor modules say of health by their HEALTH_DEFAULTS, in one value; of two that
    say the same word or variable the first counts."""
    declared = (getattr(module, "HEALTH_DEFAULTS", None) for module in modules)
    given = [one for one in declared if isinstance(one, HealthDefaults)]
    return HealthDefaults(
        repeats={name: rule for one in reversed(given) for name, rule in one.repeats.items()},
        numbered={word: source for one in reversed(given) for word, source in one.numbered.items()},
        variables={name: key for one in reversed(given) for name, key in one.variables.items()},
    )


def defaults_problem(vendor: str, value: object) -> str | None:
    """Why a module's HEALTH_DEFAULTS cannot be used, None where it can or there is none."""
    if value is None:
        return None
    if not isinstance(value, HealthDefaults):
        return f"its HEALTH_DEFAULTS is {type(value).__name__}, not HealthDefaults"
    sources = [*(name.partition("/")[0] for name in value.repeats), *value.numbered.values()]
    problems = [problem for source in sources if (problem := source_problem(vendor, source))]
    problems += [
        f"{key!r} is not one of {_LISTS}" for key in value.variables.values() if key not in _LISTS
    ]
    return f"its HEALTH_DEFAULTS: {problems[0]}" if problems else None


def with_defaults(
    raw: Raw, environ: Mapping[str, str], defaults: HealthDefaults
) -> tuple[Raw, tuple[str, ...]]:
    """The document with new names for old keys, the vendors' default repeats and the field's
    variables in its section `health`; and a note for each key under its old name.

    Raises ConfigError for a key that is given under both names.
    """
    section = raw.get("health") or {}
    if not isinstance(section, dict):
        return raw, ()
    section, notes = _with_new_names(section)
    section = {"repeats": msgspec.to_builtins(dict(defaults.repeats)), **section}
    return {**raw, "health": {**section, **_variables(environ, defaults.variables)}}, notes


def _with_new_names(section: Raw) -> tuple[Raw, tuple[str, ...]]:
    old = [key for key in RENAMED_KEYS if key in section]
    for key in old:
        if RENAMED_KEYS[key] in section:
            expected = f"{RENAMED_KEYS[key]} alone, which is its new name"
            raise ConfigError(f"health.{key}", section[key], expected)
    renamed = {RENAMED_KEYS.get(str(key), key): value for key, value in section.items()}
    return renamed, tuple(
        f"health.{key} is now health.{RENAMED_KEYS[key]}; the old name is accepted until 0.3"
        for key in old
    )


def _variables(environ: Mapping[str, str], variables: Mapping[str, str]) -> Mapping[str, list[str]]:
    """The keys that variables replace; items that name nothing are left out."""
    return {
        key: [item for item in _items(environ[variable]) if _FAULT_NAME.fullmatch(item)]
        for variable, key in variables.items()
        if environ.get(variable)
    }


def _items(text: str) -> list[str]:
    return [item.strip().lower() for item in text.split(",")]
