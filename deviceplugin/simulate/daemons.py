"""What the nodes' daemons would tell while a trace is replayed: which parts of GPUs are held; pure.

What a daemon told of the pods that are there now is left out: a replay begins with empty nodes.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from deviceplugin.kubernetes.facts import ANNOTATION, GpuFacts, NodeFacts, PartFacts, written
from deviceplugin.scheduler.asking import facts_of
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.filling import cut_of
from deviceplugin.scheduler.objects import Node
from deviceplugin.scheduler.partitions import Expected, Shapes, Taken, choose


def emptied(node: Node) -> Node:
    """The node as its daemon would tell of it if no pod were there: no load, all parts free."""
    facts = facts_of(node.metadata.annotations or {})
    return node if facts is None else _telling(node, _empty(facts))


def _empty(facts: NodeFacts) -> NodeFacts:
    gpus = tuple(
        structs.replace(
            gpu,
            load=None,
            celsius=None,
            parts={
                name: structs.replace(one, free=tuple(sorted({*one.free, *one.held})), held=())
                for name, one in gpu.parts.items()
            },
        )
        for gpu in facts.gpus
    )
    return structs.replace(facts, gpus=gpus, held={})


def _telling(node: Node, facts: NodeFacts) -> Node:
    annotations = {**(node.metadata.annotations or {}), ANNOTATION: written(facts)}
    return structs.replace(node, metadata=structs.replace(node.metadata, annotations=annotations))


class Daemons:
    """Those of nodes whose GPUs are cut."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        found = {
            node.metadata.name: (node, facts_of(node.metadata.annotations or {})) for node in nodes
        }
        self._told: dict[str, tuple[Node, NodeFacts]] = {
            name: (node, facts)
            for name, (node, facts) in found.items()
            if facts is not None and any(gpu.parts for gpu in facts.gpus)
        }
        self._taken: dict[str, Sequence[Taken]] = {}

    def took(
        self, key: str, name: str, demand: Demand, judged: tuple[Expected, Shapes]
    ) -> Node | None:
        """A pod has parts of the node's GPUs; the node that tells so, None if it tells nothing
        new."""
        if name not in self._told or not demand.parts:
            return None
        expected, shapes = judged
        _, facts = self._told[name]
        cut = {at: cut_of(gpu) for at, gpu in enumerate(facts.gpus) if gpu.parts}
        taken = choose(cut, demand.parts, expected, shapes).taken
        self._taken[key] = taken
        return self._tell(name, taken, held=True)

    def left(self, key: str, name: str) -> Node | None:
        """The pod is gone; as `took`."""
        taken = self._taken.pop(key, ())
        return self._tell(name, taken, held=False) if taken else None

    def _tell(self, name: str, taken: Sequence[Taken], *, held: bool) -> Node:
        node, facts = self._told[name]
        gpus = list(facts.gpus)
        for one in taken:
            gpus[one.gpu] = _changed(gpus[one.gpu], one, held=held)
        facts = structs.replace(facts, gpus=tuple(gpus))
        node = _telling(node, facts)
        self._told[name] = (node, facts)
        return node


def _changed(gpu: GpuFacts, taken: Taken, *, held: bool) -> GpuFacts:
    part = gpu.parts[taken.resource]
    free, used = {*part.free}, {*part.held}
    source, target = (free, used) if held else (used, free)
    source.discard(taken.start)
    target.add(taken.start)
    changed = PartFacts(part.size, part.starts, tuple(sorted(free)), tuple(sorted(used)), part.ill)
    parts: Mapping[str, PartFacts] = {**gpu.parts, taken.resource: changed}
    return structs.replace(gpu, parts=dict(parts))
