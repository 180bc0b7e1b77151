"""Pods that are let through together or not at all: all of a group have a place, or none."""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

from msgspec import Struct, structs

from deviceplugin.scheduler.asking import GROUP, GROUP_SIZE, LABEL, AskingError
from deviceplugin.scheduler.board import Board
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.packing import Cost
from deviceplugin.scheduler.state import Cluster

RESERVED_S = 120.0  # kube-scheduler asks for the members of a group one after the other
MAX_SIZE = 4096
MAX_REASON = 300


class Group(Struct, frozen=True):
    """A group by namespace and name, and how many pods it has when it is whole."""

    namespace: str
    name: str
    size: int


def group_of(pod: Pod) -> Group | None:
    """The group of a pod, None if it is in none; raises AskingError."""
    name = pod.annotations.get(GROUP)
    if not name:
        return None
    text = pod.annotations.get(GROUP_SIZE, "")
    size = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not LABEL.fullmatch(name):
        raise AskingError(
            f"{GROUP}: {name[:20]!r}: a name as a label has it, of 63 letters at most"
        )
    if not 1 <= size <= MAX_SIZE:
        raise AskingError(f"{GROUP_SIZE}: {text[:20]!r}: a number of pods from 1 to {MAX_SIZE}")
    return Group(pod.metadata.namespace, name, size)


class Groups:
    """Reserves places for whole groups on the cluster's state."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def place(self, pod: Pod, group: Group, names: Sequence[str]) -> tuple[str, str]:
        """The node that is reserved for the pod, or why there is none."""
        held = self._cluster.held(pod.key)
        if held is not None and held.group == group.name and held.node in names:
            return held.node, ""
        members = self._members(pod, group)
        there = [one for one in members if one.holds]
        waiting = [one for one in members if not one.holds and one.key != pod.key]
        if len(there) + len(waiting) + 1 < group.size:
            count = len(there) + len(waiting) + 1
            return "", f"{count} pods of the group {group.name} are there, {group.size} wanted"
        for one in (pod, *waiting):
            self._cluster.release(one.key)
        wanted = (pod, *waiting[: max(0, group.size - len(there) - 1)])
        return self._reserve(wanted, group, (self._domain_of(there), names))

    def _domain_of(self, there: Iterable[Pod]) -> str:
        """The link domain of those that have a node; empty where none has one that is known."""
        nodes = (self._cluster.board.nodes.get(one.spec.node_name) for one in there)
        return next((n.about.domain for n in nodes if n and n.about and n.about.domain), "")

    def _members(self, pod: Pod, group: Group) -> list[Pod]:
        found = (
            one
            for one in self._cluster.pods()
            if one.metadata.namespace == group.namespace
            and one.annotations.get(GROUP) == group.name
            and not one.has_ended
        )
        return sorted(found, key=lambda one: one.metadata.name)

    def _reserve(
        self, wanted: Sequence[Pod], group: Group, where: tuple[str, Sequence[str]]
    ) -> tuple[str, str]:
        (domain, names), demands = where, list[Demand]()
        for one in wanted:
            try:
                demands.append(self._cluster.demand_of(one))
            except ValueError as error:
                return "", f"pod {one.metadata.name} of the group {group.name}: {error}"[
                    :MAX_REASON
                ]
        required = any(demand.wants.domain_required for demand in demands)
        most = 0
        for tried in self._domains(domain) if required else [domain]:
            placed = self._tried(wanted, demands, (group, tried, names))
            if len(placed) == len(wanted):
                return placed[0], ""
            most = max(most, len(placed))
            for one in wanted[: len(placed)]:
                self._cluster.release(one.key)
        inside = " in one link domain" if required else ""
        return "", f"{most} of {len(wanted)} pods of the group {group.name} have room{inside}"

    def _domains(self, domain: str) -> Sequence[str]:
        """The link domains to be tried: that of the pods that are there, else those with least room
        first."""
        if domain:
            return [domain]
        room: dict[str, int] = {}
        for node in self._cluster.board.nodes.values():
            if node.about and node.about.domain:
                domain = node.about.domain
                room[domain] = room.get(domain, 0) + node.free_milli
        return sorted(room, key=lambda domain: (room[domain], domain))

    def _tried(
        self,
        wanted: Sequence[Pod],
        demands: Sequence[Demand],
        where: tuple[Group, str, Sequence[str]],
    ) -> list[str]:
        """The nodes of as many of the pods as have room, near each other; what is placed is
        reserved. Those that are as the first one may have its nodes; of the others it is not known
        what kube-scheduler would say."""
        group, domain, names = where
        board, placed, best = self._cluster.board, list[str](), dict[Demand, Best]()
        for one, asked in zip(wanted, demands, strict=True):
            demand = _in(domain, asked)
            if demand not in best:
                best[demand] = Best(board, names if asked == demands[0] else [*board.nodes], demand)
            found = best[demand].found()
            if found is None:
                break
            node, cost = found
            held = self._cluster.holding(one, node)
            held.demand = structs.replace(held.demand, wants=demand.wants)
            held.chosen, held.group = cost.chosen, group.name
            self._cluster.reserve(one.key, held, RESERVED_S)
            placed.append(node)
            about = board.nodes[node].about
            domain = domain or (about.domain if about else "")
            for other in best.values():
                other.changed(node)
        return placed


class Best:
    """The cheapest of some nodes for a demand, found again quickly where a node has changed."""

    def __init__(self, board: Board, names: Sequence[str], demand: Demand) -> None:
        self._board, self._demand = board, demand
        self._places = {name: place for place, name in enumerate(names)}
        costs = board.costs(names, demand)
        self._heap = [(cost.key, self._places[name], name) for name, cost in costs.items()]
        heapify(self._heap)

    def changed(self, name: str) -> None:
        """The node is not what it was."""
        cost = self._board.cost(name, self._demand) if name in self._places else None
        if cost is not None:
            heappush(self._heap, (cost.key, self._places[name], name))

    def found(self) -> tuple[str, Cost] | None:
        """The cheapest, the first of equal ones; None if none fits any longer."""
        while self._heap:
            key, _, name = self._heap[0]
            cost = self._board.cost(name, self._demand)
            if cost is not None and cost.key == key:
                return name, cost
            heappop(self._heap)  # as it was before it changed
        return None


def _in(domain: str, demand: Demand) -> Demand:
    if not domain:
        return demand
    return structs.replace(demand, wants=structs.replace(demand.wants, domain=domain))
