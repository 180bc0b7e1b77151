"""What a pod costs on a node: GPU that later pods cannot use, and with the facts of the node's
daemon what links, load and faults add; pure.

Gradients are compared in bands, and the fuller node wins within a band: a finer order is noise of
the expectation, and equal scores are broken at random by kube-scheduler.
"""

from collections.abc import Sequence

from msgspec import Struct, field

from deviceplugin.scheduler.about import NOTHING, About, Wants, are_linked, lacking, nearest
from deviceplugin.scheduler.demand import WHOLE, Demand, Workload
from deviceplugin.scheduler.partitions import (
    NO_CUT,
    NOTHING_TAKEN,
    Choice,
    Cut,
    Shapes,
    Taken,
    after,
    choose,
    milli_of,
    only,
)
from deviceplugin.scheduler.parts import WHOLE_FIT, Weights, affinity, balance
from deviceplugin.scheduler.power import Power

BAND_MILLI = 80
DEFAULT = Weights()
SPREADING = ("fair_share", "spread", "round_robin", "real_time")  # policies that want idle GPUs


class NodeState(Struct):
    """A node as far as packing is concerned: `free` has a number of thousandths for each GPU, and
    `about` what is known beyond counts. `parts` has the number of each resource that is a part of a
    GPU, `cut` the GPUs of which it is known where their parts are."""

    name: str
    model: str
    cpu_milli: int
    memory_mib: int
    free: list[int]
    version: int = 0
    about: About | None = None
    parts: dict[str, int] = field(default_factory=dict)
    cut: Cut = NO_CUT

    @property
    def free_milli(self) -> int:
        """Thousandths of GPUs that nobody holds, of whole ones and of those that are cut."""
        return sum(self.free) + sum(gpu.free_milli for gpu in self.cut.values())

    def take(
        self, demand: Demand, chosen: Sequence[int], sign: int = 1, taken: Sequence[Taken] = ()
    ) -> None:
        """Give the demand these GPUs and parts, or with `sign` -1 take them back."""
        self.cpu_milli -= sign * demand.cpu_milli
        self.memory_mib -= sign * demand.memory_mib
        for index in chosen:
            self.free[index] -= sign * demand.gpu_milli
        for name, count in demand.parts:
            if name in self.parts:
                self.parts[name] -= sign * count
        if taken:
            self.cut = after(self.cut, taken, sign)
        self.version += 1


def given_milli(node: NodeState) -> int:
    """Thousandths of its GPUs that pods hold or could be given: not those that are ill, nor the
    slices of one that is cut of which no part is made."""
    if node.about is None or not node.about.gpus:
        return WHOLE * len(node.free)
    total = 0
    for at, gpu in enumerate(node.about.gpus):
        if at in node.cut:
            parts = [(name, len(one.free) + len(one.held)) for name, one in gpu.parts.items()]
            total += milli_of(parts, Shapes(of={n: s for n, (s, _) in node.cut[at].parts.items()}))
        elif at < len(node.free) and gpu.healthy:
            total += WHOLE
    return total


