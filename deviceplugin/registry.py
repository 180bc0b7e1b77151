"""Installed vendor modules and policies, found by entry point only: third parties use this door."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from deviceplugin.core.policies import BUILT_IN, Context, Policy, plain
from deviceplugin.errors import ConfigError
from deviceplugin.model import AdvertisedID, Preference, Resource
from deviceplugin.supervise import guarded
from deviceplugin.vendor import VendorModule

GROUP = "deviceplugin.vendors"
POLICIES = "deviceplugin.policies"


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


def installed_policies() -> tuple[str, ...]:
    """The names of all policies: those of this project, then third parties' by entry point.

    Ours need no entry point, so that no stale installation can lose them, and cannot be replaced.
    """
    others = {point.name for point in entry_points(group=POLICIES)}
    return (*BUILT_IN, *sorted(others - BUILT_IN.keys()))


def load_policy(name: str) -> Policy:
    """A policy by name; a third party's is guarded: where it raises, the plain order counts.

    Raises ConfigError for a name that is not installed or a policy that cannot be imported.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    points = entry_points(group=POLICIES, name=name)
    if not points:
        raise ConfigError("scheduling.policy", name, "one of " + ", ".join(installed_policies()))
    try:
        policy = cast("Policy", min(points, key=lambda point: point.value).load())
    except Exception as error:  # a broken plug-in must be named, not crash us
        text = f"an importable policy ({error})"
        raise ConfigError("scheduling.policy", name, text) from error
    return guarded(name, _checked(policy), plain)


def _checked(policy: Policy) -> Policy:
    """The policy with its answer read inside the guard, whatever it is."""

    def call(
        resource: Resource, preference: Preference, context: Context
    ) -> tuple[AdvertisedID, ...]:
        return tuple(AdvertisedID(str(i)) for i in policy(resource, preference, context))

    return call


def _name(point: EntryPoint) -> str:
    return point.name
