"""Flags, environment and files put together: the settings of a command, and what they amount to.

With cli/ the only reader of the environment.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deviceplugin.alerts import section as alerts
from deviceplugin.audit import section as audit
from deviceplugin.config.config import (
    LOG_FORMATS,
    LOG_LEVELS,
    Config,
    Setting,
    default_node_name,
    parse_address,
    parse_choice,
    parse_directory,
    parse_node_name,
    parse_switch,
    parse_vendors,
    repeated_vendors,
)
from deviceplugin.config.documents import claims, own_keys, schemas_of
from deviceplugin.config.files import Gathered, read_config_files, unread_entries
from deviceplugin.config.notices import without_effect
from deviceplugin.config.origins import (
    given_settings,
    idle_places,
    unknown_variables,
)
from deviceplugin.config.places import parse_trusted, place_errors
from deviceplugin.config.read import Read, read_given
from deviceplugin.config.schema import Raw, Refusals, check_keys, decode_sections
from deviceplugin.discovery.registry import (
    Loaded,
    installed_vendors,
    load_installed,
    shadowed_text,
    shadowed_vendors,
)
from deviceplugin.documents.names import NAMES
from deviceplugin.dra import section as dra
from deviceplugin.enforcement import section as enforcement
from deviceplugin.errors import ConfigError
from deviceplugin.health import section as health
from deviceplugin.kubernetes import section as kubernetes
from deviceplugin.labels import section as labels
from deviceplugin.metrics import section as metrics
from deviceplugin.metrics.section import with_pods
from deviceplugin.model import VendorStatus
from deviceplugin.page import section as page
from deviceplugin.per_node import section as per_node
from deviceplugin.placement import section as scheduling
from deviceplugin.placement.registry import configured_policies
from deviceplugin.provision import section as partitions
from deviceplugin.resources import section as sharing
from deviceplugin.resources.methods import sharing_schema
from deviceplugin.resources.plan import sharing_of
from deviceplugin.runs import section as runs
from deviceplugin.telemetry import section as telemetry
from deviceplugin.vendor import Sections, VendorModule

_PARSERS: Mapping[str, Callable[[Setting], object]] = {
    "node_name": parse_node_name,
    "host_root": parse_directory,
    "kubelet_dir": parse_directory,
    "cdi_dir": parse_directory,
    "state_dir": parse_directory,
    "trusted_dirs": parse_trusted,
    "metrics_address": parse_address,
    "log_level": lambda setting: parse_choice(setting, LOG_LEVELS),
    "allow_unsupported": parse_switch,
    "expose_pods": parse_switch,
    "log_format": lambda setting: parse_choice(setting, LOG_FORMATS),
}

# From flags and variables alone, which whoever may change a file cannot give.
PLACES = ("host_root", "kubelet_dir", "cdi_dir", "state_dir", "trusted_dirs")


def load(
    flags: Mapping[str, str | None],
    capabilities: Sequence[Mapping[str, Any]] | None = None,
    read_files: Callable[[Path], Gathered] = read_config_files,
) -> tuple[Config, Sequence[VendorModule]]:
    """The configuration of all origins and the vendor modules that it names.

    `capabilities` are the sections of each, by default those of CAPABILITIES. What the node has
    is not asked: one file is right or wrong for all nodes. Raises ConfigError with everything
    that is wrong.
    """
    refusals = Refusals()
    refusals.errors += unknown_variables(os.environ, (*SETTINGS, *OTHER_VARIABLES))
    given = given_settings(flags, os.environ)
    read = Read()
    with refusals.collect():
        read = read_given(given, read_files)
    raw = read.gathered.raw
    settings = _of_file(raw) | given
    values = _values(settings, refusals)
    loaded = load_installed(RESERVED, values["vendors"])
    with refusals.collect():
        modules = loaded.chosen(values["vendors"])  # what is asked for by name must be usable
    with refusals.collect():
        own = own_keys(raw, values.get("node_name", default_node_name()), _section_names(loaded))
        document = _decoded(own, loaded, capabilities, incomplete=_incomplete(loaded, values))
        refusals.errors += _misplaced(document["sections"], values)
    unsupported = tuple(claims(raw))
    refusals.errors += () if values.get("allow_unsupported") else unsupported
    refusals.check()
    _check_variants(read, given, loaded, capabilities)
    notes = _notes(read, settings, loaded, document["sections"], values)
    document["sections"] = with_pods(document["sections"], exposed=values.pop("expose_pods", False))
    told = {"notes": notes, "unsupported": tuple(map(str, unsupported)), **_of_files(read)}
    told["chosen"] = read.chosen
    return Config(**{"node_name": default_node_name(), **values}, **document, **told), modules


def _check_variants(
    read: Read,
    given: Mapping[str, Setting],
    loaded: Loaded,
    capabilities: Sequence[Mapping[str, Any]] | None,
) -> None:
    """Raise ConfigError for what is wrong with a named configuration, also of another node."""

    def wrong(raw: Raw) -> Sequence[ConfigError]:
        refusals = Refusals()
        values = _values({**_of_file(raw), **given}, refusals)
        with refusals.collect():
            own = own_keys(raw, default_node_name(), _section_names(loaded))
            document = _decoded(own, loaded, capabilities, incomplete=_incomplete(loaded, values))
            refusals.errors += _misplaced(document["sections"], values)
        return refusals.errors

    if read.variants:
        from deviceplugin.config.per_node import errors_of  # noqa: PLC0415  # as above

        refusals = Refusals()
        refusals.errors += errors_of(read.variants, wrong)
        refusals.check()


def _of_files(read: Read) -> dict[str, Any]:
    """What Config keeps besides the meaning of the files."""
    names = unread_entries(read.source.path) if read.source else ()
    return {
        "unread": tuple(
            f"{name!r}: its name does not end in .yaml, .yml or .json" for name in names
        ),
        "conflicts": read.gathered.conflicts,
        "beside": read.gathered.beside,
        "ignored": tuple(shadowed_text(*pair) for pair in shadowed_vendors()),
        "source": read.source,
    }


def _of_file(raw: Raw) -> dict[str, Setting]:
    return {name: Setting(raw[name], name) for name in FILE_SETTINGS if name in raw}


def _values(settings: Mapping[str, Setting], refusals: Refusals) -> dict[str, Any]:
    """The settings of flags, variables and the file's top, parsed."""
    values: dict[str, Any] = {"vendors": None}
    for name in (*_PARSERS, "vendors"):
        if name in settings:
            with refusals.collect():
                values[name] = _parsed(name, settings[name])
    return values


