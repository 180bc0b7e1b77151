"""What a pod costs on a node: GPU that later pods cannot use, and with the facts of the node's
daemon what links, load and faults add; pure.

Gradients are compared in bands, and the fuller node wins within a band: a finer order is noise of
the expectation, and equal scores are broken at random by kube-scheduler.
"""

from collections.abc import Sequence

from msgspec import Struct

from deviceplugin.scheduler.about import NOTHING, About, nearest
from deviceplugin.scheduler.demand import WHOLE, Demand, Workload
from deviceplugin.scheduler.devices import Got
from deviceplugin.scheduler.firstfit import first_fit
from deviceplugin.scheduler.partitions import (
    NOTHING_TAKEN,
    Choice,
    Taken,
    choose,
    only,
)
from deviceplugin.scheduler.parts import WHOLE_FIT, Weights, affinity, balance
from deviceplugin.scheduler.power import Power
from deviceplugin.scheduler.room import NodeState, fitting_gpus, misfit

BAND_MILLI = 80
DEFAULT = Weights()
SPREADING = ("fair_share", "spread", "round_robin", "real_time")  # policies that want idle GPUs


class Cost(Struct, frozen=True):
    """What a demand costs on a node: less is better; `key` orders nodes of any state.

    `fragment`, `waste` and `stranded` are the changes in thousandths of a GPU that packing is made
    of, `affinity` and `balance` what the other parts add, before their weights, `watts` what GPUs
    draw more, where power counts, `taken` are parts of GPUs, and `got` the devices that
    kube-scheduler would give to claims.
    """

    key: int
    chosen: tuple[int, ...]
    fragment: float
    waste: float
    stranded: float
    affinity: float = 0.0
    balance: float = 0.0
    taken: tuple[Taken, ...] = ()
    watts: float = 0.0
    got: tuple[Got, ...] = ()


def cost(
    node: NodeState, demand: Demand, workload: Workload, weights: Weights = DEFAULT
) -> Cost | None:
    """The cheapest place for the demand on the node; None if it does not fit."""
    if misfit(node, demand):
        return None
    got = _claimable(node, demand) if demand.claims else ()
    if got is None:
        return None
    free = node.free
    before = (
        workload.fragment(node.model, node.cpu_milli, tuple(sorted(free, reverse=True))),
        workload.stranded(node.cpu_milli, sum(free)),
    )
    judging = (workload, weights, (_choice(node, demand, workload), got))
    return min(
        (_at(node, demand, judging, (chosen, before)) for chosen in _places(node, demand)),
        key=lambda found: found.key,
    )


def _claimable(node: NodeState, demand: Demand) -> tuple[Got, ...] | None:
    """The devices that the claims would get; of a node without any nothing is known, and None is
    that there are too few."""
    if node.claimed is None:
        return ()
    return first_fit(node.claimed, demand.claims, node.free)


def _choice(node: NodeState, demand: Demand, workload: Workload) -> Choice:
    about = node.about
    if not demand.parts or not node.cut or about is None:
        return NOTHING_TAKEN
    cut = node.cut
    if demand.wants != NOTHING:
        cut = only(cut, lambda at, name: about.suits_part(at, name, demand.wants))
    return choose(cut, demand.parts, workload.parts, about.shapes)


def _places(node: NodeState, demand: Demand) -> Sequence[tuple[int, ...]]:
    """The choices of GPUs that are worth a look: one of each state, or by the node's policy."""
    if demand.gpus == 0:
        return [()]
    free, about, fitting = node.free, node.about, fitting_gpus(node, demand)
    if about is not None and about.gpus:
        if demand.gpus > 1:
            return [nearest(about, fitting, demand.gpus)]
        if about.measured and about.policy not in SPREADING:
            return [(index,) for index in fitting]  # each may be as busy or as ill as it likes
    if about is not None and about.policy in SPREADING:
        fitting.sort(key=lambda index: (-free[index], _load(about, index), index))
        return [tuple(fitting[: demand.gpus])]
    if demand.gpus > 1:
        fitting.sort(key=lambda index: free[index])
        return [tuple(fitting[: demand.gpus])]
    one_of_each = {free[index]: index for index in reversed(fitting)}
    return [(index,) for index in one_of_each.values()]


def _load(about: About, index: int) -> int:
    return (about.gpus[index].load or 0) if index < len(about.gpus) else 0


def _at(
    node: NodeState,
    demand: Demand,
    judging: tuple[Workload, Weights, tuple[Choice, tuple[Got, ...]]],
    place: tuple[tuple[int, ...], tuple[float, float]],
) -> Cost:
    (workload, weights, (choice, got)), (chosen, (fragment, stranded)) = judging, place
    left, waste = list(node.free), 0.0
    gap = min((node.cut[index].free_milli for index in choice.gpus), default=0)
    by_claims = node.milli_of(got)
    for index, milli in [*((index, demand.gpu_milli) for index in chosen), *by_claims]:
        gap = left[index]
        left[index] = max(0, gap - milli)
        waste += workload.waste[left[index]] - workload.waste[gap]
    cpu_milli, gpus = node.cpu_milli - demand.cpu_milli, tuple(sorted(left, reverse=True))
    fragment = workload.fragment(node.model, cpu_milli, gpus) - fragment + choice.fragment
    stranded = workload.stranded(cpu_milli, sum(left)) - stranded
    theirs = tuple(dict.fromkeys((*chosen, *(index for index, _ in by_claims)))) or choice.gpus
    near, busy = _parts(node, demand, theirs)
    watts = _added(node, theirs, weights.power) if weights.power.weight else 0.0
    price = weights.fit * (fragment + stranded + waste)
    price += weights.affinity * near + weights.balance * busy
    price += weights.power.weight * weights.power.cost(watts)
    key = _key(node, round(price / WHOLE_FIT / BAND_MILLI), gap)
    return Cost(key, chosen, fragment, waste, stranded, near, busy, choice.taken, watts, got)


def _key(node: NodeState, band: int, gap: int) -> int:
    """Of the same band the fullest node, then the fullest GPU, then the node with fewest CPUs."""
    cpu = min(node.cpu_milli // 10, 999_999)
    return ((band * 100_000 + node.free_milli) * 1001 + gap) * 1_000_000 + cpu


def _parts(node: NodeState, demand: Demand, chosen: Sequence[int]) -> tuple[float, float]:
    """Affinity and balance."""
    if node.about is None or (node.about.is_plain and demand.wants == NOTHING):
        return 0.0, 0.0
    used = [WHOLE - _free(node, index) for index in chosen]
    return (
        affinity(node.about, demand.wants, chosen),
        balance(node.about, demand.wants, chosen, used),
    )


def _free(node: NodeState, index: int) -> int:
    return node.cut[index].free_milli if index in node.cut else node.free[index]


def _added(node: NodeState, chosen: Sequence[int], power: Power) -> float:
    """Watts; a GPU that somebody holds draws no more for another."""
    idle = sum(
        not node.cut[index].used if index in node.cut else node.free[index] == WHOLE
        for index in chosen
    )
    return power.added(node.model, idle)
