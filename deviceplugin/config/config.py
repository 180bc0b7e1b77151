"""The frozen Config, and how each of its own settings is parsed."""

import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.config.files import Source
from deviceplugin.errors import ConfigError
from deviceplugin.model import VendorStatus
from deviceplugin.vendor import Sections

LOG_LEVELS = ("debug", "info", "warning", "error")


LOG_FORMATS = ("json", "console")


_LABEL = "[0-9A-Za-z_-]{1,63}"


_ADDRESS = re.compile(rf"(?:\[([0-9a-fA-F:.]+)\]|({_LABEL}(?:\.{_LABEL})*|)):([0-9]{{1,5}})")


class Config(Struct, frozen=True, kw_only=True):
    """The daemon's whole configuration; `vendors` None means all installed ones.

    `notes` name settings without effect, `unread` entries of the directory that are not read,
    `conflicts` values that a later file replaces, `beside` documents that are no configuration,
    `unsupported` keys that ask for what cannot be done (allowed by `allow_unsupported`),
    `renamed` settings given by an old name, `skipped` the installed vendors that cannot be used,
    and why, `ignored` the installed packages that another one with the same vendor hides;
    `source` is None without a file.
    `trusted_dirs` are folders of the host from which the sections may name programs, libraries and
    mounts, besides those of their own. `numbered_faults` are the vendors' words for sources of
    numbered faults: `{"xids": "nvidia.xid"}`. `chosen` says which configuration of `per_node` this
    node has and why, empty without any.
    """

    node_name: str
    vendors: tuple[str, ...] | None = None
    host_root: Path = Path("/")
    kubelet_dir: Path = Path("/var/lib/kubelet")
    cdi_dir: Path = Path("/var/run/cdi")
    state_dir: Path = Path("/var/lib/deviceplugin")
    trusted_dirs: tuple[str, ...] = ()
    metrics_address: tuple[str, int] | None = ("127.0.0.1", 9440)
    log_level: str = "info"
    log_format: str = "json"
    allow_unsupported: bool = False
    sections: Sections = field(default_factory=lambda: MappingProxyType({}))
    numbered_faults: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()
    skipped: tuple[VendorStatus, ...] = ()
    ignored: tuple[str, ...] = ()
    source: Source | None = None
    chosen: str = ""


class Setting(Struct, frozen=True):
    """A value, with the name of the flag, variable or key that it came from."""

    value: object
    label: str


def parse_address(setting: Setting) -> tuple[str, int] | None:
    """`HOST:PORT` or `[IPV6]:PORT`; empty text disables the endpoint (None)."""
    text = str(setting.value)
    if not text:
        return None
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise ConfigError(setting.label, text, "HOST:PORT, or nothing to switch it off")
    return (match[1] or match[2] or "0.0.0.0"), int(match[3])


def address_text(address: tuple[str, int]) -> str:
    """HOST:PORT or [IPV6]:PORT, as `parse_address` accepts it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_choice(setting: Setting, choices: tuple[str, ...]) -> str:
    """One of `choices`; raises ConfigError."""
    if setting.value not in choices:
        raise ConfigError(setting.label, setting.value, "one of " + ", ".join(choices))
    return str(setting.value)


def parse_switch(setting: Setting) -> bool:
    """`true` or `false`, as a word of a flag or a variable too."""
    if setting.value not in (True, False, "true", "false"):
        raise ConfigError(setting.label, setting.value, "true or false")
    return setting.value in (True, "true")


def parse_directory(setting: Setting) -> Path:
    """An absolute path; it need not exist yet."""
    text = setting.value
    if not isinstance(text, str) or not text.startswith("/") or ".." in text.split("/"):
        raise ConfigError(setting.label, text, "an absolute path of a directory, without `..`")
    return Path(text)


def parse_vendors(setting: Setting, installed: Iterable[str]) -> tuple[str, ...]:
    """Vendor names as a list or comma-separated text, each installed; once each."""
    names = _names(setting)
    for name in names:
        if name not in installed:
            raise ConfigError(setting.label, name, "one of " + ", ".join(installed))
    return tuple(dict.fromkeys(names))


def repeated_vendors(setting: Setting) -> Iterator[str]:
    """A line for each vendor that is named again: one entry of two was meant to be another."""
    names = _names(setting)
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield f"{setting.label}: {name} is named {names.count(name)} times and counts once"


def _names(setting: Setting) -> list[str]:
    value = setting.value
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        raise ConfigError(setting.label, value, "a list of vendors such as nvidia,amd")
    return [str(name).strip() for name in names]


def default_node_name() -> str:
    """The host's name, as the kubelet takes it."""
    return platform.node().lower()


def parse_node_name(setting: Setting) -> str:
    """A Kubernetes node name: a DNS subdomain."""
    text = setting.value
    if not isinstance(text, str) or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", text):
        raise ConfigError(setting.label, text, "a node name (lower-case DNS subdomain)")
    return text
