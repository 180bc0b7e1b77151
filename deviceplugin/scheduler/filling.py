"""A node's state, of what it has and of who holds it: by its daemon's facts where there are any, by
its counts where not; pure."""

from collections import Counter
from collections.abc import Collection, Container, Mapping

from msgspec import structs

from deviceplugin.kubernetes.facts import GpuFacts, NodeFacts
from deviceplugin.scheduler.about import NOTHING
from deviceplugin.scheduler.board import Board
from deviceplugin.scheduler.demand import WHOLE, Demand, Workload
from deviceplugin.scheduler.firstfit import first_fit
from deviceplugin.scheduler.held import Held, beside, is_given, pending, still, told_of
from deviceplugin.scheduler.objects import Node, Reading
from deviceplugin.scheduler.partitions import (
    NO_SHAPES,
    CutGpu,
    Shape,
    after,
    choose,
    used_of,
)
from deviceplugin.scheduler.room import NodeState


def is_divided(facts: NodeFacts, gpus: Collection[str]) -> bool:
    """Whether one of the resources that are whole GPUs is several of each here: replicas, or parts
    by that name. Then counts say more than the facts."""
    return any(gpu.offers.get(name, 0) > 1 for gpu in facts.gpus for name in gpus)


def shapes_of(facts: NodeFacts) -> Mapping[str, Shape]:
    """The shape of each resource that is a part of a GPU."""
    return {name: shape for gpu in facts.gpus for name, shape in _shapes(gpu).items()}


def _shapes(gpu: GpuFacts) -> Mapping[str, Shape]:
    slices = gpu.slices or 0
    return {name: Shape(slices, one.size, one.starts, gpu.even) for name, one in gpu.parts.items()}


def cut_of(gpu: GpuFacts) -> CutGpu:
    """The GPU's parts, as its daemon tells of them."""
    shapes, used = _shapes(gpu), 0
    for name, one in gpu.parts.items():
        used |= used_of(shapes[name], (*one.held, *one.ill))
    return CutGpu(used, {name: (shapes[name], one.free) for name, one in gpu.parts.items()})


def empty(node: Node, facts: NodeFacts | None, reading: Reading) -> NodeState:
    """The node as if nobody held anything of it, but for parts that the daemon says are held.
    Raises ValueError for a quantity that is none."""
    model, cpu_milli, memory_mib, gpus = reading.capacity_of(node)
    state = NodeState(node.metadata.name, model, cpu_milli, memory_mib, [WHOLE] * gpus)
    state.parts = reading.parts_of(node)
    if facts is not None:
        if gpus:
            given = {*reading.gpus, *reading.shares}
            state.free = [WHOLE * is_given(gpu, given) for gpu in facts.gpus]
        state.cut = {at: cut_of(gpu) for at, gpu in enumerate(facts.gpus) if gpu.parts}
    return state


def fill(
    state: NodeState,
    held: Mapping[str, Held],
    facts: NodeFacts | None,
    workload: Workload,
    allocated: Container[str] = (),
) -> None:
    """Take what is held; those whose GPUs are known come first, so that no guess takes theirs.
    What claims have that are `allocated` is in the state already."""
    told = {key: told_of(one, facts, state) for key, one in held.items()}
    for key in sorted(held, key=lambda key: not told[key]):
        one = held[key]
        demand = beside(one, allocated)
        one.chosen = told[key] or still(state, one) or _chosen(state, demand, workload)
        if not demand.gpus:
            one.chosen = ()
        state.take(demand, one.chosen)
        state.free[:] = [max(0, milli) for milli in state.free]
    if state.claimed is not None:
        state.by_pods = frozenset(index for one in held.values() for index in one.chosen)
        for one in held.values():
            if asks := pending(one, allocated):
                state.claim(first_fit(state.claimed, asks, state.free) or ())
    if state.cut and facts is not None:
        _take_parts(state, held, facts, workload)


def _take_parts(
    state: NodeState, held: Mapping[str, Held], facts: NodeFacts, workload: Workload
) -> None:
    """Parts that pods have asked for and the daemon does not yet say are held: those that packing
    would have taken."""
    missing: Counter[str] = Counter()
    for one in held.values():
        missing.update(dict(one.demand.parts))
    for gpu in facts.gpus:
        missing.subtract({name: len(one.held) for name, one in gpu.parts.items()})
    parts = [(name, count) for name, count in sorted(missing.items()) if count > 0]
    shapes = state.about.shapes if state.about else NO_SHAPES
    found = choose(state.cut, parts, workload.parts, shapes)
    state.cut = after(state.cut, found.taken)


def _chosen(state: NodeState, demand: Demand, workload: Workload) -> tuple[int, ...]:
    """The GPUs that packing would take; the freest ones where it does not fit, as the counts are
    not the truth."""
    if not demand.gpus or not state.free:
        return ()
    cpu_milli = max(state.cpu_milli, demand.cpu_milli)
    free = structs.replace(
        state, cpu_milli=cpu_milli, memory_mib=demand.memory_mib, free=list(state.free)
    )
    anywhere = structs.replace(demand, models=frozenset(), parts=(), wants=NOTHING, claims=())
    found = Board([free], workload).cost(state.name, anywhere)
    if found is not None:
        return found.chosen
    others = [index for index in range(len(state.free)) if index not in state.reserved]
    freest = sorted(others, key=lambda index: -state.free[index])
    return tuple(freest[: demand.gpus])
