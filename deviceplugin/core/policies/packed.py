"""The policy `packed`: fill GPUs that are in use before one that is not."""

from collections.abc import Sequence

from deviceplugin.core.policies.ranked import Rank, by_rank
from deviceplugin.core.policies.view import Counts, View


def ranks(view: View) -> Sequence[Rank]:
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
        for room, own, load, node in zip(view.room, view.must, view.load, nodes, strict=True)
    ]


def choose(view: View) -> Counts:
    """Used GPUs first."""
    return by_rank(view, ranks(view))
