"""Pods that are let through together or not at all: all of a group have a place, or none."""

from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from deviceplugin.scheduler.asking import GROUP, GROUP_SIZE, AskingError
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.held import Held
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.state import Cluster

RESERVED_S = 120.0  # kube-scheduler asks for the members of a group one after the other
MAX_SIZE = 4096


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
        return self._reserve(wanted, group, names)

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
        self, wanted: Sequence[Pod], group: Group, names: Sequence[str]
    ) -> tuple[str, str]:
        demands = [self._cluster.reading.demand_of(one) for one in wanted]
        most = 0
        for domain in self._domains(demands):
            placed = self._tried(wanted, [_in(domain, d) for d in demands], (group, names))
            if len(placed) == len(wanted):
                return placed[0], ""
            most = max(most, len(placed))
            for one in wanted[: len(placed)]:
                self._cluster.release(one.key)
        where = " in one link domain" if any(d.wants.domain_required for d in demands) else ""
        return "", f"{most} of {len(wanted)} pods of the group {group.name} have room{where}"

    def _domains(self, demands: Iterable[Demand]) -> Sequence[str]:
        """The link domains to be tried, those with most room first; one empty name where pods may
        be in any."""
        if not any(demand.wants.domain_required for demand in demands):
            return [""]
        room: dict[str, int] = {}
        for node in self._cluster.board.nodes.values():
            if node.about and node.about.domain:
                domain = node.about.domain
                room[domain] = room.get(domain, 0) + sum(node.free)
        return sorted(room, key=lambda domain: (room[domain], domain))

    def _tried(
        self, wanted: Sequence[Pod], demands: Sequence[Demand], asked: tuple[Group, Sequence[str]]
    ) -> list[str]:
        """The nodes of as many of the pods as have room; what is placed is reserved."""
        group, names = asked
        placed: list[str] = []
        everywhere = tuple(self._cluster.board.nodes)
        for one, demand in zip(wanted, demands, strict=True):
            best = self._cluster.board.best(everywhere if placed else names, demand)
            if best is None:
                break
            node, cost = best
            reserved = Held(node, demand, cost.chosen, pod=one, group=group.name)
            self._cluster.reserve(one.key, reserved, RESERVED_S)
            placed.append(node)
        return placed


def _in(domain: str, demand: Demand) -> Demand:
    if not domain or not demand.wants.domain_required:
        return demand
    return structs.replace(demand, wants=structs.replace(demand.wants, domain=domain))
