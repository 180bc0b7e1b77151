"""Installed vendor modules, found by entry point only, so that third parties use the same door."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from deviceplugin.errors import ConfigError
from deviceplugin.vendor import VendorModule

GROUP = "deviceplugin.vendors"


def installed_vendors() -> Mapping[str, EntryPoint]:
    """The entry points of all installed vendors by name, without importing them."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=_name)}


def load_vendors(names: tuple[str, ...] | None) -> tuple[VendorModule, ...]:
    """Import the vendor modules `names` (None: all that are installed), in that order.

    Raises ConfigError for a name that is not installed or a module that cannot be imported.
    """
    installed = installed_vendors()
    return tuple(_load(name, installed) for name in (names or tuple(installed)))


def _load(name: str, installed: Mapping[str, EntryPoint]) -> VendorModule:
    if name not in installed:
        raise ConfigError("vendors", name, "one of " + ", ".join(installed))
    try:
        return cast("VendorModule", installed[name].load())
    except Exception as error:  # a broken plug-in must be named, not crash us
        raise ConfigError("vendors", name, f"an importable vendor module ({error})") from error


def _name(point: EntryPoint) -> str:
    return point.name
