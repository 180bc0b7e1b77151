"""All nodes with what each demand costs there, computed anew only where a node changed; pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from deviceplugin.scheduler.about import NOTHING
from deviceplugin.scheduler.demand import WHOLE, Demand, Workload
from deviceplugin.scheduler.packing import Cost, cost
from deviceplugin.scheduler.partitions import NO_SHAPES, Taken
from deviceplugin.scheduler.room import NodeState, given_milli

# Kinds of pods whose costs are remembered: some 100 bytes for each node.
MAX_KNOWN = 256
State = tuple[object, ...]
Alike = dict[State, Cost | None]
Known = dict[str, tuple[NodeState, int, Cost | None]]
Memory = tuple[Known, Alike]
CostOf = Callable[[NodeState, Demand, Workload], Cost | None]


class Board:
    """The state of all nodes by name; `place` and `free` are its only changes to a node."""

    def __init__(
        self, nodes: Iterable[NodeState], workload: Workload, cost_of: CostOf = cost
    ) -> None:
        self.nodes: dict[str, NodeState] = {node.name: node for node in nodes}
        self._workload, self._cost_of = workload, cost_of
        # For each demand: by node the version that was judged, and the cost.
        self._known: dict[Demand, Known] = {}

    @property
    def workload(self) -> Workload:
        """Which pods are expected."""
        return self._workload

    def expect(self, workload: Workload) -> None:
        """Judge by another workload from now on."""
        self._workload = workload
        self._known.clear()

    def cost(self, name: str, demand: Demand) -> Cost | None:
        """What the demand costs on the node; None if it does not fit, or there is no such node."""
        return self._cost((self._costs(demand), {}), name, demand)

    def cost_of(self, node: NodeState, demand: Demand) -> Cost | None:
        """What it costs on a node in a state that is not the board's."""
        return self._cost_of(node, demand, self._workload)

    def costs(self, names: Iterable[str], demand: Demand) -> Mapping[str, Cost]:
        """The costs on those of the nodes on which the demand fits."""
        memory: Memory = (self._costs(demand), {})
        found = {}
        for name in names:
            if (price := self._cost(memory, name, demand)) is not None:
                found[name] = price
        return found

    def best(self, names: Iterable[str], demand: Demand) -> tuple[str, Cost] | None:
        """The cheapest node, the first of equal ones."""
        memory: Memory = (self._costs(demand), {})
        known, nodes = memory[0], self.nodes
        best = None
        for name in names:
            found, node = known.get(name), nodes.get(name)
            if found is not None and found[0] is node and found[1] == node.version:
                price = found[2]  # as _cost has it: a simulation comes here some 10**8 times
            else:
                price = self._cost(memory, name, demand)
            if price is not None and (best is None or price.key < best[1].key):
                best = (name, price)
        return best

    def place(
        self, name: str, demand: Demand, chosen: Sequence[int], taken: Sequence[Taken] = ()
    ) -> None:
        """The demand now holds these GPUs and parts of the node."""
        self.nodes[name].take(demand, chosen, taken=taken)

    def free(
        self, name: str, demand: Demand, chosen: Sequence[int], taken: Sequence[Taken] = ()
    ) -> None:
        """The demand no longer holds them."""
        self.nodes[name].take(demand, chosen, -1, taken)

    def packed(self) -> Mapping[str, float]:
        """Thousandths of GPUs: `capacity`, `free`, and of the free `fragment`, which the expected
        pods cannot use, where any are expected."""
        free = fragment = 0.0
        capacity, workload = 0, self._workload
        for node in list(self.nodes.values()):
            gpus = tuple(sorted(node.free, reverse=True))
            capacity += WHOLE * (len(node.free) or len(node.cut))
            free += node.free_milli
            fragment += workload.fragment(node.model, node.cpu_milli, gpus)
            shapes = node.about.shapes if node.about else NO_SHAPES
            fragment += sum(workload.parts.unusable(gpu, shapes) for gpu in node.cut.values())
        packed = {"capacity": capacity, "free": free}
        return packed | ({"fragment": fragment} if workload.expects else {})

    @property
    def given_milli(self) -> int:
        """Thousandths of GPUs that pods hold or could be given."""
        return sum(given_milli(node) for node in list(self.nodes.values()))

    def _costs(self, demand: Demand) -> Known:
        known = self._known.pop(demand, None)
        if known is None:
            known = {}
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]  # asked for longest ago
        self._known[demand] = known
        return known

    def _cost(self, memory: Memory, name: str, demand: Demand) -> Cost | None:
        (known, alike), node = memory, self.nodes.get(name)
        if node is None:
            return None
        found = known.get(name)
        if found is not None and found[0] is node and found[1] == node.version:
            return found[2]
        price = self._alike(alike, node, demand)
        known[name] = (node, node.version, price)
        return price

    def _alike(self, alike: Alike, node: NodeState, demand: Demand) -> Cost | None:
        """The cost by a node's state: in a cluster many are alike, empty ones above all."""
        if demand.wants != NOTHING or (node.about and not node.about.is_plain):
            return self._cost_of(node, demand, self._workload)
        parts = tuple(node.parts.items()) if demand.parts else ()
        free = tuple(node.free)
        state: State = (node.model, node.cpu_milli, node.memory_mib, free, parts, node.like)
        if demand.claims and node.claimed is not None:
            state += (node.claimed.taken, node.by_pods)
        if state not in alike:
            alike[state] = self._cost_of(node, demand, self._workload)
        return alike[state]
