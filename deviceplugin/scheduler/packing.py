"""What a pod costs on a node, in GPU that later pods cannot use; pure.

Gradients are compared in bands, and the fuller node wins within a band: a finer order is noise of
the expectation, and equal scores are broken at random by kube-scheduler.
"""

from collections.abc import Sequence

from msgspec import Struct

from deviceplugin.scheduler.demand import WHOLE, Demand, Workload

BAND_MILLI = 80


class NodeState(Struct):
    """A node as far as packing is concerned: `free` has a number of thousandths for each GPU."""

    name: str
    model: str
    cpu_milli: int
    memory_mib: int
    free: list[int]
    version: int = 0

    def take(self, demand: Demand, chosen: Sequence[int], sign: int = 1) -> None:
        """Give the demand these GPUs, or with `sign` -1 take them back."""
        self.cpu_milli -= sign * demand.cpu_milli
        self.memory_mib -= sign * demand.memory_mib
        for index in chosen:
            self.free[index] -= sign * demand.gpu_milli
        self.version += 1


class Cost(Struct, frozen=True):
    """What a demand costs on a node: less is better; `key` orders nodes of any state.

    `fragment`, `waste` and `stranded` are the changes in thousandths of a GPU that it is made of.
    """

    key: int
    chosen: tuple[int, ...]
    fragment: float
    waste: float
    stranded: float


def misfit(node: NodeState, demand: Demand) -> str:
    """Why the demand does not fit on the node; empty if it does."""
    if demand.cpu_milli > node.cpu_milli:
        return f"{node.cpu_milli}m CPU free, {demand.cpu_milli}m requested"
    if demand.memory_mib > node.memory_mib:
        return f"{node.memory_mib} MiB memory free, {demand.memory_mib} MiB requested"
    if not demand.gpus:
        return ""
    if demand.models and node.model not in demand.models:
        return f"GPU model {node.model}, {' or '.join(sorted(demand.models))} requested"
    fitting = sum(milli >= demand.gpu_milli for milli in node.free)
    if fitting < demand.gpus:
        size = "free" if demand.gpu_milli == WHOLE else f"with {demand.gpu_milli / 10:g} % free"
        return f"{fitting} GPUs {size}, {demand.gpus} requested"
    return ""


def cost(node: NodeState, demand: Demand, workload: Workload) -> Cost | None:
    """The cheapest place for the demand on the node; None if it does not fit."""
    if misfit(node, demand):
        return None
    free = node.free
    before = (
        workload.fragment(node.model, node.cpu_milli, tuple(sorted(free, reverse=True))),
        workload.stranded(node.cpu_milli, sum(free)),
    )
    return min(
        (_at(node, demand, workload, (chosen, before)) for chosen in _places(free, demand)),
        key=lambda found: found.key,
    )


def _places(free: Sequence[int], demand: Demand) -> Sequence[tuple[int, ...]]:
    """The choices of GPUs that are worth a look: one of each state."""
    if demand.gpus == 0:
        return [()]
    fitting = [index for index, milli in enumerate(free) if milli >= demand.gpu_milli]
    if demand.gpus > 1:
        fitting.sort(key=lambda index: free[index])
        return [tuple(fitting[: demand.gpus])]
    one_of_each = {free[index]: index for index in reversed(fitting)}
    return [(index,) for index in one_of_each.values()]


def _at(
    node: NodeState,
    demand: Demand,
    workload: Workload,
    place: tuple[tuple[int, ...], tuple[float, float]],
) -> Cost:
    chosen, (fragment, stranded) = place
    after, waste, gap = list(node.free), 0.0, 0
    for index in chosen:
        gap = after[index]
        after[index] -= demand.gpu_milli
        waste += workload.waste[after[index]] - workload.waste[gap]
    cpu_milli, total = node.cpu_milli - demand.cpu_milli, sum(node.free)
    fragment = (
        workload.fragment(node.model, cpu_milli, tuple(sorted(after, reverse=True))) - fragment
    )
    stranded = workload.stranded(cpu_milli, total - demand.total_milli) - stranded
    band = round((fragment + stranded + waste) / BAND_MILLI)
    key = ((band * 100_000 + total) * 1001 + gap) * 1_000_000 + min(node.cpu_milli // 10, 999_999)
    return Cost(key, chosen, fragment, waste, stranded)
