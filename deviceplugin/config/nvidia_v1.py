"""The configuration file of NVIDIA's own device plugin (`version: v1`) in our terms; pure.

Read unchanged and strictly: a key that does not exist there is an error. What that plugin parses
and then discards (`resources`, `rename`, `devices`) works here; a setting without a meaning here is
reported as a note.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, cast

import msgspec

from deviceplugin.config.nvidia_v1_flags import Flags, plugin_settings, unserved
from deviceplugin.config.schema import Raw, decode_sections
from deviceplugin.errors import ConfigError
from deviceplugin.resources.section import check_name, check_replicas
from deviceplugin.schema import Section

KEYS = ("version", "flags", "resources", "sharing", "imex")
PREFIX = "nvidia.com/"
_DEVICE = re.compile(r"\d+(:\d+)?|(GPU|MIG)-[0-9a-fA-F/-]+|MIG-GPU-[0-9a-fA-F/-]+")
RawRule = dict[str, Any]
T = TypeVar("T", dict[str, Any], list[Any])


class Pattern(Section, frozen=True):
    """Devices whose product or profile is like `pattern` have this resource name."""

    pattern: str
    name: str

    def __post_init__(self) -> None:
        """Check the name, with the prefix that is added if it has none."""
        check_name("name", _full(self.name))


class Patterns(Section, frozen=True):
    """`resources`."""

    gpus: tuple[Pattern, ...] = ()
    mig: tuple[Pattern, ...] = ()


class Shared(Section, frozen=True):
    """An entry of `sharing.*.resources`."""

    name: str
    replicas: int
    rename: str | None = None
    devices: Literal["all"] | int | tuple[int | str, ...] = "all"

    def __post_init__(self) -> None:
        """Check what that plugin's documentation requires and its schema does not express."""
        check_name("name", _full(self.name))
        if self.rename is not None:
            check_name("rename", _full(self.rename))
        check_replicas(self.replicas)
        if isinstance(self.devices, int) and self.devices < 1:
            raise ValueError("devices: all, a number from 1, or a list of indexes and UUIDs")
        for device in self.devices if isinstance(self.devices, tuple) else ():
            if not _DEVICE.fullmatch(str(device)):
                raise ValueError(f"devices: indexes such as 0 or '0:1', and UUIDs; not {device!r}")


class Method(Section, frozen=True, rename="camel"):
    """`sharing.timeSlicing` or `sharing.mps`; more than one replica: by default only refused
    with MPS."""

    resources: tuple[Shared, ...]
    rename_by_default: bool = False
    fail_requests_greater_than_one: bool | None = None

    def __post_init__(self) -> None:
        """A block without resources is a mistake."""
        if not self.resources:
            raise ValueError("resources: at least one entry with name and replicas")


class Methods(Section, frozen=True, rename="camel"):
    """`sharing`."""

    time_slicing: Method | None = None
    mps: Method | None = None


class Imex(Section, frozen=True, rename="camel"):
    """`imex`."""

    channel_ids: tuple[Literal[0], ...] = msgspec.field(default=(), name="channelIDs")
    required: bool = False


def _full(name: str) -> str:
    return name if "/" in name else f"{PREFIX}{name}"


SCHEMAS = {"flags": Flags, "imex": Imex, "resources": Patterns, "sharing": Methods}


