"""Decisions of a replay with times, by the extender's own state and rules, without its messages."""

from collections.abc import Mapping

from msgspec import structs

from deviceplugin.scheduler.asking import AskingError
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.held import Held
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.packing import Cost
from deviceplugin.scheduler.room import NodeState, misfit
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.withheld import Withheld
from deviceplugin.simulate.coming import Coming
from deviceplugin.simulate.daemons import Daemons
from deviceplugin.simulate.measure import fragment_of


class Placing:
    """Puts pods on the cluster's nodes; the first of equal nodes wins, as the extender's scores
    have it where nodes are in the order of their names.

    What has no room anywhere is looked for again only where pods have left since.
    """

    def __init__(self, cluster: Cluster, withheld: Withheld, daemons: Daemons) -> None:
        self._cluster, self._withheld, self._daemons = cluster, withheld, daemons
        self._names = list(cluster.board.nodes)
        self._empty = [_copied(node) for node in cluster.board.nodes.values()]
        self._order = {name: place for place, name in enumerate(self._names)}
        # Where there may be room for what had none anywhere.
        self._room: dict[Demand, set[str]] = {}
        self._fragments: dict[str, float] = {}
        self.fragmented = 0.0
        for name in self._names:
            self._measure(name)

    def came(self, one: Coming) -> None:
        """The pod is there, and has no node."""
        self._cluster.put_pod(one.pod)

    def place(self, one: Coming) -> str:
        """The node that the pod has from now on; empty if there is none."""
        self._cluster.forget(one.pod.key)
        found = self._found(one)
        if found is not None:
            self._bind(one, found)
            return found.node
        self._withheld.found_no_room(one.pod, one.demand)
        return ""

    def _found(self, one: Coming) -> Held | None:
        pod, demand = one.pod, one.demand
        if one.group and not self._is_reserved(one) and self._best(demand, {}) is None:
            return None  # without a place for the pod itself its group has none
        try:
            withheld = self._withheld.of(pod, demand, self._names)
        except AskingError:
            return None
        held = self._cluster.held(pod.key)
        if held is not None and held.group:
            return held
        if len(withheld) == len(self._names):
            return None
        best = self._best(demand, withheld)
        return None if best is None else Held(best[0], demand, best[1].chosen, pod=pod)

    def _best(self, demand: Demand, withheld: Mapping[str, str]) -> tuple[str, Cost] | None:
        """Among the nodes that are worth a look, in their order."""
        worth = self._room.get(demand)
        names = self._names if worth is None else sorted(worth, key=self._order.__getitem__)
        best = self._cluster.board.best((n for n in names if n not in withheld), demand)
        if best is None and not withheld and not demand.wants.required:
            self._room[demand] = set()
        return best

    def _is_reserved(self, one: Coming) -> bool:
        """Whether the pod's group has a place for it."""
        held = self._cluster.held(one.pod.key)
        return held is not None and bool(held.group)

    def is_settled(self, one: Coming) -> bool:
        """Whether the pod has no room before another one leaves."""
        if self._room.get(one.demand) != set() or self._withheld.may_keep:
            return False
        return not self._is_reserved(one)

    def _bind(self, one: Coming, held: Held) -> None:
        self._cluster.reserve(one.pod.key, held)
        self._cluster.put_pod(bound(one.pod, held.node))
        board = self._cluster.board
        about = board.nodes[held.node].about
        if one.demand.parts and about is not None:
            judged = board.workload.parts, about.shapes
            node = self._daemons.took(one.pod.key, held.node, one.demand, judged)
            if node is not None:
                self._cluster.put_node(node)
        self._measure(held.node)

    def left(self, one: Coming) -> None:
        """The pod is gone."""
        held = self._cluster.held(one.pod.key)
        self._cluster.remove_pod(one.pod.key)
        if held is None:
            return
        if (node := self._daemons.left(one.pod.key, held.node)) is not None:
            self._cluster.put_node(node)
        self._measure(held.node)
        state = self._cluster.board.nodes[held.node]
        for demand, names in self._room.items():
            if demand.cpu_milli <= state.cpu_milli and not misfit(state, demand):
                names.add(held.node)

    def fits_empty(self, demand: Demand) -> bool:
        """Whether there is a node that has room for it while no other pod is there."""
        alone = structs.replace(demand.wants, required=frozenset())
        wanted = structs.replace(demand, wants=alone)
        return any(not misfit(node, wanted) for node in self._empty)

    def _measure(self, name: str) -> None:
        board = self._cluster.board
        fragment = fragment_of(board.nodes[name], board.workload)
        self.fragmented += fragment - self._fragments.get(name, 0.0)
        self._fragments[name] = fragment


def bound(pod: Pod, node: str) -> Pod:
    """The pod as it is once it has the node."""
    spec = structs.replace(pod.spec, node_name=node)
    return structs.replace(pod, spec=spec, status=structs.replace(pod.status, phase="Running"))


def _copied(node: NodeState) -> NodeState:
    return structs.replace(node, free=list(node.free), parts=dict(node.parts))
