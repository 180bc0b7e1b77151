"""The cluster as the scheduler knows it: nodes and pods by watch, and its own decisions until
their pods show up.

Which of a node's GPUs a pod holds its daemon tells, or the kubelet in the pod's status. Where
neither does, it is the choice that packing would have made.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from msgspec import structs

from deviceplugin.kubernetes.facts import ANNOTATION, NodeFacts
from deviceplugin.scheduler.asking import about_of, facts_of
from deviceplugin.scheduler.board import Board, CostOf
from deviceplugin.scheduler.demand import WHOLE, Demand, Workload
from deviceplugin.scheduler.filling import empty, fill, is_divided, shapes_of
from deviceplugin.scheduler.held import Held, held_by
from deviceplugin.scheduler.objects import Node, Pod, Reading, demands_of, labels_of
from deviceplugin.scheduler.packing import Cost, NodeState, cost, given_milli, misfit
from deviceplugin.scheduler.partitions import NO_SHAPES, Shapes, milli_of

ASSUMED_S = 30.0  # a binding that has not shown up by then was not made
MAX_ASSUMED = 10_000


class Cluster:
    """Nodes with what is free on each; not thread-safe: it lives on the loop. `cost_of` is for
    simulations of other rules."""

    def __init__(
        self, reading: Reading, now: Callable[[], float], cost_of: CostOf | None = None
    ) -> None:
        self.reading, self._now = reading, now
        self.board = Board([], Workload([]), cost_of or _cost_by(reading))
        self._facts: dict[str, NodeFacts] = {}
        self._shapes: dict[str, Shapes] = {}  # by model
        self._nodes: dict[str, Node] = {}
        self._held: dict[str, Held] = {}
        self._on: dict[str, dict[str, Held]] = {}  # by node, then by pod
        self._pods: dict[str, Pod] = {}
        self._assumed: dict[str, Held] = {}  # those of _held that have an end, oldest first
        self.unreadable = 0
        self.bound = {True: 0, False: 0}  # pods with GPUs, by whether this process was asked

    @property
    def with_facts(self) -> int:
        """How many nodes have a daemon that tells of their GPUs."""
        return len(self._facts)

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
        if before is None or _told(before) != _told(node):
            facts = facts_of(node.metadata.annotations or {})
            self._facts.pop(name, None)
            if facts is not None and not is_divided(facts, self.reading.gpus):
                self._facts[name] = facts
                model = labels_of(node).get(self.reading.model_label, "")
                known = self._shapes.setdefault(model, Shapes(model=model))
                known.of.update(shapes_of(facts))
            self._refill(name)

    def remove_node(self, name: str) -> None:
        """The node is gone."""
        for known in (self._nodes, self._facts, self.board.nodes):
            known.pop(name, None)

    def set_pods(self, pods: Iterable[Pod]) -> None:
        """All pods there are."""
        found = {pod.key: pod for pod in pods}
        for key in [*self._pods.keys() - found.keys()]:
            self.remove_pod(key)
        for pod in found.values():
            self.put_pod(pod)

    def put_pod(self, pod: Pod) -> None:
        """The pod is new or changed."""
        before, self._pods[pod.key] = self._pods.get(pod.key), pod
        if not pod.holds:
            if pod.spec.node_name:  # it has ended; a pending one may be assumed
                self._release(pod.key)
            return
        held = self._held.get(pod.key)
        if before is not None and not before.spec.node_name and self.asks_gpus(pod):
            self.bound[held is not None] += 1
        if held is not None and held.node == pod.spec.node_name:
            held.until, held.pod = None, pod
            self._assumed.pop(pod.key, None)
            if before is None or before.ids != pod.ids:
                self._refill(held.node)
            return
        try:
            demand = held_by(self.reading, pod)
        except ValueError:
            self.unreadable += 1
            return
        self._hold(pod.key, Held(pod.spec.node_name, demand, pod=pod))

    def remove_pod(self, key: str) -> None:
        """The pod is gone."""
        self._pods.pop(key, None)
        self._release(key)

    def expect_what_is_there(self) -> None:
        """Make the workload anew of the pods that are there now."""
        self.board.expect(Workload(demands_of(self.reading, self._pods.values())))

    # Decisions

    def reserve(self, key: str, held: Held, seconds: float = ASSUMED_S) -> None:
        """Hold it until the pod shows up, so long at most."""
        if len(self._assumed) < MAX_ASSUMED:
            held.until = self._now() + seconds
            self._hold(key, held)

    def release(self, key: str) -> None:
        """What was assumed of the pod did not come about."""
        if key in self._assumed:
            self._release(key)

    def forget(self, key: str) -> None:
        """The pod is asked for again, so what was assumed of it did not come about; and so is what
        was assumed too long ago. What is reserved for a whole group stays."""
        now = self._now()
        if key in self._assumed and not self._assumed[key].group:
            self._release(key)
        for old in [k for k, held in self._assumed.items() if (held.until or 0.0) <= now]:
            self._release(old)

    # What others ask

    def held(self, key: str) -> Held | None:
        """What a pod holds, by what is watched or assumed."""
        return self._held.get(key)

    def held_on(self, name: str) -> Iterable[str]:
        """The pods that hold anything of the node."""
        return self._on.get(name, {})

    def everything_held(self) -> Iterable[Held]:
        """All that is held."""
        return self._held.values()

    def pod(self, key: str) -> Pod | None:
        """The pod, None if there is none."""
        return self._pods.get(key)

    def pods(self) -> Iterable[Pod]:
        """All pods there are."""
        return self._pods.values()

    def asks_gpus(self, pod: Pod) -> bool:
        """Whether it asks for any."""
        try:
            return held_by(self.reading, pod).asks
        except ValueError:
            return False

    def judged_by(self, name: str) -> str:
        """By what a node is judged: the facts of its daemon, or its counts."""
        return "facts" if name in self._facts else "counts"

    def packed(self) -> Mapping[str, float]:
        """Thousandths of GPUs: `capacity`, `free`, and of the free `fragment`, which the expected
        pods cannot use, where any are expected."""
        free = fragment = 0.0
        workload = self.board.workload
        for node in list(self.board.nodes.values()):
            gpus = tuple(sorted(node.free, reverse=True))
            free += node.free_milli
            fragment += workload.fragment(node.model, node.cpu_milli, gpus)
            shapes = node.about.shapes if node.about else NO_SHAPES
            fragment += sum(workload.parts.unusable(gpu, shapes) for gpu in node.cut.values())
        packed = {"capacity": WHOLE * self.gpus, "free": free}
        return packed | ({"fragment": fragment} if workload.expects else {})

    @property
    def gpus(self) -> int:
        """How many GPUs the nodes have, whole ones and those that are cut."""
        return sum(len(node.free) or len(node.cut) for node in list(self.board.nodes.values()))

    @property
    def given_milli(self) -> int:
        """Thousandths of GPUs that pods hold or could be given."""
        return sum(given_milli(node) for node in list(self.board.nodes.values()))

    def milli_of(self, demand: Demand, node: str = "") -> int:
        """Thousandths of a GPU that a demand is in all; its parts by the model of the node, and
        without one by the model of which they are most. Parts of which no daemon tells the size
        count nothing."""
        if not demand.parts:
            return demand.total_milli
        there = self.board.nodes.get(node)
        models = [there.model] if there else [*self._shapes]
        known = (milli_of(demand.parts, self._shapes.get(m, NO_SHAPES)) for m in models)
        return demand.total_milli + max(known, default=0)

    @property
    def assumed(self) -> int:
        """How many decisions wait for their pod."""
        return len(self._assumed)

    def misfit(self, name: str, demand: Demand, without: Collection[str] = ()) -> str | None:
        """Why it does not fit, empty if it does, also `without` those pods; None if the node is
        not known."""
        node = self.board.nodes.get(name)
        if node is None:
            return None
        if without:
            held = {k: h for k, h in self._on.get(name, {}).items() if k not in without}
            node = self._filled(self._nodes[name], held)
        return misfit(node, demand)

    def cost_without(self, key: str, name: str, demand: Demand) -> Cost | None:
        """What the demand costs on the node as it would be without a pod; None if it does not fit,
        or the node is not known."""
        node, held = self._nodes.get(name), self._on.get(name, {})
        if node is None or key not in held:
            return self.board.cost(name, demand)
        state = self._filled(node, {k: one for k, one in held.items() if k != key})
        return self.board.cost_of(state, demand)

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
        name = node.metadata.name
        facts = self._facts.get(name)
        try:
            state = empty(node, facts, self.reading)
        except ValueError:
            self.unreadable += 1
            state = NodeState(name, "", 0, 0, [])
        pods = self._on.get(name, {}).values()
        apps = frozenset(one.pod.app for one in pods if one.pod and one.pod.app)
        about = about_of(name, labels_of(node), facts, self.reading.asking)
        shapes = self._shapes.get(state.model, NO_SHAPES)
        state.about = structs.replace(about, apps=apps, shapes=shapes)
        fill(state, held, facts, self.board.workload)
        return state


def _cost_by(reading: Reading) -> CostOf:
    return partial(cost, weights=reading.asking.weights)


def _told(node: Node) -> tuple[object, ...]:
    annotations = node.metadata.annotations or {}
    return node.status, labels_of(node), annotations.get(ANNOTATION)
