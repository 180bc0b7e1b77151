"""The nodes there are, with what their daemons and their ResourceSlices tell of their GPUs: what a
node's state is when pods hold this and that."""

from collections.abc import Mapping

from msgspec import structs

from deviceplugin.kubernetes.facts import ANNOTATION, NodeFacts
from deviceplugin.scheduler.asking import about_of, facts_of
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.dynamic import Dynamic
from deviceplugin.scheduler.filling import empty, fill, is_divided, shapes_of
from deviceplugin.scheduler.held import Held
from deviceplugin.scheduler.laying import Layouts, lay, serve
from deviceplugin.scheduler.objects import Node, Reading, labels_of
from deviceplugin.scheduler.partitions import NO_SHAPES, Shapes
from deviceplugin.scheduler.room import NodeState


class Nodes:
    """Nodes by name; it lives on the loop."""

    def __init__(self, reading: Reading, dynamic: Dynamic) -> None:
        self._reading, self._dynamic = reading, dynamic
        self._facts: dict[str, NodeFacts] = {}
        self.shapes: dict[str, Shapes] = {}  # by model
        self._layouts = Layouts()
        self.known: dict[str, Node] = {}
        self.unreadable = 0

    @property
    def with_facts(self) -> int:
        """How many nodes have a daemon that tells of their GPUs."""
        return len(self._facts)

    def put(self, node: Node) -> bool:
        """The node is new or changed; whether it is another one for us."""
        name, before = node.metadata.name, self.known.get(node.metadata.name)
        self.known[name] = node
        if before is not None and _told(before) == _told(node):
            return False
        facts = facts_of(node.metadata.annotations or {})
        self._facts.pop(name, None)
        if facts is not None and not is_divided(facts, self._reading.gpus):
            self._facts[name] = facts
            model = labels_of(node).get(self._reading.model_label, "")
            known = self.shapes.setdefault(model, Shapes(model=model))
            known.of.update(shapes_of(facts))
        return True

    def remove(self, name: str) -> None:
        """The node is gone."""
        self.known.pop(name, None)
        self._facts.pop(name, None)

    def judged_by(self, name: str, demand: Demand) -> str:
        """By what a node is judged: the facts of its daemon, its slices, or its counts. Of what
        claims may have slices alone tell."""
        if demand.claims:
            return "slices" if self._dynamic.is_said(demand.claims, name) else "counts"
        if name in self._facts:
            return "facts"
        return "counts" if self._dynamic.sliced(name) is None else "slices"

    def filled(
        self, name: str, held: Mapping[str, Held], workload: Workload, apps: frozenset[str]
    ) -> NodeState:
        """The state of a node of which this is held; `apps` have pods there."""
        node, facts = self.known[name], self._facts.get(name)
        labels = labels_of(node)
        try:
            state = empty(node, facts, self._reading)
        except ValueError:
            self.unreadable += 1
            state = NodeState(name, "", 0, 0, [])
        about = about_of(name, labels, facts, self._reading.asking)
        if (sliced := self._dynamic.sliced(name)) is not None:
            lay(state, sliced, facts, self._dynamic.had(sliced), self._dynamic.selecting)
            self._serve(node, state)
            layout = self._layouts.of(state)
            about = layout.about(about) if layout is not None else about
        shapes = self.shapes.get(state.model, NO_SHAPES)
        state.about = structs.replace(about, apps=apps, shapes=shapes)
        fill(state, held, facts, workload, self._dynamic.allocated)
        return state

    def _serve(self, node: Node, state: NodeState) -> None:
        """A resource of which the device plugin gives nothing may be served by claims."""
        given = node.status.allocatable or {}
        for name in self._reading.gpus:
            if given.get(name, "0") in ("0", 0):
                selectors = self._dynamic.served(name)
                if selectors is not None:
                    serve(state, selectors)


def _told(node: Node) -> tuple[object, ...]:
    annotations = node.metadata.annotations or {}
    return node.status, labels_of(node), annotations.get(ANNOTATION)
