"""What both kinds of replays measure of nodes; pure."""

from collections.abc import Iterable, Mapping

from deviceplugin.scheduler.demand import WHOLE, Demand, Workload
from deviceplugin.scheduler.partitions import NO_SHAPES
from deviceplugin.scheduler.room import NodeState

Sizes = Mapping[str, int]


def sizes_of(nodes: Iterable[NodeState]) -> Sizes:
    """Thousandths of a GPU of each part whose size a node's daemon tells."""
    return {
        name: shape.size * WHOLE // shape.slices
        for node in nodes
        for gpu in node.cut.values()
        for name, (shape, _) in gpu.parts.items()
    }


def asked_milli(demand: Demand, sizes: Sizes) -> int:
    """Thousandths of GPUs, with parts whose size is known."""
    return demand.total_milli + sum(sizes.get(name, 0) * count for name, count in demand.parts)


def fragment_of(node: NodeState, workload: Workload) -> float:
    """Free thousandths of the node's GPUs that the expected pods cannot use."""
    free = tuple(sorted(node.free, reverse=True))
    found = workload.fragment(node.model, node.cpu_milli, free)
    shapes = node.about.shapes if node.about else NO_SHAPES
    return found + sum(workload.parts.unusable(gpu, shapes) for gpu in node.cut.values())
