"""The cluster as the scheduler knows it: nodes and pods by watch, and its own decisions until
their pods show up.

Nothing but counts is known of a node here: which of its GPUs a pod holds is the choice that packing
would have made, as the daemon's own default makes it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, structs

from deviceplugin.scheduler.board import Board
from deviceplugin.scheduler.demand import WHOLE, Demand, Workload
from deviceplugin.scheduler.objects import Node, Pod, Reading, demands_of
from deviceplugin.scheduler.packing import NodeState, misfit

ASSUMED_S = 30.0  # a binding that has not shown up by then was not made
MAX_ASSUMED = 10_000


class Held(Struct):
    """What a pod holds: a demand on a node; `until` is set for an assumption."""

    node: str
    demand: Demand
    chosen: tuple[int, ...] = ()
    until: float | None = None


class Cluster:
    """Nodes with what is free on each; not thread-safe: it lives on the loop."""

    def __init__(self, reading: Reading, now: Callable[[], float]) -> None:
        self.reading, self._now = reading, now
        self.board = Board([], Workload([]))
        self._nodes: dict[str, Node] = {}
        self._held: dict[str, Held] = {}
        self._on: dict[str, dict[str, Held]] = {}  # by node, then by pod
        self._pods: dict[str, Pod] = {}
        self._assumed: dict[str, Held] = {}  # those of _held that have an end, oldest first
        self.unreadable = 0

    @property
    def size(self) -> tuple[int, int]:
        """How many nodes and pods there are."""
        return len(self._nodes), len(self._pods)

    # What is watched

    def set_nodes(self, nodes: Iterable[Node]) -> None:
        """All nodes there are."""
        found = {node.metadata.name: node for node in nodes}
        for name in [*self._nodes.keys() - found.keys()]:
            self.remove_node(name)
        for node in found.values():
            self.put_node(node)

    def put_node(self, node: Node) -> None:
        """The node is new or changed."""
        name, before = node.metadata.name, self._nodes.get(node.metadata.name)
        self._nodes[name] = node
        if before is None or before.status != node.status or _labels(before) != _labels(node):
            self._refill(name)

    def remove_node(self, name: str) -> None:
        """The node is gone."""
        self._nodes.pop(name, None)
        self.board.nodes.pop(name, None)

    def set_pods(self, pods: Iterable[Pod]) -> None:
        """All pods there are."""
        found = {pod.key: pod for pod in pods}
        for key in [*self._pods.keys() - found.keys()]:
            self.remove_pod(key)
        for pod in found.values():
            self.put_pod(pod)

    def put_pod(self, pod: Pod) -> None:
        """The pod is new or changed."""
        self._pods[pod.key] = pod
        if not pod.holds:
            if pod.spec.node_name:  # it has ended; a pending one may be assumed
                self._release(pod.key)
            return
        held = self._held.get(pod.key)
        if held is not None and held.node == pod.spec.node_name:
            held.until = None
            self._assumed.pop(pod.key, None)
            return
        try:
            demand = self.reading.demand_of(pod)
        except ValueError:
            self.unreadable += 1
            return
        self._hold(pod.key, Held(pod.spec.node_name, demand))

    def remove_pod(self, key: str) -> None:
        """The pod is gone."""
        self._pods.pop(key, None)
        self._release(key)

    def expect_what_is_there(self) -> None:
        """Make the workload anew of the pods that are there now."""
        self.board.expect(Workload(demands_of(self.reading, self._pods.values())))

    # Decisions

    def assume(self, key: str, node: str, demand: Demand, chosen: tuple[int, ...] = ()) -> None:
        """Hold it until the pod shows up, ASSUMED_S at most; `chosen` are GPUs of the node."""
        if len(self._assumed) < MAX_ASSUMED:
            self._hold(key, Held(node, demand, chosen, until=self._now() + ASSUMED_S))

    def forget(self, key: str) -> None:
        """The pod is asked for again, so what was assumed of it did not come about; and so is what
        was assumed too long ago."""
        now = self._now()
        if key in self._assumed:
            self._release(key)
        while self._assumed:
            oldest, held = next(iter(self._assumed.items()))
            if held.until is not None and held.until > now:
                break
            self._release(oldest)

    @property
    def assumed(self) -> int:
        """How many decisions wait for their pod."""
        return len(self._assumed)

    def misfit(self, name: str, demand: Demand, without: Sequence[str] = ()) -> str | None:
        """Why it does not fit, empty if it does, also `without` those pods; None if the node is
        not known."""
        node = self.board.nodes.get(name)
        if node is None:
            return None
        if without:
            held = {k: h for k, h in self._on.get(name, {}).items() if k not in without}
            node = self._filled(self._nodes[name], held)
        return misfit(node, demand)

    # The nodes' states

    def _hold(self, key: str, held: Held) -> None:
        self._release(key)
        self._held[key] = held
        if held.until is not None:
            self._assumed[key] = held
        self._on.setdefault(held.node, {})[key] = held
        self._refill(held.node)

    def _release(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is None:
            return
        self._assumed.pop(key, None)
        pods = self._on[held.node]
        del pods[key]
        if not pods:
            del self._on[held.node]
        self._refill(held.node)

    def _refill(self, name: str) -> None:
        """Make the node's state anew: no sum of changes can drift."""
        node = self._nodes.get(name)
        if node is not None:
            self.board.nodes[name] = self._filled(node, self._on.get(name, {}))

    def _filled(self, node: Node, held: Mapping[str, Held]) -> NodeState:
        try:
            model, cpu_milli, memory_mib, gpus = self.reading.capacity_of(node)
        except ValueError:
            self.unreadable += 1
            model, cpu_milli, memory_mib, gpus = "", 0, 0, 0
        state = NodeState(node.metadata.name, model, cpu_milli, memory_mib, [WHOLE] * gpus)
        for one in held.values():
            one.chosen = _still(state, one) or self._chosen(state, one.demand)
            state.take(one.demand, one.chosen)
            state.free[:] = [max(0, milli) for milli in state.free]
        return state

    def _chosen(self, state: NodeState, demand: Demand) -> tuple[int, ...]:
        """The GPUs that packing would take; the freest ones where it does not fit, as the counts
        are not the truth."""
        if not demand.gpus or not state.free:
            return ()
        cpu_milli = max(state.cpu_milli, demand.cpu_milli)
        free = NodeState(state.name, state.model, cpu_milli, demand.memory_mib, list(state.free))
        anywhere = structs.replace(demand, models=frozenset())
        found = Board([free], self.board.workload).cost(state.name, anywhere)
        if found is not None:
            return found.chosen
        freest = sorted(range(len(state.free)), key=lambda index: -state.free[index])
        return tuple(freest[: demand.gpus])


def _still(state: NodeState, held: Held) -> tuple[int, ...]:
    """The GPUs that it had, if they are there and have room."""
    fits = all(
        index < len(state.free) and state.free[index] >= held.demand.gpu_milli
        for index in held.chosen
    )
    return held.chosen if fits else ()


def _labels(node: Node) -> Mapping[str, str]:
    return node.metadata.labels or {}
