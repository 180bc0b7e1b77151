"""Flags, environment and files put together: the settings of a command, and what they amount to.

With cli/ the only reader of the environment.
"""

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from deviceplugin.config.config import (
    LOG_FORMATS,
    LOG_LEVELS,
    Config,
    Setting,
    address_text,
    parse_address,
    parse_choice,
    parse_directory,
    parse_node_name,
    parse_vendors,
)
from deviceplugin.config.files import Source, read_config_files, read_state
from deviceplugin.config.nvidia_v1 import is_v1, translate
from deviceplugin.config.schema import check_keys, decode_sections
from deviceplugin.discovery.registry import (
    Loaded,
    installed_vendors,
    load_installed,
    shadowed_text,
    shadowed_vendors,
)
from deviceplugin.health import section as health
from deviceplugin.host import Host
from deviceplugin.kubernetes import section as kubernetes
from deviceplugin.model import VendorStatus
from deviceplugin.placement import section as scheduling
from deviceplugin.placement.registry import configured_policies
from deviceplugin.resources import section as sharing
from deviceplugin.resources.methods import launches_of, sharing_schema
from deviceplugin.resources.plan import sharing_of
from deviceplugin.vendor import VendorModule

PREFIX = "DEVICEPLUGIN_"
_PARSERS: Mapping[str, Callable[[Setting], object]] = {
    "node_name": parse_node_name,
    "host_root": parse_directory,
    "kubelet_dir": parse_directory,
    "cdi_dir": parse_directory,
    "state_dir": parse_directory,
    "metrics_address": parse_address,
    "log_level": lambda setting: parse_choice(setting, LOG_LEVELS),
    "log_format": lambda setting: parse_choice(setting, LOG_FORMATS),
}


def load(
    flags: Mapping[str, str | None], capabilities: Sequence[Mapping[str, Any]] | None = None
) -> tuple[Config, Sequence[VendorModule]]:
    """The configuration of all origins and the vendor modules that it names.

    `capabilities` are the sections of each, by default those of CAPABILITIES.
    """
    given = {name: setting for name in flags if (setting := _given(name, flags[name])) is not None}
    path = given.get("config")
    source = _source(Path(str(path.value))) if path else None
    raw = read_config_files(source.path) if source else {}
    raw, notes = translate(raw) if is_v1(raw) else (raw, ())
    settings = {name: Setting(raw[name], name) for name in SETTINGS if name in raw} | given
    vendors = settings.get("vendors")
    installed = tuple(installed_vendors())
    names = parse_vendors(vendors, installed) if vendors else None
    loaded = load_installed(RESERVED)
    modules = loaded.chosen(names)  # what is asked for by name must be usable
    defaults = health.vendor_defaults(loaded.modules)
    raw, renamed = health.with_defaults(raw, os.environ, defaults)
    schemas = {key: schema for module in loaded.modules for key, schema in module.SECTIONS.items()}
    schemas |= CORE_SECTIONS if capabilities is None else sections_of(capabilities)
    incomplete = bool(loaded.refused) and not names
    schemas["sharing"] = sharing_schema(loaded.modules, strict=not incomplete)
    skipped: Sequence[VendorStatus] = ()
    if incomplete:
        skipped = _with_sections(loaded, raw.keys() - {*SETTINGS, *schemas})
    else:
        check_keys(raw, (*SETTINGS, *schemas))
    sections = decode_sections(raw, schemas)
    configured_policies(sections)
    values = {name: parse(settings[name]) for name, parse in _PARSERS.items() if name in settings}
    config = Config(
        **{"node_name": platform.node().lower(), **values},  # type: ignore[arg-type]  # parsed
        vendors=names,
        sections=sections,
        notes=notes,
        renamed=renamed,
        numbered_faults=defaults.numbered,
        skipped=tuple(skipped),
        ignored=tuple(shadowed_text(*pair) for pair in shadowed_vendors()),
        source=source,
    )
    shared = sharing_of(sections)
    if not incomplete:
        sharing.check_rules(shared.rules, shared.section)
    launches_of(shared, Host(config.host_root), sections)
    return config, modules


def _with_sections(loaded: Loaded, unknown: Iterable[str]) -> Sequence[VendorStatus]:
    """Keys that nobody knows may be those of a vendor that cannot be loaded: shown, not refused."""
    keys = ", ".join(sorted(unknown))
    hint = f"; keys of the configuration that may be its own: {keys}" if keys else ""
    return [
        VendorStatus(name=name, error=f"{error}{hint}") for name, error in loaded.refused.items()
    ]


def _source(path: Path) -> Source:
    return Source(path, read_state(path))


def _given(name: str, flag: str | None) -> Setting | None:
    if flag is not None:
        return Setting(flag, f"--{name.replace('_', '-')}")
    variable = f"{PREFIX}{name.upper()}"
    if variable in os.environ:
        return Setting(os.environ[variable], variable)
    return None


def effective(config: Config) -> dict[str, Any]:
    """The configuration as one document, every default filled in."""
    address = config.metrics_address
    return {
        "node_name": config.node_name,
        "vendors": list(config.vendors or _usable(config)),
        "host_root": str(config.host_root),
        "kubelet_dir": str(config.kubelet_dir),
        "cdi_dir": str(config.cdi_dir),
        "state_dir": str(config.state_dir),
        "metrics_address": address_text(address) if address else "",
        "log_level": config.log_level,
        "log_format": config.log_format,
        **{name: msgspec.to_builtins(section) for name, section in config.sections.items()},
    }


def _usable(config: Config) -> list[str]:
    skipped = {status.name for status in config.skipped}
    return [name for name in installed_vendors() if name not in skipped]


def sections_of(capabilities: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The schemas of all sections, by name."""
    return {name: schema for sections in capabilities for name, schema in sections.items()}


# The sections of each capability of the core; those of one more are one entry more.
CAPABILITIES: tuple[Mapping[str, Any], ...] = (
    health.SECTIONS,
    sharing.SECTIONS,
    scheduling.SECTIONS,
    kubernetes.SECTIONS,
)
CORE_SECTIONS: Mapping[str, Any] = sections_of(CAPABILITIES)
SETTINGS = (*_PARSERS, "vendors")
# Names that no vendor's section may have: those of today, and those that are kept for what the
# daemon itself will have. A section with the vendor's own name is never taken.
RESERVED = frozenset(
    {*CORE_SECTIONS, *SETTINGS, "version"}
    | {"alerts", "audit", "cdi", "diagnostics", "dra", "extender", "history", "kubelet", "labels"}
    | {"logs", "metrics", "partitioning", "placement", "resources", "telemetry", "tracing"}
)
