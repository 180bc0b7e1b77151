"""The cluster as the scheduler knows it: nodes and pods by watch, and its own decisions until
their pods show up.

Which of a node's GPUs a pod holds its daemon tells, or the kubelet in the pod's status. Where
neither does, it is the choice that packing would have made.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from msgspec import structs

from deviceplugin.scheduler.board import Board, CostOf
from deviceplugin.scheduler.claims import Claim, DeviceClass
from deviceplugin.scheduler.demand import Demand, Workload, demands_of
from deviceplugin.scheduler.dynamic import Change, Dynamic
from deviceplugin.scheduler.held import Held, held_by
from deviceplugin.scheduler.nodes import Nodes
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.packing import Cost, cost
from deviceplugin.scheduler.partitions import NO_SHAPES, milli_of
from deviceplugin.scheduler.published import Slice
from deviceplugin.scheduler.room import NodeState, misfit
from deviceplugin.scheduler.selectors import Others, not_known

ASSUMED_S = 30.0  # a binding that has not shown up by then was not made
MAX_ASSUMED = 10_000


class Cluster:
    """Nodes with what is free on each; not thread-safe: it lives on the loop. `cost_of` is for
    simulations of other rules."""

    def __init__(
        self,
        reading: Reading,
        now: Callable[[], float],
        cost_of: CostOf | None = None,
        others: Others = not_known,
    ) -> None:
        self.reading, self._now = reading, now
        self.dynamic = Dynamic(others)
        self.nodes = Nodes(reading, self.dynamic)
        by_weights = partial(cost, weights=reading.asking.weights)
        self.board = Board([], Workload([]), cost_of or by_weights)
        self._held: dict[str, Held] = {}
        self._on: dict[str, dict[str, Held]] = {}  # by node, then by pod
        self._waiting: dict[str, set[str]] = {}  # pods that hold by a claim, by claim
        self._pods: dict[str, Pod] = {}
        self._read = 0  # the version of what selectors take by which claims were read
        self._assumed: dict[str, Held] = {}  # those of _held that have an end, oldest first
        self._unreadable = 0
        self.bound = {True: 0, False: 0}  # pods with GPUs, by whether this process was asked

    @property
    def unreadable(self) -> int:
        """How many quantities were none."""
        return self._unreadable + self.nodes.unreadable

    @property
    def size(self) -> tuple[int, int]:
        """How many nodes and pods there are."""
        return len(self.nodes.known), len(self._pods)

    # What is watched

    def set_nodes(self, nodes: Iterable[Node]) -> None:
        """All nodes there are."""
        found = {node.metadata.name: node for node in nodes}
        for name in [*self.nodes.known.keys() - found.keys()]:
            self.remove_node(name)
        for node in found.values():
            self.put_node(node)

    def put_node(self, node: Node) -> None:
        """The node is new or changed."""
        if self.nodes.put(node):
            self._refill(node.metadata.name)

    def remove_node(self, name: str) -> None:
        """The node is gone."""
        self.nodes.remove(name)
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
            if before is None or before.given != pod.given:
                self._refill(held.node)
            return
        try:
            held = self.holding(pod, pod.spec.node_name)
        except ValueError:
            self._unreadable += 1
            return
        self._hold(pod.key, held)

    def remove_pod(self, key: str) -> None:
        """The pod is gone."""
        self._pods.pop(key, None)
        self._release(key)

    def expect_what_is_there(self) -> None:
        """Make the workload anew of the pods that are there now."""
        demands = demands_of(lambda pod: self.holding(pod, "").demand, self._pods.values())
        self.board.expect(Workload(demands))

    def put_slices(self, change: Change, found: Sequence[Slice]) -> None:
        """Slices are new, changed or gone."""
        self._refill_all(self.dynamic.put_slices(change, found))

    def put_claims(self, change: Change, found: Sequence[Claim]) -> None:
        """Claims are new, changed or gone; pods that wait for one are read anew."""
        nodes = self.dynamic.put_claims(change, found)
        keys = self._waiting if change == "SET" else [one.key for one in found]
        pods = {pod for key in keys for pod in self._waiting.get(key, ())}
        self._refill_all(nodes | {self._held[pod].node for pod in pods})

    def put_classes(self, change: Change, found: Sequence[DeviceClass]) -> None:
        """Device classes are new, changed or gone."""
        self._refill_all(self.dynamic.put_classes(change, found))

    # Decisions

    def demand_of(self, pod: Pod) -> Demand:
        """What the pod asks for that it has not got. Raises ValueError."""
        return self._asking(pod, self.reading.demand_of(pod), allocated=False)[0]

    def holding(self, pod: Pod, node: str) -> Held:
        """What the pod holds there, whatever its annotations say. Raises ValueError."""
        demand, claims = self._asking(pod, held_by(self.reading, pod), allocated=True)
        return Held(node, demand, pod=pod, claims=claims)

    def _asking(
        self, pod: Pod, demand: Demand, *, allocated: bool
    ) -> tuple[Demand, tuple[str, ...]]:
        if not pod.spec.resource_claims:
            return demand, ()
        asked = self.dynamic.asked(pod, allocated=allocated)
        claims = tuple(ask for _, ask in asked)
        return structs.replace(demand, claims=claims), tuple(key for key, _ in asked)

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
            return self.holding(pod, "").demand.asks
        except ValueError:
            return False

    def milli_of(self, demand: Demand, node: str = "") -> int:
        """Thousandths of a GPU that a demand is in all; its parts by the node's model, without one
        by the model of which they are most. Parts of unknown size count nothing."""
        if not demand.parts:
            return demand.total_milli
        there = self.board.nodes.get(node)
        models = [there.model] if there else [*self.nodes.shapes]
        known = (milli_of(demand.parts, self.nodes.shapes.get(m, NO_SHAPES)) for m in models)
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
            node = self._filled(name, held)
        return misfit(node, demand)

    def cost_without(self, key: str, name: str, demand: Demand) -> Cost | None:
        """What the demand costs on the node as it would be without a pod; None if it does not fit,
        or the node is not known."""
        held = self._on.get(name, {})
        if name not in self.nodes.known or key not in held:
            return self.board.cost(name, demand)
        state = self._filled(name, {k: one for k, one in held.items() if k != key})
        return self.board.cost_of(state, demand)

    # The nodes' states

    def _hold(self, key: str, held: Held) -> None:
        self._release(key)
        self._held[key] = held
        if held.until is not None:
            self._assumed[key] = held
        self._on.setdefault(held.node, {})[key] = held
        for claim in held.claims:
            self._waiting.setdefault(claim, set()).add(key)
        self._refill(held.node)

    def _release(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is None:
            return
        self._assumed.pop(key, None)
        for claim in held.claims:
            self._waiting[claim].discard(key)
            if not self._waiting[claim]:
                del self._waiting[claim]
        pods = self._on[held.node]
        del pods[key]
        if not pods:
            del self._on[held.node]
        self._refill(held.node)

    def _refill_all(self, names: Collection[str]) -> None:
        """Where selectors may take others now, what pods with claims hold is read anew first."""
        again = {*names}
        if self._read != self.dynamic.version:
            self._read = self.dynamic.version
            for key, held in list(self._held.items()):
                if held.pod is not None and held.pod.spec.resource_claims:
                    self._reread(key, held, held.pod)
                    again.add(held.node)
        for name in again:
            self._refill(name)

    def _reread(self, key: str, held: Held, pod: Pod) -> None:
        for claim in held.claims:
            self._waiting[claim].discard(key)
        found = self.holding(pod, held.node)
        held.demand, held.claims = found.demand, found.claims
        for claim in held.claims:
            self._waiting.setdefault(claim, set()).add(key)

    def _refill(self, name: str) -> None:
        """Make the node's state anew: no sum of changes can drift."""
        if name in self.nodes.known:
            self.board.nodes[name] = self._filled(name, self._on.get(name, {}))

    def _filled(self, name: str, held: Mapping[str, Held]) -> NodeState:
        pods = self._on.get(name, {}).values()
        apps = frozenset(one.pod.app for one in pods if one.pod and one.pod.app)
        return self.nodes.filled(name, held, self.board.workload, apps)
