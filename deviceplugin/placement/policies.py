"""The placement policies, each a function from a view of the free devices to counts; pure."""

from collections.abc import Collection, Sequence
from math import inf

from deviceplugin.model import DeviceID
from deviceplugin.placement.filling import Levels, Rank, by_rank, fill_evenly
from deviceplugin.placement.topology import NO_LEVEL, Topology, pcie_level
from deviceplugin.placement.view import Counts, View
from deviceplugin.vendor import Reading


def aligned_ranks(view: View) -> Sequence[Rank]:
    """All GPUs are alike: only the links decide."""
    return [()] * len(view.free)


def aligned(view: View) -> Counts:
    """The parts with the least cost between them."""
    return by_rank(view, aligned_ranks(view))


def packed_ranks(view: View) -> Sequence[Rank]:
    """The fullest GPU that can serve the whole request, then the fullest GPUs; of GPUs alike
    those of a NUMA node that is in use."""
    places, gpus = view.layout.topology.places, view.layout.gpus
    nodes = [places[gpu].numa_node if gpu in places else None for gpu in gpus]
    busy: dict[int | None, int] = {}
    for node, load in zip(nodes, view.load, strict=True):
        busy[node] = busy.get(node, 0) + load
    must = sum(view.must)
    return [
        (view.size > room or must > own, -load, -busy[node])
        for room, own, load, node in zip(view.free_counts, view.must, view.load, nodes, strict=True)
    ]


def packed(view: View) -> Counts:
    """Used GPUs first."""
    return by_rank(view, packed_ranks(view))


def priority_ranks(view: View) -> Sequence[Rank]:
    """By the first selector that fits (GPUs that none fits come last), then by the worst fault."""
    order, severity = view.context.order, view.layout.topology.severity
    last = len(order) + max(order.values(), default=0)
    return [(order.get(gpu, last), severity.get(gpu, -1)) for gpu in view.layout.gpus]


def priority(view: View) -> Counts:
    """The highest priority first."""
    return by_rank(view, priority_ranks(view))


_NOTHING = Reading()


def real_time_ranks(view: View) -> Sequence[Rank]:
    """Unused, then known not to be throttled, then by temperature; unknown is the worst."""
    readings = view.context.readings
    return [
        _rank(load, readings.get(gpu, _NOTHING))
        for gpu, load in zip(view.layout.gpus, view.load, strict=True)
    ]


def _rank(load: int, reading: Reading) -> Rank:
    throttled = 1 if reading.throttled is None else 2 if reading.throttled else 0
    temperature = inf if reading.temperature_c is None else reading.temperature_c
    return (load, throttled, temperature)


def real_time(view: View) -> Counts:
    """An order, never a refusal: a GPU in use is taken when no other is left."""
    return by_rank(view, real_time_ranks(view))


def proximity_ranks(view: View) -> Sequence[Rank]:
    """The PCIe and NUMA distance to the NIC where one is configured, then to the must-include
    GPUs; without either all are alike."""
    topology, gpus = view.layout.topology, view.layout.gpus
    taken = [gpu for gpu, count in zip(gpus, view.must, strict=True) if count]
    return [
        (topology.nic_level.get(gpu, NO_LEVEL), sum(_level(topology, gpu, t) for t in taken))
        for gpu in gpus
    ]


def _level(topology: Topology, one: DeviceID, other: DeviceID) -> int:
    if one == other:
        return 0
    places = topology.places
    if one not in places or other not in places:
        return NO_LEVEL
    return pcie_level(places[one], places[other])


def proximity(view: View) -> Counts:
    """The nearest first."""
    return by_rank(view, proximity_ranks(view))


def spread(view: View) -> Counts:
    """One part after the other to the least used GPU; of GPUs alike on the emptier NUMA node."""
    places, gpus = view.layout.topology.places, view.layout.gpus
    nodes = [places[gpu].numa_node if gpu in places else None for gpu in gpus]

    def tie(counts: Sequence[int]) -> Sequence[tuple[float, ...]]:
        busy: dict[int | None, int] = {}
        for node, used in zip(nodes, used_after(view, counts), strict=True):
            busy[node] = busy.get(node, 0) + used
        return [(busy[node],) for node in nodes]

    return fill_evenly(view, _levels(view), tie)


def fair_share(view: View) -> Counts:
    """One part after the other to the GPU with the least in use, then with the least measured
    utilisation; unknown utilisation counts as full."""
    ties = [(_utilisation(view.context.readings.get(g, _NOTHING)),) for g in view.layout.gpus]
    return fill_evenly(view, _levels(view), lambda _: ties)


def used_after(view: View, counts: Sequence[int]) -> Sequence[int]:
    """What is in use of each GPU, in billionths, once `counts` is handed out."""
    return [
        load + count * share
        for load, count, share in zip(view.load, counts, view.layout.share, strict=True)
    ]


def _levels(view: View) -> Levels:
    return Levels(base=used_after(view, view.must), step=view.layout.share)


def _utilisation(reading: Reading) -> float:
    return inf if reading.utilisation_percent is None else reading.utilisation_percent


def turns(gpus: Sequence[DeviceID], last: DeviceID | None) -> Sequence[int]:
    """For each GPU how many are before it, starting after `last` (unknown: at the first)."""
    start = gpus.index(last) + 1 if last in gpus else 0
    return [(at - start) % len(gpus) for at in range(len(gpus))]


def round_robin(view: View) -> Counts:
    """One part of each GPU in turn, round after round."""
    gpus = view.layout.gpus
    order = turns(gpus, view.context.last.get(view.layout.resource.name))
    flat = Levels(base=[0] * len(gpus), step=[1] * len(gpus))
    return fill_evenly(view, flat, lambda _: [(turn,) for turn in order])


def last_handed_out(
    gpus: Sequence[DeviceID], last: DeviceID | None, given: Collection[DeviceID]
) -> DeviceID | None:
    """Where the rotation stands after `given`: at the one that came last in turn."""
    order = turns(gpus, last)
    taken = [at for at, gpu in enumerate(gpus) if gpu in given]
    return gpus[max(taken, key=lambda at: order[at])] if taken else last
