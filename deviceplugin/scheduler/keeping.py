"""A node that is kept for a pod that has waited for too long: small pods would take each GPU that
becomes free, and a large one would wait for ever."""

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.room import fitting_gpus
from deviceplugin.scheduler.state import Cluster

KEPT_S = 3600.0  # then another pod that waits may have its turn


class _Kept(Struct, frozen=True, kw_only=True):
    node: str
    pod: Pod
    since: float


class Keeping:
    """Keeps one node at a time, for the first pod that finds no room after it has waited for
    `after_s`; `now` gives Unix seconds."""

    def __init__(self, cluster: Cluster, after_s: float, now: Callable[[], float]) -> None:
        self._cluster, self._after_s, self._now = cluster, after_s, now
        self._kept: _Kept | None = None

    @property
    def node(self) -> str:
        """The node that is kept; empty if none is."""
        return self._kept.node if self._kept else ""

    def refusal(self, node: str, pod: Pod, demand: Demand) -> str:
        """Why the pod may not have the node; empty if it may."""
        kept = self._kept
        if kept is None or node != kept.node or not demand.asks or pod.key == kept.pod.key:
            return ""
        meta = kept.pod.metadata
        if (pod.spec.priority or 0) > (kept.pod.spec.priority or 0):
            return ""
        return f"it is kept for {meta.namespace}/{meta.name}, which has waited for too long"

    @property
    def is_free(self) -> bool:
        """Whether a pod may have a node kept for it: none is, or for a pod that got a node, is
        gone, or had its time."""
        kept = self._kept
        if kept is None:
            return True
        pod = self._cluster.pod(kept.pod.key)
        over = self._now() - kept.since > KEPT_S
        return over or pod is None or bool(pod.spec.node_name) or pod.has_ended

    def look(self) -> None:
        """Keep nothing any longer for a pod that does not need it."""
        if self.is_free:
            self._kept = None

    def found_no_room(self, pod: Pod, demand: Demand) -> None:
        """Keep a node for the pod, if it is its turn."""
        if self._kept is None and demand.asks and self._waited(pod):
            node = self._nearest(demand)
            if node:
                self._kept = _Kept(node=node, pod=pod, since=self._now())

    def _waited(self, pod: Pod) -> bool:
        try:
            made = datetime.fromisoformat(pod.metadata.creation_timestamp or "")
        except ValueError:
            return False
        return self._now() - made.timestamp() >= self._after_s

    def _nearest(self, demand: Demand) -> str:
        """Of the nodes that it fits on when they are empty, the one that lacks least."""

        def room(name: str) -> tuple[int, int, str]:
            state = nodes[name]
            gpus = len(fitting_gpus(state, demand)) if demand.gpus else 0
            parts = sum(min(state.parts.get(part, 0), count) for part, count in demand.parts)
            return -gpus - parts, -state.free_milli, name

        nodes = self._cluster.board.nodes
        for name in sorted(nodes, key=room):
            pods = [*self._cluster.held_on(name)]
            if self._cluster.misfit(name, demand, pods or [""]) == "":
                return name
        return ""
