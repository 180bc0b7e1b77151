"""A cluster as a trace: nodes and pods as `kubectl get -o json` prints them; pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct, structs

from deviceplugin.scheduler.asking import about_of, facts_of
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.filling import empty, is_divided, shapes_of
from deviceplugin.scheduler.objects import Node, Pod, Reading, labels_of
from deviceplugin.scheduler.partitions import Shapes
from deviceplugin.scheduler.room import NodeState
from deviceplugin.simulate.coming import Coming, timestamp
from deviceplugin.simulate.daemons import emptied

# What is on a node because of the node: it is nobody's to place.
_BOUND = ("DaemonSet", "Node")


class _List(Struct):
    items: list[Any]


def items_of(content: bytes) -> list[Any]:
    """The objects of a list; raises ValueError for what is none."""
    return msgspec.json.decode(content, type=_List).items


def cluster_nodes(items: Sequence[Any], reading: Reading) -> Sequence[NodeState]:
    """The nodes as if no pod were there. Raises ValueError."""
    shapes: dict[str, Shapes] = {}
    return [_node(one, reading, shapes) for one in msgspec.convert(items, list[Node])]


def _node(node: Node, reading: Reading, shapes: dict[str, Shapes]) -> NodeState:
    node = emptied(node)
    labels, facts = labels_of(node), facts_of(node.metadata.annotations or {})
    if facts is not None and is_divided(facts, reading.gpus):
        facts = None
    state = empty(node, facts, reading)
    known = shapes.setdefault(state.model, Shapes(model=state.model))
    if facts is not None:
        known.of.update(shapes_of(facts))
    about = about_of(state.name, labels, facts, reading.asking)
    state.about = structs.replace(about, shapes=known)
    return state


def cluster_pods(items: Sequence[Any], reading: Reading) -> Sequence[Demand]:
    """What the pods ask for that have to be placed, by name. Raises ValueError."""
    pods = [one for one in msgspec.convert(items, list[Pod]) if one.owner[0] not in _BOUND]
    pods.sort(key=lambda one: (one.metadata.namespace, one.metadata.name))
    return [reading.demand_of(one) for one in pods]


class _Terminated(Struct, rename="camel"):
    finished_at: str | None = None


class _State(Struct):
    terminated: _Terminated | None = None


class _Container(Struct):
    state: _State | None = None


class _Condition(Struct, rename="camel"):
    last_transition_time: str | None = None


class _Status(Struct, rename="camel"):
    container_statuses: list[_Container] | None = None
    conditions: list[_Condition] | None = None


class _Ending(Struct):
    """What says when a pod ended."""

    status: _Status = msgspec.field(default_factory=_Status)

    def at(self) -> float | None:
        """When its last container did; an evicted pod may have told of none, but it has conditions,
        which changed then."""
        containers = self.status.container_statuses or []
        ends = [one.state.terminated for one in containers if one.state]
        times = [_unix(end.finished_at) for end in ends if end and end.finished_at]
        if not times:
            changed = [one.last_transition_time for one in self.status.conditions or []]
            times = [_unix(text) for text in changed if text]
        return max(times, default=None)


def cluster_coming(
    items: Sequence[Any], reading: Reading
) -> tuple[Sequence[Pod], Sequence[Coming]]:
    """Pods that stay where they are because they are there because of the node, and the others with
    their times. One that still runs, or waits, never leaves. Raises ValueError."""
    pods = list(zip(msgspec.convert(items, list[Pod]), items, strict=True))
    staying = [pod for pod, _ in pods if pod.owner[0] in _BOUND and pod.holds]
    return staying, [_coming(p, one, reading) for p, one in pods if p.owner[0] not in _BOUND]


def _coming(pod: Pod, item: Any, reading: Reading) -> Coming:
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    try:
        at, seconds = _times(pod, item)
        demand = reading.demand_of(pod)
    except ValueError as error:
        raise ValueError(f"pod {name}: {error}") from error
    waiting = structs.replace(
        pod,
        spec=structs.replace(pod.spec, node_name=""),
        status=structs.replace(pod.status, phase="Pending", container_statuses=None),
    )
    return Coming(at=at, pod=waiting, demand=demand, seconds=seconds)


def _times(pod: Pod, item: Any) -> tuple[float, float | None]:
    created = pod.metadata.creation_timestamp
    if not created:
        raise ValueError("metadata.creationTimestamp: nothing, expected when it was made")
    at = _unix(created)
    began = _unix(pod.status.start_time) if pod.status.start_time else at
    if began < at:
        raise ValueError(f"status.startTime: {pod.status.start_time!r} is before {created}")
    if not pod.has_ended:
        return at, None
    ended = msgspec.convert(item, _Ending).at()
    if ended is None:
        raise ValueError("it has ended, and neither containers nor conditions say when")
    if ended < began:
        raise ValueError(f"its end {timestamp(ended)} is before its start {timestamp(began)}")
    return at, ended - began


def _unix(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no time, such as 2026-01-31T12:00:00Z") from error


def without_bound(
    nodes: Sequence[NodeState], items: Sequence[Any], reading: Reading
) -> Sequence[NodeState]:
    """The nodes without what DaemonSets and static pods take of them. Raises ValueError."""
    by_name: Mapping[str, NodeState] = {node.name: node for node in nodes}
    for pod in msgspec.convert(items, list[Pod]):
        node = by_name.get(pod.spec.node_name)
        if node is not None and pod.holds and pod.owner[0] in _BOUND:
            demand = reading.demand_of(pod)
            node.cpu_milli -= demand.cpu_milli
            node.memory_mib -= demand.memory_mib
    return nodes
