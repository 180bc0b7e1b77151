"""Installed placement policies: ours, and those of third parties by entry point."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from deviceplugin.errors import ConfigError
from deviceplugin.model import AdvertisedID, Preference, Resource
from deviceplugin.placement.prefer import BUILT_IN, plain
from deviceplugin.placement.section import policies_asked_for
from deviceplugin.placement.view import Context, Policy
from deviceplugin.runtime.entry_points import entry_points
from deviceplugin.runtime.guard import guarded
from deviceplugin.vendor import Sections

POLICIES = "deviceplugin.policies"
DEFAULTS = ("aligned", "packed")


def installed_policies() -> tuple[str, ...]:
    """The names of all policies: those of this project, then third parties' by entry point.

    Ours need no entry point, so that no stale installation can lose them, and cannot be replaced.
    """
    others = {point.name for point in entry_points(POLICIES)}
    return (*BUILT_IN, *sorted(others - BUILT_IN.keys()))


def load_policy(name: str, key: str = "scheduling.policy") -> Policy:
    """A policy by name; a third party's is guarded: where it raises, the plain order counts.

    Raises ConfigError, with the key that names it, for a name that is not installed or a policy
    that cannot be imported.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    points = [point for point in entry_points(POLICIES) if point.name == name]
    if not points:
        raise ConfigError(key, name, "one of " + ", ".join(installed_policies()))
    try:
        policy = cast("Policy", min(points, key=lambda point: point.value).load())
    except Exception as error:  # a broken plug-in must be named, not crash us
        text = f"an importable policy ({type(error).__name__}: {error})"
        raise ConfigError(key, name, text) from error
    if not callable(policy):
        raise ConfigError(key, name, f"a policy, which is a function ({policy!r} is not)")
    return guarded(name, _checked(policy), plain)


def configured_policies(sections: Sections) -> Mapping[str, Policy]:
    """Every policy that the configuration names, and the defaults, by name.

    Raises ConfigError, with the key, for one that cannot be had: `check`, the start and a reload
    refuse the same configurations.
    """
    asked = policies_asked_for(sections)
    found = {name: load_policy(name, key) for key, name in sorted(asked.items())}
    return MappingProxyType(found | {name: BUILT_IN[name] for name in DEFAULTS})


def _checked(policy: Policy) -> Policy:
    """The policy with its answer read inside the guard, whatever it is."""

    def call(
        resource: Resource, preference: Preference, context: Context
    ) -> tuple[AdvertisedID, ...]:
        return tuple(AdvertisedID(str(i)) for i in policy(resource, preference, context))

    return call