def _misplaced(sections: Sections, values: Mapping[str, Any]) -> Sequence[ConfigError]:
    root = str(values.get("host_root", "/"))
    return list(place_errors(sections, values.get("trusted_dirs", ()), root))


def _section_names(loaded: Loaded) -> set[str]:
    return {name for module in loaded.modules for name in module.SECTIONS} | {*CORE_SECTIONS}


def _notes(
    read: Read,
    settings: Mapping[str, Setting],
    loaded: Loaded,
    sections: Sections,
    values: Mapping[str, Any],
) -> tuple[str, ...]:
    """What of the configuration has no effect."""
    again = repeated_vendors(settings["vendors"]) if "vendors" in settings else ()
    raw = read.gathered.raw
    in_force = {name: values.get(name, getattr(DEFAULTS, name)) for name in PLACES}
    idle = (*idle_places(raw, in_force), *_idle_keys(raw, loaded, sections))
    return (*read.notes, *again, *idle, *without_effect(raw, sections))


def _idle_keys(raw: Raw, loaded: Loaded, sections: Sections) -> Iterator[str]:
    """Keys that may be sections of vendors that are installed and not asked for."""
    for key in sorted(raw.keys() - {*SETTINGS, *sections}) if loaded.unasked else ():
        others = ", ".join(loaded.unasked)
        yield f"{key}: no vendor that is asked for has it; not asked for are {others}"


