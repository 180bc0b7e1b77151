"""Preferred allocation: which of the free ids a container should get; pure.

`prefer` is the one door; each policy is a function in `policies`.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from deviceplugin.model import AdvertisedID, Preference, Resource
from deviceplugin.placement.layout import Layout, layout_of
from deviceplugin.placement.policies import (
    aligned,
    fair_share,
    packed,
    priority,
    proximity,
    real_time,
    round_robin,
    spread,
)
from deviceplugin.placement.topology import PciTopology, Topology, topology_of
from deviceplugin.placement.view import Chooser, Context, Policy, by_counts
from deviceplugin.vendor import Reading

__all__ = [
    "BUILT_IN",
    "CHOOSERS",
    "READERS",
    "Context",
    "Layout",
    "PciTopology",
    "Policy",
    "Reading",
    "Topology",
    "default_policy",
    "layout_of",
    "plain",
    "prefer",
    "topology_of",
]

CHOOSERS: Mapping[str, Chooser] = MappingProxyType(
    {
        "aligned": aligned,
        "packed": packed,
        "spread": spread,
        "fair_share": fair_share,
        "round_robin": round_robin,
        "priority": priority,
        "real_time": real_time,
        "proximity": proximity,
    }
)
BUILT_IN: Mapping[str, Policy] = MappingProxyType(
    {name: by_counts(choose) for name, choose in CHOOSERS.items()}
)
# Those of them that choose by readings.
READERS = frozenset({"fair_share", "real_time"})


NOTHING_KNOWN = Context()


def default_policy(layout: Layout) -> str:
    """Whole GPUs work together, so they are aligned; parts are packed, to leave GPUs whole."""
    return "aligned" if layout.whole else "packed"


def prefer(
    resource: Resource,
    preference: Preference,
    context: Context = NOTHING_KNOWN,
    policy: Policy | None = None,
) -> tuple[AdvertisedID, ...]:
    """`size` ids that hold all of `must_include`, in id order; fewer where there are fewer.

    `policy` None is the default for the kind of resource.

    Whatever the policy answers, only what the kubelet offered leaves, and in the number it asked
    for. An id that is not listed is taken last: the kubelet may know more than we do, and an
    error would reject the pod.
    """
    layout = context.layout(resource)
    must, listed = preference.must_include, layout.listed
    if len(must) > preference.size:
        return tuple(sorted(must)[: max(preference.size, 0)])
    if len(must) == preference.size:
        return _in_order(must, listed)
    if len(preference.available) <= preference.size - len(must):
        return _in_order(must.union(preference.available), listed)
    choose = policy or BUILT_IN[default_policy(layout)]
    taken = _permitted(choose(resource, preference, context), must, preference)
    if len(taken) < preference.size:
        _top_up(taken, preference.available | must, resource, preference.size)
    return _in_order(taken, listed)


def _permitted(
    answer: Sequence[AdvertisedID], must: frozenset[AdvertisedID], preference: Preference
) -> set[AdvertisedID]:
    """What of an answer may leave: `must`, then as many of its first ids as are still needed."""
    taken = set(answer)
    foreign = taken.difference(preference.available).difference(must)
    if len(taken) == preference.size and taken >= must and not foreign:
        return taken
    others = [i for i in dict.fromkeys(answer) if i not in foreign and i not in must]
    return {*must, *others[: preference.size - len(must)]}


def _in_order(
    ids: Collection[AdvertisedID], listed: Sequence[AdvertisedID]
) -> tuple[AdvertisedID, ...]:
    """In id order: a large part of a list is read off the list, which is sorted already."""
    if len(ids) * 8 < len(listed):
        return tuple(sorted(ids))
    found = [device_id for device_id in listed if device_id in ids]
    if len(found) < len(ids):
        found = sorted([*found, *set(ids).difference(found)])
    return tuple(found)


def plain(resource: Resource, preference: Preference, _: Context) -> tuple[AdvertisedID, ...]:
    """The first ids in id order: what is left to do when a policy fails."""
    taken = set(preference.must_include)
    _top_up(taken, preference.available | taken, resource, preference.size)
    return tuple(sorted(taken))


def _top_up(
    taken: set[AdvertisedID],
    offered: Collection[AdvertisedID],
    resource: Resource,
    size: int,
) -> None:
    """Add the first ids that are offered, listed ones before others."""
    listed = {entry.id for entry in resource.devices}
    rest = sorted(set(offered) - taken, key=lambda free_id: (free_id not in listed, free_id))
    taken.update(rest[: max(size - len(taken), 0)])
