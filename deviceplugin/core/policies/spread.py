"""The policies `spread` and `fair_share`: the least used GPU first."""

from collections.abc import Sequence
from math import inf

from deviceplugin.core.policies.levelled import Levels, fill_evenly
from deviceplugin.core.policies.view import Counts, Reading, View

_NOTHING = Reading()


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
