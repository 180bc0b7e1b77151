"""The configuration as one document, as `check` shows it and the daemon keeps it."""

from typing import Any

import msgspec

from deviceplugin.config.config import Config, address_text
from deviceplugin.config.origins import setting_text
from deviceplugin.discovery.registry import installed_vendors
from deviceplugin.errors import ConfigError


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
        "trusted_dirs": setting_text(config.trusted_dirs),
        "metrics_address": address_text(address) if address else "",
        "log_level": config.log_level,
        "log_format": config.log_format,
        "allow_unsupported": config.allow_unsupported,
        **{name: _document(section) for name, section in config.sections.items()},
    }


def _document(section: object) -> Any:
    """As it is in force: a section may be for more nodes than this one."""
    return msgspec.to_builtins(getattr(section, "in_force", section))


def _usable(config: Config) -> list[str]:
    skipped = {status.name for status in config.skipped}
    return [name for name in installed_vendors() if name not in skipped]


def check_host_root(config: Config) -> None:
    """Raise ConfigError where the host's files cannot be found: an empty node is not meant."""
    if not config.host_root.is_dir():
        text = "a directory that exists, where this process finds the host's /sys, /proc and /dev"
        raise ConfigError("--host-root", str(config.host_root), text)
