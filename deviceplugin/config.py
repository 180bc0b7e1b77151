"""The configuration: flags, environment and files become one frozen Config, or one clear error.

Every error names the key (as the person wrote it: flag, variable or path in the file), the value
and what was expected. This module reads configuration files and nothing else.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from deviceplugin.config_source import Source, config_files
from deviceplugin.errors import ConfigError
from deviceplugin.model import VendorStatus
from deviceplugin.strict_yaml import parse_yaml
from deviceplugin.vendor import Sections

MAX_FILE_BYTES = 1 << 20
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("json", "console")

_LABEL = "[0-9A-Za-z_-]{1,63}"
_ADDRESS = re.compile(rf"(?:\[([0-9a-fA-F:.]+)\]|({_LABEL}(?:\.{_LABEL})*|)):([0-9]{{1,5}})")

Raw = dict[str, Any]  # what YAML gives before the schema has spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that the daemon is told; `vendors` None means all that are installed.

    `notes` say what was configured and has no effect, `skipped` which installed vendors cannot be
    used, and why; `source` is None without a file.
    """

    node_name: str
    vendors: tuple[str, ...] | None = None
    host_root: Path = Path("/")
    kubelet_dir: Path = Path("/var/lib/kubelet")
    cdi_dir: Path = Path("/var/run/cdi")
    state_dir: Path = Path("/var/lib/deviceplugin")
    metrics_address: tuple[str, int] | None = ("127.0.0.1", 9440)
    log_level: str = "info"
    log_format: str = "json"
    sections: Sections = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    skipped: tuple[VendorStatus, ...] = ()
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """A value with the name under which the person gave it."""

    value: object
    label: str


def read_config_files(path: Path) -> Raw:
    """The content of a YAML file, or of all of a directory's, a later name over an earlier one.

    Raises ConfigError for a file that cannot be read, is no mapping, or says a key twice.
    """
    try:
        files = config_files(path)
    except OSError as error:
        text = f"a readable directory ({error.strerror})"
        raise ConfigError("--config", str(path), text) from error
    merged: Raw = {}
    for file in files:
        merged = _merge(merged, _read_file(file))
    return merged


def _read_file(path: Path) -> Raw:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError("--config", str(path), f"a readable file ({error.strerror})") from error
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError("--config", str(path), f"a file of at most {MAX_FILE_BYTES} bytes")
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise ConfigError("--config", str(path), f"YAML ({error})") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError("--config", str(path), "a mapping of keys to values")
    return content


