"""A person's question which devices a container would get, as a question to a policy; pure."""

from collections.abc import Collection, Mapping

from msgspec import Struct

from deviceplugin.errors import ConfigError
from deviceplugin.model import AdvertisedID, Health, Preference, Resource, ResourceName
from deviceplugin.placement.narrow import narrow
from deviceplugin.placement.view import Context


class Asked(Struct, frozen=True, kw_only=True):
    """The question; `available` None is every healthy id that nobody holds, `policy` None the one
    that the daemon would use."""

    resource: str
    size: int
    available: tuple[str, ...] | None
    must_include: tuple[str, ...]
    policy: str | None


def resource_asked(asked: Asked, resources: Mapping[ResourceName, Resource]) -> Resource:
    """The resource of the question; raises ConfigError where there is none of that name."""
    resource = resources.get(ResourceName(asked.resource))
    if resource is None:
        if not resources:
            raise ConfigError("--resource", asked.resource, "nothing: this node has no resource")
        raise ConfigError("--resource", asked.resource, f"one of {', '.join(resources)}")
    return resource


def preference_asked(
    asked: Asked, resource: Resource, held: Collection[AdvertisedID], context: Context
) -> Preference:
    """The question as the kubelet would put it.

    Raises ConfigError for an id that the resource does not have, and for a size that cannot be had.
    """
    listed = {entry.id for entry in resource.devices}
    for flag, ids in (
        ("--available", asked.available or ()),
        ("--must-include", asked.must_include),
    ):
        for device_id in ids:
            if device_id not in listed:
                raise ConfigError(flag, device_id, f"an id of {resource.name}")
    available = frozenset(map(AdvertisedID, asked.available or ()))
    if asked.available is None:
        healthy = (e.id for e in resource.devices if e.health is Health.HEALTHY)
        available = frozenset(healthy) - frozenset(held)
    must = frozenset(map(AdvertisedID, asked.must_include))
    if asked.size > len(available | must):
        raise ConfigError("--size", asked.size, _at_most(resource, len(available | must), asked))
    preference = Preference(available=available, must_include=must, size=asked.size)
    return narrow(context.layout(resource).shared, preference)


def _at_most(resource: Resource, available: int, asked: Asked) -> str:
    """How many there are, in words for an error."""
    those = "named" if asked.available is not None else "healthy and free"
    return f"at most {available}: {resource.name} has {len(resource.devices)}, so many are {those}"