def without_nulls(value: Any) -> Any:
    """The value without keys that are null: that plugin takes those as not given."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def translate(raw: Raw) -> tuple[Raw, tuple[str, ...]]:
    """Our configuration for such a file, and which of its settings have no effect here.

    Our own keys (a directory may have several files) override it. Raises ConfigError, also for
    another version of such a file.
    """
    if raw["version"] != "v1":
        raise ConfigError("version", raw["version"], "v1, the version of NVIDIA's plugin, or none")
    ours = {key: value for key, value in raw.items() if key not in KEYS}
    theirs = {key: without_nulls(raw.get(key) or {}) for key in SCHEMAS}
    decoded = decode_sections(theirs, SCHEMAS)
    flags, patterns = cast("Flags", decoded["flags"]), cast("Patterns", decoded["resources"])
    methods, imex = cast("Methods", decoded["sharing"]), cast("Imex", decoded["imex"])
    settings, notes = plugin_settings(flags), unserved(flags)
    channels = {
        "imex_channels": list(imex.channel_ids),
        "imex_required": imex.required and bool(imex.channel_ids),
    }
    if methods.mps and methods.time_slicing:
        notes.append("sharing.timeSlicing: sharing.mps is there too and wins")
    rules = list(_rules(patterns, methods, settings.policy))
    return {
        **ours,
        "nvidia": settings.nvidia | channels | _ours(ours, "nvidia", {}),
        # That plugin serves a guest's vGPU as a plain GPU, and leaves a host's to another plugin.
        "vgpu": {"enabled": False} | _ours(ours, "vgpu", {}),
        "rules": _ours(ours, "rules", []) + rules,
        "sharing": {"mps": {"root": settings.mps_root}} if settings.mps_root else {},
    }, tuple(notes)


def translated(raw: Raw) -> tuple[Raw, tuple[str, ...]]:
    """The same for a configuration that may be one of ours, which is as it is."""
    return translate(raw) if "version" in raw else (raw, ())


def _ours(raw: Raw, key: str, empty: T) -> T:
    """A section of ours; what it holds is checked with all others."""
    found = raw.get(key) or empty
    if not isinstance(found, type(empty)):
        raise ConfigError(key, found, "keys and values" if empty == {} else "a list")
    return found


def _rules(patterns: Patterns, methods: Methods, policy: str) -> Iterator[RawRule]:
    """Rules for named devices come first, because the first rule that matches decides."""
    method, kind = methods.mps or methods.time_slicing, "mps" if methods.mps else "time-slicing"
    terms = _terms(method, kind, policy) if method else {}
    block = f"sharing.{'mps' if methods.mps else 'timeSlicing'}.resources"
    shared = [
        (f"{block}[{i}]", entry) for i, entry in enumerate(method.resources if method else ())
    ]
    for key, selector, listed in (
        ("gpus", "product", patterns.gpus),
        ("mig", "profile", patterns.mig),
    ):
        for number, pattern in enumerate(listed):
            match = {"vendor": "nvidia", selector: _glob(pattern.pattern)}
            name, label = _full(pattern.name), f"resources.{key}[{number}]"
            for place, entry in shared:
                if _full(entry.name) == name and method:
                    yield from _shares(f"{label}, {place}", match, entry, method, terms)
            yield {"label": label, "match": match, "offers": [{"whole": True, "name": name}]}
    for label, entry in shared:
        match = {"vendor": "nvidia", "resource": _full(entry.name)}
        if method:
            yield from _shares(label, match, entry, method, terms)


def _terms(method: Method, kind: str, policy: str) -> RawRule:
    fail = method.fail_requests_greater_than_one
    one = kind == "mps" if fail is None else fail
    return {
        "sharing": kind,
        "max_per_container": 1 if one else "unlimited",
        "policy": policy,
    }


def _shares(
    label: str, match: RawRule, entry: Shared, method: Method, terms: RawRule
) -> Iterator[RawRule]:
    """The rules for the replicas of an entry, one for each kind of selection in `devices`."""
    name = _full(entry.rename or entry.name)
    if method.rename_by_default and entry.rename is None:
        name = f"{name}.shared"
    offer = {"replicas": entry.replicas, "name": name, **terms}
    for selection in _selections(entry):
        count = selection.pop("count", None)
        yield {"label": label, "match": match | selection, "count": count, "offers": [offer]}


def _selections(entry: Shared) -> Iterator[RawRule]:
    devices = entry.devices
    if not isinstance(devices, tuple):
        yield {} if devices == "all" else {"count": devices}
        return
    uuids = [str(device) for device in devices if "-" in str(device)]
    places = [str(device) for device in devices if "-" not in str(device)]
    if places:
        yield {"index": places}
    if uuids:
        yield {"uuid": uuids}


def _glob(pattern: str) -> str:
    """Only `*` is special there."""
    return re.sub(r"([?\[])", r"[\1]", pattern)