def _merge(base: Raw, over: Raw) -> Raw:
    both = {
        key: _merge(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | over | both


def decode_sections(raw: Raw, schemas: Mapping[str, Any]) -> Sections:
    """Each section that is known, decoded, defaults where it is not given.

    A schema is a Struct, all of whose fields have defaults, or a type that takes None.
    """
    return MappingProxyType(
        {
            name: decode(_given(raw.get(name), schemas[name]), schemas[name], name)
            for name in sorted(schemas)
        }
    )


def _given(value: object, schema: Any) -> object:
    """An empty section stands for its defaults."""
    return {} if value is None and isinstance(schema, type) else value


def check_keys(raw: Raw, known: Iterable[str]) -> None:
    """Raise ConfigError for a top-level key that nobody knows."""
    known = sorted(known)
    for key, value in raw.items():
        if key not in known:
            raise ConfigError(key, value, _known_keys(key, known))


def decode(raw: object, schema: Any, name: str) -> Any:
    """`raw` as the schema's value; raises ConfigError with the path below `name`."""
    try:
        return msgspec.convert(raw, schema)
    except msgspec.ValidationError as error:
        raise _config_error(str(error), raw, schema, name) from error


def _config_error(text: str, raw: object, schema: Any, name: str) -> ConfigError:
    """msgspec's message, "Expected … - at `$.a[0].b`", with the key, the value and the choice."""
    match = re.fullmatch(r"(?s)(.*?)(?: - at `(?:key in )?\$(.*)`)?", text)
    problem, steps = match.groups() if match else (text, "")
    path = re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", steps or "")
    value, info = _walk(raw, msgspec.inspect.type_info(schema), path)
    field, expected = _problem(problem, _field_names(info))
    if field is None:
        return ConfigError(f"{name}{steps or ''}", value, _choices(info) or expected)
    found = value.get(field) if isinstance(value, dict) else value
    return ConfigError(f"{name}{steps or ''}.{field}", found, expected)


def _problem(problem: str, known: list[str]) -> tuple[str | None, str]:
    """Which field of the record is meant, if one is, and what was expected of it.

    A section's own check says `field: what it must be`.
    """
    if match := re.fullmatch(r"(?s)Object contains unknown field `(.*)`", problem):
        return match[1], _known_keys(match[1], known)
    if match := re.fullmatch(r"Object missing required field `(.*)`", problem):
        return match[1], "a value: this key is required"
    if match := re.fullmatch(r"Expected (.*?)(?:, got .*)?", problem):
        return None, match[1].replace("`", "")
    field, _, expected = problem.partition(": ")
    return (field, expected) if field in known else (None, problem)


def _walk(raw: Any, info: Any, path: Iterable[tuple[str, str]]) -> tuple[Any, Any]:
    """The value and the schema at a path; what cannot be followed stays where it was."""
    for name, index in path:
        info = _child(_without_none(info), name)
        try:
            raw = raw[int(index)] if index else raw[name]
        except (KeyError, IndexError, TypeError):
            return raw, info
    return raw, _without_none(info)


def _child(info: Any, name: str) -> Any:
    fields = {f.encode_name: f.type for f in getattr(info, "fields", ())}
    return fields.get(name, getattr(info, "item_type", info))


def _without_none(info: Any) -> Any:
    members = [m for m in getattr(info, "types", ()) if not isinstance(m, msgspec.inspect.NoneType)]
    return members[0] if len(members) == 1 else info


def _field_names(info: Any) -> list[str]:
    return [f.encode_name for f in getattr(info, "fields", ())]


def _choices(info: Any) -> str:
    values = getattr(info, "values", ())
    return "one of " + ", ".join(str(value) for value in values) if values else ""


def _known_keys(key: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415  # not a part of a `run` that works

    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"a known key: {hint}known here are {', '.join(sorted(known))}"


def parse_address(setting: Setting) -> tuple[str, int] | None:
    """`HOST:PORT` or `[IPV6]:PORT`; empty text switches the endpoint off (None)."""
    text = str(setting.value)
    if not text:
        return None
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise ConfigError(setting.label, text, "HOST:PORT, or nothing to switch it off")
    return (match[1] or match[2] or "0.0.0.0"), int(match[3])


def address_text(address: tuple[str, int]) -> str:
    """HOST:PORT or [IPV6]:PORT, as `parse_address` takes it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_choice(setting: Setting, choices: tuple[str, ...]) -> str:
    """One of `choices`; raises ConfigError."""
    if setting.value not in choices:
        raise ConfigError(setting.label, setting.value, "one of " + ", ".join(choices))
    return str(setting.value)


def parse_directory(setting: Setting) -> Path:
    """An absolute path; that it exists is not asked for, it may come later."""
    text = setting.value
    if not isinstance(text, str) or not text.startswith("/"):
        raise ConfigError(setting.label, text, "an absolute path of a directory")
    return Path(text)


def parse_vendors(setting: Setting, installed: Iterable[str]) -> tuple[str, ...]:
    """Vendor names as a list or comma-separated text, each installed and named once."""
    value = setting.value
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        raise ConfigError(setting.label, value, "a list of vendors such as nvidia,amd")
    stripped = tuple(dict.fromkeys(str(name).strip() for name in names))
    for name in stripped:
        if name not in installed:
            raise ConfigError(setting.label, name, "one of " + ", ".join(installed))
    return stripped


def parse_node_name(setting: Setting) -> str:
    """A Kubernetes node name: a DNS subdomain."""
    text = setting.value
    if not isinstance(text, str) or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", text):
        raise ConfigError(setting.label, text, "a node name (lower-case DNS subdomain)")
    return text
