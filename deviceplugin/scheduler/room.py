"""What a node has, and whether a pod fits there; pure."""

from collections.abc import Iterable, Sequence

from msgspec import Struct, field, structs

from deviceplugin.scheduler.about import NOTHING, About, Wants, are_linked, lacking, nearest
from deviceplugin.scheduler.demand import WHOLE, Demand
from deviceplugin.scheduler.devices import Claimed, Got, got_milli
from deviceplugin.scheduler.firstfit import first_fit
from deviceplugin.scheduler.partitions import NO_CUT, Cut, Shapes, Taken, after, milli_of


class NodeState(Struct):
    """A node as far as packing is concerned: `free` has a number of thousandths for each GPU, and
    `about` what is known beyond counts. `parts` has the number of each resource that is a part of a
    GPU, `cut` the GPUs of which it is known where their parts are. `claimed` are claims' devices,
    `reserved` GPUs that claims alone can have, `by_pods` those that pods hold by resources, and
    `like` a number that nodes have in common whose devices are the same."""

    name: str
    model: str
    cpu_milli: int
    memory_mib: int
    free: list[int]
    version: int = 0
    about: About | None = None
    parts: dict[str, int] = field(default_factory=dict)
    cut: Cut = NO_CUT
    claimed: Claimed | None = None
    reserved: frozenset[int] = frozenset()
    by_pods: frozenset[int] = frozenset()
    like: int = 0

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

    def claim(self, got: Sequence[Got]) -> None:
        """Give claims these devices."""
        if self.claimed is not None and got:
            for index, milli in self.milli_of(got):
                self.free[index] = max(0, self.free[index] - milli)
            self.claimed = structs.replace(self.claimed, taken=(*self.claimed.taken, *got))
            self.version += 1

    def milli_of(self, got: Iterable[Got]) -> list[tuple[int, int]]:
        """The GPUs of devices, and how many thousandths each takes of its own."""
        if self.claimed is None:
            return []
        devices, at = self.claimed.devices.devices, self.claimed.at
        offered = ((devices[one.device], one) for one in got)
        return [(at[of.gpu], got_milli(of, one)) for of, one in offered if at[of.gpu] >= 0]

    def names_of(self, got: Iterable[Got]) -> list[str]:
        """Devices by their names in the slices."""
        devices = self.claimed.devices.devices if self.claimed is not None else ()
        return [devices[one.device].device.name for one in got]


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
    if node.reserved:
        fitting -= sum(node.free[index] >= demand.gpu_milli for index in node.reserved)
    if fitting < demand.gpus:
        size = "free" if demand.gpu_milli == WHOLE else f"with {demand.gpu_milli / 10:g} % free"
        return f"{fitting} GPUs {size}, {demand.gpus} requested"
    return _lacking(node, demand) or _unwanted(node, demand)


def _lacking(node: NodeState, demand: Demand) -> str:
    """Which parts of GPUs are too few, or what the pod wants of the node and it has not."""
    for name, count in demand.parts:
        if (free := node.parts.get(name, count)) < count:
            return f"{free} {name} free, {count} requested"
    if demand.claims and (reason := _in_use(node, demand)):
        return reason
    if demand.wants == NOTHING or node.about is None:
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


def _in_use(node: NodeState, demand: Demand) -> str:
    """Whether GPUs that pods hold by resources are in a claim's way. What claims can have beside
    each other kube-scheduler knows better than we do: it allocates them."""
    if node.claimed is None or not node.by_pods:
        return ""
    room = [WHOLE] * len(node.free)
    without = [0 if index in node.by_pods else WHOLE for index in range(len(node.free))]
    if first_fit(node.claimed, demand.claims, room) and not first_fit(
        node.claimed, demand.claims, without
    ):
        return "pods hold the GPUs that its claims ask for"
    return ""


def _unwanted(node: NodeState, demand: Demand) -> str:
    """What the pod wants of GPUs beyond counts and the node does not have; empty if it has all."""
    if demand.wants == NOTHING or node.about is None:
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
    if node.reserved:
        fitting = [index for index in fitting if index not in node.reserved]
    if node.about is None or demand.wants == NOTHING:
        return fitting
    return [index for index in fitting if node.about.suits(index, demand.wants)]
