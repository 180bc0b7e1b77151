"""The policies that a simulation compares: ours, and the rules that others publish; pure."""

from collections.abc import Mapping
from functools import partial

from msgspec import structs

from deviceplugin.scheduler.board import CostOf
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.packing import DEFAULT, Cost, cost
from deviceplugin.scheduler.parts import Weights
from deviceplugin.scheduler.power import Power
from deviceplugin.scheduler.room import NodeState, misfit


def best_fit(node: NodeState, demand: Demand, workload: Workload) -> Cost | None:
    """The node with the least CPU and GPU left, each by that of the largest node; in it the
    fullest GPU."""
    left = node.cpu_milli / 128_000 + sum(node.free) / 8_000
    return _at(node, demand, round(left * 1_000_000))


def first_fit(node: NodeState, demand: Demand, workload: Workload) -> Cost | None:
    """The first node on which it fits, and the first GPU: as the kubelet gives them."""
    return None if misfit(node, demand) else Cost(0, _first(node, demand), 0.0, 0.0, 0.0)


def spread(node: NodeState, demand: Demand, workload: Workload) -> Cost | None:
    """The node with the most CPU free: kube-scheduler's LeastAllocated, which knows no GPUs."""
    return _at(node, demand, -node.cpu_milli)


def _at(node: NodeState, demand: Demand, key: int) -> Cost | None:
    if misfit(node, demand):
        return None
    fitting = [i for i, milli in enumerate(node.free) if milli >= demand.gpu_milli]
    fitting.sort(key=node.free.__getitem__)
    return Cost(key, tuple(fitting[: demand.gpus]), 0.0, 0.0, 0.0)


def _first(node: NodeState, demand: Demand) -> tuple[int, ...]:
    fitting = [i for i, milli in enumerate(node.free) if milli >= demand.gpu_milli]
    return tuple(fitting[: demand.gpus])


POLICIES: Mapping[str, CostOf] = {
    "packing": cost,
    "best-fit": best_fit,
    "first-fit": first_fit,
    "spread": spread,
}


def policies(power: Power, weights: Weights = DEFAULT) -> Mapping[str, CostOf]:
    """All of them, packing with these weights of its parts; `power` among them where it is known
    what GPUs draw."""
    ours = cost if weights == DEFAULT else partial(cost, weights=weights)
    found = {**POLICIES, "packing": ours}
    if not power.draws:
        return found
    return {**found, "power": partial(cost, weights=structs.replace(weights, power=power))}
