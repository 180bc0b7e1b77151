"""A question of the kubelet as seen by a policy: free and used parts of each physical GPU; pure."""

from collections.abc import Callable, Mapping, Set
from itertools import chain
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.model import AdvertisedID, DeviceID, Preference, Resource, ResourceName
from deviceplugin.placement.layout import Layout, layout_of
from deviceplugin.placement.topology import Topology
from deviceplugin.vendor import Reading

Counts = tuple[int, ...]


class Context(Struct, frozen=True, kw_only=True):
    """What a policy may know beside the question; empty where nobody tells.

    `loads` is what the ledger knows to be in use of each GPU, by all resources, in billionths;
    `last` the GPU of each resource that was handed out last; `order` the operator's rank of each
    GPU (lower first).
    """

    topology: Topology = field(default_factory=Topology)
    layouts: Mapping[ResourceName, Layout] = field(default_factory=lambda: MappingProxyType({}))
    loads: Mapping[DeviceID, int] = field(default_factory=lambda: MappingProxyType({}))
    readings: Mapping[DeviceID, Reading] = field(default_factory=lambda: MappingProxyType({}))
    last: Mapping[ResourceName, DeviceID] = field(default_factory=lambda: MappingProxyType({}))
    order: Mapping[DeviceID, int] = field(default_factory=lambda: MappingProxyType({}))

    def layout(self, resource: Resource) -> Layout:
        """The prepared layout, or a new one where the list is newer than the preparation."""
        prepared = self.layouts.get(resource.name)
        if prepared and prepared.resource is resource and prepared.topology is self.topology:
            return prepared
        return layout_of(resource, self.topology)


Policy = Callable[[Resource, Preference, Context], tuple[AdvertisedID, ...]]


class View(Struct, frozen=True, kw_only=True):
    """Positions are those of `layout.gpus`; `free` holds the ids that may be handed out, the
    must-include ids of each GPU (`must` many) first; `load` is in use, in billionths of a GPU."""

    layout: Layout
    context: Context
    size: int
    free: tuple[tuple[AdvertisedID, ...], ...]
    must: Counts
    load: tuple[int, ...]

    @property
    def free_counts(self) -> Counts:
        """How many ids each GPU has to hand out, the must-include ones among them."""
        return tuple(map(len, self.free))

    def take(self, counts: Counts) -> tuple[AdvertisedID, ...]:
        """The first ids of each GPU, so many as `counts` says."""
        taken = (ids[:count] for ids, count in zip(self.free, counts, strict=True))
        return tuple(chain.from_iterable(taken))


Chooser = Callable[[View], Counts]


def view_of(resource: Resource, preference: Preference, context: Context) -> View:
    """The question in terms of GPUs; the order of the request's ids leaves no trace."""
    layout = context.layout(resource)
    must = preference.must_include
    available = preference.available - must
    included = tuple(_only(ids, must) if must else () for ids in layout.ids)
    free = tuple(
        first + _only(ids, available) for first, ids in zip(included, layout.ids, strict=True)
    )
    return View(
        layout=layout,
        context=context,
        size=min(preference.size, sum(map(len, free))),
        free=free,
        must=tuple(map(len, included)),
        load=tuple(_load(layout, context, at, free[at]) for at in range(len(free))),
    )


def _only(ids: tuple[AdvertisedID, ...], wanted: Set[AdvertisedID]) -> tuple[AdvertisedID, ...]:
    return tuple([i for i in ids if i in wanted])  # a list first: half the time of a generator


def _load(layout: Layout, context: Context, at: int, free: tuple[AdvertisedID, ...]) -> int:
    """The larger of what the ledger says and what this resource lacks: the ledger may lag.

    An Unhealthy id is not in use; the kubelet just does not offer it.
    """
    missing = max(layout.healthy[at] - len(free), 0)
    return max(context.loads.get(layout.gpus[at], 0), missing * layout.share[at])


def by_counts(choose: Chooser) -> Policy:
    """A policy that only decides how many ids each GPU gives."""

    def policy(
        resource: Resource, preference: Preference, context: Context
    ) -> tuple[AdvertisedID, ...]:
        view = view_of(resource, preference, context)
        return view.take(choose(view))

    return policy
