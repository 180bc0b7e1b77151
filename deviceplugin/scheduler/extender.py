"""The extender's verbs on the cluster's state: filter, prioritize, preempt; and why."""

from collections import Counter as Counts
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from deviceplugin.scheduler.board import ranks
from deviceplugin.scheduler.demand import Demand, as_document
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.packing import Cost
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.wire import (
    Score,
    asked_decoder,
    preempting_decoder,
)

MAX_EXPLAINED = 1000
MAX_REASONS = 20
Document = dict[str, Any]
Verb = Callable[[bytes], bytes]


class Extender:
    """Answers by the state; raises ValueError (msgspec's are some) for a body that is none."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._explained: dict[str, Document] = {}

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """By the last part of the path."""
        return {
            "filter": self.filter,
            "prioritize": self.prioritize,
            "preempt": self.preempt,
        }

    def filter(self, body: bytes) -> bytes:
        """Which nodes have room. One that is not known is left to kube-scheduler's own check."""
        asked = asked_decoder.decode(body)
        demand = self._demand(asked.pod)
        fitting, failed = [], {}
        for name in asked.by_name():
            reason = self._cluster.misfit(name, demand)
            if reason:
                failed[name] = reason
            else:
                fitting.append(name)
        if not fitting:
            self._explain(asked.pod, demand, {}, failed)
        return msgspec.json.encode(asked.answer(fitting, failed))

    def prioritize(self, body: bytes) -> bytes:
        """A score of its own for each node; the best one is assumed to be taken."""
        asked = asked_decoder.decode(body)
        demand = self._demand(asked.pod)
        names = list(asked.by_name())
        costs = self._cluster.board.costs(names, demand)
        scores = {name: score + 1 for name, score in ranks(costs).items()}
        self._explain(asked.pod, demand, costs, {})
        if costs:
            best = max(scores, key=scores.__getitem__)
            self._cluster.assume(asked.pod.key, best, demand, costs[best].chosen)
        return msgspec.json.encode([Score(name, scores.get(name, 0)) for name in names])

    def preempt(self, body: bytes) -> bytes:
        """Those of the nodes where the pod has room once the victims are gone."""
        asked = preempting_decoder.decode(body)
        demand = self._demand(asked.pod)
        fitting = {
            name: victims
            for name, victims in asked.victims().items()
            if not self._cluster.misfit(name, demand, [pod.uid for pod in victims.pods or []])
        }
        return msgspec.json.encode({"NodeNameToMetaVictims": fitting})

    def explained(self, pod: str) -> Document | None:
        """The last decision about `namespace/name`, or None."""
        return self._explained.get(pod)

    def _demand(self, pod: Pod) -> Demand:
        self._cluster.forget(pod.key)
        return self._cluster.reading.demand_of(pod)

    def _explain(
        self, pod: Pod, demand: Demand, costs: Mapping[str, Cost], failed: Mapping[str, str]
    ) -> None:
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        self._explained.pop(name, None)
        if len(self._explained) >= MAX_EXPLAINED:
            del self._explained[next(iter(self._explained))]
        ordered = sorted(costs, key=lambda node: (costs[node].key, node))
        self._explained[name] = {
            "pod": name,
            "demand": as_document(demand),
            "fitting": len(costs),
            "best": [_cost(node, costs[node]) for node in ordered[:2]],
            "failed": _counted(list(failed.values())),
        }


def _cost(node: str, cost: Cost) -> Document:
    return {
        "node": node,
        "gpus": list(cost.chosen),
        "fragment_milli": round(cost.fragment, 1),
        "waste_milli": round(cost.waste, 1),
        "stranded_milli": round(cost.stranded, 1),
    }


def _counted(reasons: Sequence[str]) -> Sequence[Document]:
    return [
        {"reason": reason, "nodes": nodes}
        for reason, nodes in Counts(reasons).most_common(MAX_REASONS)
    ]