def _parsed(name: str, setting: Setting) -> object:
    if name == "vendors":
        return parse_vendors(setting, tuple(installed_vendors()))
    return _PARSERS[name](setting)


def _incomplete(loaded: Loaded, values: Mapping[str, Any]) -> bool:
    """Whether a vendor that is not named is not loaded: its sections are not known then."""
    return bool(loaded.unasked or (loaded.refused and not values["vendors"]))


def _decoded(
    raw: Raw,
    loaded: Loaded,
    capabilities: Sequence[Mapping[str, Any]] | None,
    *,
    incomplete: bool,
) -> dict[str, Any]:
    """The sections, and what else the file says: fields of Config."""
    defaults = health.vendor_defaults(loaded.modules)
    raw, renamed = health.with_defaults(raw, os.environ, defaults)
    schemas = {key: schema for module in loaded.modules for key, schema in module.SECTIONS.items()}
    schemas |= CORE_SECTIONS if capabilities is None else sections_of(capabilities)
    schemas |= schemas_of(raw)
    schemas["sharing"] = sharing_schema(loaded.modules, strict=not incomplete)
    refusals = Refusals()
    skipped: Sequence[VendorStatus] = ()
    if incomplete:
        skipped = _with_sections(loaded, raw.keys() - {*SETTINGS, *schemas})
    else:
        with refusals.collect():
            own = {key: value for key, value in raw.items() if key not in PLACES}
            check_keys(own, (*FILE_SETTINGS, *schemas, *NAMES), schemas)
    with refusals.collect():
        sections = decode_sections(raw, schemas)
    refusals.check()
    _check_names(sections, incomplete=incomplete)
    return {
        "sections": sections,
        "renamed": renamed,
        "numbered_faults": defaults.numbered,
        "skipped": tuple(skipped),
    }


def _check_names(sections: Sections, *, incomplete: bool) -> None:
    """Raise ConfigError for what sections name and nobody installed has."""
    refusals, shared = Refusals(), sharing_of(sections)
    with refusals.collect():
        configured_policies(sections)
    if not incomplete:
        with refusals.collect():
            sharing.check_rules(shared.rules, shared.section)
    refusals.check()


def _with_sections(loaded: Loaded, unknown: Iterable[str]) -> Sequence[VendorStatus]:
    """Keys that nobody knows may be those of a vendor that cannot be loaded: shown, not refused."""
    keys = ", ".join(sorted(unknown))
    hint = f"; keys of the configuration that may be its own: {keys}" if keys else ""
    return [
        VendorStatus(name=name, error=f"{error}{hint}") for name, error in loaded.refused.items()
    ]


def sections_of(capabilities: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The schemas of all sections, by name."""
    return {name: schema for sections in capabilities for name, schema in sections.items()}


# The sections of each capability of the core; those of one more are one entry more.
CAPABILITIES: tuple[Mapping[str, Any], ...] = tuple(
    room.SECTIONS
    for room in (
        *(health, sharing, scheduling, kubernetes, page, alerts, metrics, telemetry, labels, dra),
        *(enforcement, partitions, per_node, audit, runs),
    )
)
CORE_SECTIONS: Mapping[str, Any] = sections_of(CAPABILITIES)
SETTINGS = (*_PARSERS, "vendors")
# Of a file `expose_pods` is the key `metrics.pods`.
FILE_SETTINGS = tuple(name for name in SETTINGS if name not in (*PLACES, "expose_pods"))
DEFAULTS = Config(node_name="")
OTHER_VARIABLES = ("config", "format")
# Names that no vendor's section may have: those of today, and those that are kept for what the
# daemon itself will have. A section with the vendor's own name is never taken.
RESERVED = frozenset(
    {*CORE_SECTIONS, *SETTINGS, *NAMES, "version"}
    | {"alerts", "cdi", "extender", "history", "kubelet", "labels"}
    | {"logs", "placement", "resources", "tracing"}
)
