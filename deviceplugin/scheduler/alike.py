"""The order of nodes, and what a prediction adds to it among those that the rule holds for alike;
pure.

The rule's bands, and within a band the free GPU of the node, stay as they are: a prediction that
is wrong can only choose among nodes of which the rule says the same.
"""

from collections.abc import Mapping
from types import MappingProxyType

from deviceplugin.scheduler.packing import Cost

GAPS = 1_000_000
BANDS = 100_000  # thousandths of free GPU in a band
BAND = 1_001 * GAPS  # of a cost's key: what is below says less than the band and the free GPU
NO_TIES: Mapping[str, tuple[int, ...]] = MappingProxyType({})


def leading(costs: Mapping[str, Cost]) -> list[str]:
    """The nodes that the rule holds for the best, all alike."""
    if not costs:
        return []
    best = min(cost.key for cost in costs.values()) // BAND
    return [name for name, cost in costs.items() if cost.key // BAND == best]


def difference(best: Cost, other: Cost) -> str:
    """What made the best of two nodes that cost the same the better one."""
    (more, mine), (less, yours) = divmod(other.key, BAND), divmod(best.key, BAND)
    if more // BANDS != less // BANDS:
        return "it costs more in all"
    if more != less:
        return f"it costs no more, but has more free GPU: {_gpus(more)}, the best one {_gpus(less)}"
    if mine // GAPS != yours // GAPS:
        return "it costs no more, but its GPU is used less"
    return "it costs no more, but has more free CPU" if mine != yours else "nothing: names decide"


def _gpus(free: int) -> str:
    return f"{free % BANDS / 1000:g}"


def extension(pod_end: float, node_end: float) -> int:
    """By how much a pod would make its node be in use for longer, in steps that double from ten
    minutes on; 0 where it ends before others of the node. Pods that end together leave whole nodes
    behind them."""
    longer = pod_end - node_end
    return 0 if longer <= 0 else 1 + int(longer // 600).bit_length()


def ranks(
    costs: Mapping[str, Cost], ties: Mapping[str, tuple[int, ...]] = NO_TIES
) -> Mapping[str, int]:
    """A score for each node, more is better and no two alike: kube-scheduler breaks ties at
    random, and then what was packed well in total is lost. Equal nodes are ordered by name."""

    def order(name: str) -> tuple[int, tuple[int, ...], int, str]:
        key = costs[name].key
        return key // BAND, ties.get(name, ()), key, name

    if ties:
        worst_first = sorted(costs, key=order, reverse=True)
    else:
        by_key = sorted(((cost.key, name) for name, cost in costs.items()), reverse=True)
        worst_first = [name for _, name in by_key]
    return {name: score for score, name in enumerate(worst_first)}
