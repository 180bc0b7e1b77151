"""Shares of the cluster's GPUs between namespaces, where the cluster is full; no pod waits for ever
because of them."""

from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import Struct, field

from deviceplugin.scheduler.demand import WHOLE, Demand
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.state import Cluster

FULL = 0.95  # of the GPUs are held: below it nobody is in anybody's way
LOOK_S = 1.0  # how long sums are good


class FairShare(Struct, frozen=True, kw_only=True):
    """`weights` of namespaces, 1 for the others; a pod that waits for `starving_s` is let through
    whatever its namespace holds."""

    weights: Mapping[str, int] = field(default_factory=dict)
    starving_s: float = 300.0


class Fairness:
    """Who holds how much, and who waits; `now` gives Unix seconds."""

    def __init__(self, cluster: Cluster, shares: FairShare, now: Callable[[], float]) -> None:
        self._cluster, self._shares, self._now = cluster, shares, now
        self._due = float("-inf")
        self._held: dict[str, int] = {}
        self._waiting: set[str] = set()
        self._capacity = 0

    def refusal(self, pod: Pod, demand: Demand) -> str:
        """Why the pod has to let others go first; empty if it has not."""
        gpu_milli = self._cluster.milli_of(demand)
        if not gpu_milli:
            return ""
        if self._now() >= self._due:
            self._look()
        name = pod.metadata.namespace
        if sum(self._held.values()) < FULL * self._capacity or self._waited(pod):
            return ""
        mine = self._share(name)
        poorer = [
            other
            for other in self._waiting
            if other != name and self._held.get(other, 0) < self._share(other)
        ]
        if not poorer or self._held.get(name, 0) + gpu_milli <= mine:
            return ""
        return (
            f"the cluster is full and {name} holds {self._held.get(name, 0) / WHOLE:g} GPUs of its"
            f" {mine / WHOLE:.1f}, while {', '.join(sorted(poorer)[:3])} waits"
        )

    def _share(self, namespace: str) -> float:
        """Thousandths of a GPU."""
        active = {namespace, *self._waiting, *(n for n, held in self._held.items() if held)}
        weights = sum(self._shares.weights.get(name, 1) for name in active)
        return self._capacity * self._shares.weights.get(namespace, 1) / weights

    def _waited(self, pod: Pod) -> bool:
        try:
            made = datetime.fromisoformat(pod.metadata.creation_timestamp or "")
        except ValueError:
            return False
        return self._now() - made.timestamp() >= self._shares.starving_s

    def _look(self) -> None:
        self._due = self._now() + LOOK_S
        self._held, self._waiting = {}, set()
        for held in self._cluster.everything_held():
            if held.pod is not None:
                name = held.pod.metadata.namespace
                milli = self._cluster.milli_of(held.demand, held.node)
                self._held[name] = self._held.get(name, 0) + milli
        for pod in self._cluster.pods():
            if not pod.spec.node_name and not pod.has_ended and self._cluster.asks_gpus(pod):
                self._waiting.add(pod.metadata.namespace)
        self._capacity = self._cluster.board.given_milli
