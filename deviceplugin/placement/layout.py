"""A resource's list by GPU, and how much of each GPU is in use; pure."""

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.placement.narrow import Shared, shared
from deviceplugin.placement.topology import Topology
from deviceplugin.resources.lists import changed_entries

# Shares of a GPU are billionths, so that equal shares are equal and 60,000 slices still count.
WHOLE = 1_000_000_000


MAX_STEPS = 8


Costs = tuple[tuple[int, ...], ...]


class Layout(Struct, frozen=True, kw_only=True):
    """The GPUs of a resource by position, in the topology's order.

    `listed` are all ids in id order, `ids` those of each GPU in the order in which they are
    handed out, `healthy` the number of those that are Healthy; `share` is the part of the GPU
    that one id stands for. By `fragmentation_costs` the sets that stay free are compared;
    `interchangeable` gives GPUs the same number where exchanging them changes no cost.
    """

    resource: Resource
    shared: Shared
    topology: Topology
    gpus: tuple[DeviceID, ...]
    listed: tuple[AdvertisedID, ...]
    ids: tuple[tuple[AdvertisedID, ...], ...]
    healthy: tuple[int, ...]
    position: Mapping[AdvertisedID, int]
    costs: Costs
    fragmentation_costs: Costs
    interchangeable: tuple[int, ...]
    share: tuple[int, ...]
    whole: bool


def layout_of(resource: Resource, topology: Topology) -> Layout:
    """Group a resource's list by physical GPU."""
    grouped: dict[DeviceID, list[AdvertisedDevice]] = {}
    for entry in resource.devices:
        grouped.setdefault(topology.gpu_of.get(entry.device, entry.device), []).append(entry)
    known = [gpu for gpu in topology.gpus if gpu in grouped]
    gpus = (*known, *sorted(grouped.keys() - set(known)))
    entries = [sorted(grouped[gpu], key=_turn) for gpu in gpus]
    costs = tuple(tuple(topology.between(one, other).cost for other in gpus) for one in gpus)
    return Layout(
        resource=resource,
        shared=shared(resource),
        topology=topology,
        gpus=gpus,
        listed=tuple(entry.id for entry in resource.devices),
        ids=tuple(tuple(e.id for e in group) for group in entries),
        healthy=tuple(sum(e.health is Health.HEALTHY for e in group) for group in entries),
        position={entry.id: at for at, group in enumerate(entries) for entry in group},
        costs=costs,
        fragmentation_costs=_fragmentation_costs(costs),
        interchangeable=_interchangeable(costs),
        share=tuple(_share(gpu, grouped[gpu], topology) for gpu in gpus),
        whole=all(len(g) == 1 and g[0].device == gpu for gpu, g in zip(gpus, entries, strict=True)),
    )


def layout_after(before: Layout, resource: Resource) -> Layout | None:
    """The layout of a resource that differs from that of `before` in health alone, None where it
    does not; the topology is the same."""
    changed = changed_entries(resource.devices, before.resource.devices)
    if changed is None or any(map(_differs, changed)):
        return None
    healthy = list(before.healthy)
    for entry, old in changed:
        gained = (entry.health is Health.HEALTHY) - (old.health is Health.HEALTHY)
        healthy[before.position[entry.id]] += gained
    shared_now = replace(before.shared, resource=resource)
    return replace(before, resource=resource, shared=shared_now, healthy=tuple(healthy))


def _differs(pair: tuple[AdvertisedDevice, AdvertisedDevice]) -> bool:
    """Whether two entries of one id differ in more than health."""
    now, before = pair
    return (now.device, now.replica, now.share) != (before.device, before.replica, before.share)


def _turn(entry: AdvertisedDevice) -> tuple[int, AdvertisedID]:
    """The first replicas of all devices before the second ones: distinct devices first."""
    return (entry.replica or 0, entry.id)


def _fragmentation_costs(costs: Costs) -> Costs:
    """Costs of which each nearer relation counts eight times the next: what stays free should
    hold whole GPUs before whole switches, and whole switches before whole sockets."""
    levels = sorted({cost for row in costs for cost in row})
    steps = min(len(levels), MAX_STEPS)
    far = {cost: place * steps // len(levels) for place, cost in enumerate(levels)}
    value = {cost: 8**steps - 8 ** (steps - at) for cost, at in far.items()}
    return tuple(tuple(value[cost] for cost in row) for row in costs)


def _interchangeable(costs: Costs) -> tuple[int, ...]:
    """For each position the first one that it can be exchanged with."""
    interchangeable: list[int] = []
    for at in range(len(costs)):
        first = (one for one in sorted(set(interchangeable)) if _alike(costs, one, at))
        interchangeable.append(next(first, at))
    return tuple(interchangeable)


def _alike(costs: Costs, one: int, other: int) -> bool:
    low, high = min(one, other), max(one, other)
    a, b = costs[one], costs[other]
    return (
        a[:low] == b[:low]
        and a[low + 1 : high] == b[low + 1 : high]
        and a[high + 1 :] == b[high + 1 :]
    )


def _share(gpu: DeviceID, entries: list[AdvertisedDevice], topology: Topology) -> int:
    """What one id takes: the part of the GPU's memory that the list covers, evenly."""
    covered = {entry.device for entry in entries}
    whole = topology.devices.get(gpu)
    if gpu in covered or whole is None or not whole.memory_bytes:
        return WHOLE // len(entries)
    sizes = [topology.devices[d].memory_bytes for d in covered if d in topology.devices]
    if len(sizes) < len(covered) or None in sizes:
        return WHOLE // len(entries)
    memory = sum(size for size in sizes if size is not None)
    return min(WHOLE, WHOLE * memory // whole.memory_bytes) // len(entries)


def loads_of(
    held: Mapping[ResourceName, Iterable[AdvertisedID]], layouts: Mapping[ResourceName, Layout]
) -> Mapping[DeviceID, int]:
    """Billionths of each GPU that are in use, at most the whole; ids that are not listed any more
    are left out."""
    loads: dict[DeviceID, int] = {}
    for name, ids in held.items():
        layout = layouts.get(name)
        if layout is None:
            continue
        for at in (layout.position[i] for i in ids if i in layout.position):
            gpu = layout.gpus[at]
            loads[gpu] = min(WHOLE, loads.get(gpu, 0) + layout.share[at])
    return loads
