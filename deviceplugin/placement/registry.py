"""Installed placement policies: ours, and those of third parties by entry point."""

from typing import cast

from deviceplugin.errors import ConfigError
from deviceplugin.model import AdvertisedID, Preference, Resource
from deviceplugin.placement.prefer import BUILT_IN, plain
from deviceplugin.placement.view import Context, Policy
from deviceplugin.runtime.entry_points import entry_points
from deviceplugin.runtime.guard import guarded

POLICIES = "deviceplugin.policies"


def installed_policies() -> tuple[str, ...]:
    """The names of all policies: those of this project, then third parties' by entry point.

    Ours need no entry point, so that no stale installation can lose them, and cannot be replaced.
    """
    others = {point.name for point in entry_points(POLICIES)}
    return (*BUILT_IN, *sorted(others - BUILT_IN.keys()))


def load_policy(name: str) -> Policy:
    """A policy by name; a third party's is guarded: where it raises, the plain order counts.

    Raises ConfigError for a name that is not installed or a policy that cannot be imported.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    points = [point for point in entry_points(POLICIES) if point.name == name]
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
