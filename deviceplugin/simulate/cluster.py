"""A cluster as a trace: nodes and pods as `kubectl get -o json` prints them; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from deviceplugin.scheduler.asking import about_of, facts_of
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.filling import empty, is_divided, shapes_of, used_parts
from deviceplugin.scheduler.objects import Node, Pod, Reading, labels_of
from deviceplugin.scheduler.partitions import Shapes, after
from deviceplugin.scheduler.room import NodeState

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
    labels, facts = labels_of(node), facts_of(node.metadata.annotations or {})
    if facts is not None and is_divided(facts, reading.gpus):
        facts = None
    state = empty(node, facts, reading)
    known = shapes.setdefault(state.model, Shapes(model=state.model))
    if facts is not None:
        known.of.update(shapes_of(facts))
        state.cut = after(state.cut, used_parts(state.cut, facts), -1)
    about = about_of(state.name, labels, facts, reading.asking)
    state.about = structs.replace(about, shapes=known)
    return state


def cluster_pods(items: Sequence[Any], reading: Reading) -> Sequence[Demand]:
    """What the pods ask for that have to be placed, by name. Raises ValueError."""
    pods = [one for one in msgspec.convert(items, list[Pod]) if one.owner[0] not in _BOUND]
    pods.sort(key=lambda one: (one.metadata.namespace, one.metadata.name))
    return [reading.demand_of(one) for one in pods]


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