class Cost(Struct, frozen=True):
    """What a demand costs on a node: less is better; `key` orders nodes of any state.

    `fragment`, `waste` and `stranded` are the changes in thousandths of a GPU that packing is made
    of, `affinity` and `balance` what the other parts add, before their weights, `watts` what GPUs
    draw more, where power counts, and `taken` are parts of GPUs.
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


def misfit(node: NodeState, demand: Demand) -> str:
    """Why the demand does not fit on the node; empty if it does."""
    if demand.cpu_milli > node.cpu_milli:
        return f"{node.cpu_milli}m CPU free, {demand.cpu_milli}m requested"
    if demand.memory_mib > node.memory_mib:
        return f"{node.memory_mib} MiB memory free, {demand.memory_mib} MiB requested"
    if not demand.gpus:
        return _lacking(node, demand)
    if demand.models and node.model not in demand.models:
        return f"GPU model {node.model}, {' or '.join(sorted(demand.models))} requested"
    asked = demand.gpu_milli
    fitting = len([milli for milli in node.free if milli >= asked])
    if fitting < demand.gpus:
        size = "free" if demand.gpu_milli == WHOLE else f"with {demand.gpu_milli / 10:g} % free"
        return f"{fitting} GPUs {size}, {demand.gpus} requested"
    return _lacking(node, demand) or _unwanted(node, demand)


def _lacking(node: NodeState, demand: Demand) -> str:
    """Which parts of GPUs are too few, or what the pod wants of the node and it has not."""
    for name, count in demand.parts:
        if (free := node.parts.get(name, count)) < count:
            return f"{free} {name} free, {count} requested"
    if node.about is None or demand.wants == NOTHING:
        return ""
    return _unsuitable(node, demand, node.about) or lacking(node.about, demand.wants)


def _unsuitable(node: NodeState, demand: Demand, about: About) -> str:
    """Which parts of GPUs are too few of what the pod wants."""
    for name, count in demand.parts:
        if name in node.parts and (free := _suiting(node, name, demand.wants, about)) < count:
            return f"{free} {name} with {_asked(demand.wants)} free, {count} requested"
    return ""


def _suiting(node: NodeState, name: str, wants: Wants, about: About) -> int:
    """How many parts of a resource are free and what is wanted. A part that a pod gives back counts
    before the daemon tells which one it was."""
    suiting = other = 0
    for at, gpu in node.cut.items():
        if name in gpu.parts:
            free = len(gpu.parts[name][1])
            if about.suits_part(at, name, wants):
                suiting += free + about.held_of(at, name)
            else:
                other += free
    cut = any(name in gpu.parts for gpu in node.cut.values())
    return min(suiting, node.parts[name] - other) if cut else node.parts[name]


def _asked(wants: Wants) -> str:
    asked = [f"{wants.memory_mib} MiB"] * bool(wants.memory_mib)
    return " and ".join(asked + [f"isolation {wants.isolation}"] * bool(wants.isolation))


def _unwanted(node: NodeState, demand: Demand) -> str:
    """What the pod wants of GPUs beyond counts and the node does not have; empty if it has all."""
    if node.about is None or demand.wants == NOTHING:
        return ""
    about, wants = node.about, demand.wants
    suitable = fitting_gpus(node, demand)
    if len(suitable) < demand.gpus:
        return f"{len(suitable)} GPUs with {_asked(wants)} free, {demand.gpus} requested"
    if wants.linked and not are_linked(about, nearest(about, suitable, demand.gpus)):
        return f"no {demand.gpus} free GPUs with links between them"
    return ""


def fitting_gpus(node: NodeState, demand: Demand) -> list[int]:
    """The GPUs that have room for a part of the demand, and are what it wants."""
    fitting = [index for index, milli in enumerate(node.free) if milli >= demand.gpu_milli]
    if node.about is None or demand.wants == NOTHING:
        return fitting
    return [index for index in fitting if node.about.suits(index, demand.wants)]


def cost(
    node: NodeState, demand: Demand, workload: Workload, weights: Weights = DEFAULT
) -> Cost | None:
    """The cheapest place for the demand on the node; None if it does not fit."""
    if misfit(node, demand):
        return None
    free = node.free
    before = (
        workload.fragment(node.model, node.cpu_milli, tuple(sorted(free, reverse=True))),
        workload.stranded(node.cpu_milli, sum(free)),
    )
    judging = (workload, weights, _choice(node, demand, workload))
    return min(
        (_at(node, demand, judging, (chosen, before)) for chosen in _places(node, demand)),
        key=lambda found: found.key,
    )


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
        if about.policy not in SPREADING:
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
    judging: tuple[Workload, Weights, Choice],
    place: tuple[tuple[int, ...], tuple[float, float]],
) -> Cost:
    (workload, weights, choice), (chosen, (fragment, stranded)) = judging, place
    left, waste = list(node.free), 0.0
    gap = min((node.cut[index].free_milli for index in choice.gpus), default=0)
    for index in chosen:
        gap = left[index]
        left[index] -= demand.gpu_milli
        waste += workload.waste[left[index]] - workload.waste[gap]
    cpu_milli, gpus = node.cpu_milli - demand.cpu_milli, tuple(sorted(left, reverse=True))
    fragment = workload.fragment(node.model, cpu_milli, gpus) - fragment + choice.fragment
    stranded = workload.stranded(cpu_milli, sum(left)) - stranded
    near, busy = _parts(node, demand, chosen or choice.gpus)
    watts = _added(node, chosen or choice.gpus, weights.power) if weights.power.weight else 0.0
    price = weights.fit * (fragment + stranded + waste)
    price += weights.affinity * near + weights.balance * busy
    price += weights.power.weight * weights.power.cost(watts)
    key = _key(node, round(price / WHOLE_FIT / BAND_MILLI), gap)
    return Cost(key, chosen, fragment, waste, stranded, near, busy, choice.taken, watts)


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
