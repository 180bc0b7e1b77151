"""The extender's verbs on the cluster's state: filter, prioritize, preempt; and why."""

from collections import Counter as Counts
from collections.abc import Callable, Mapping, Sequence
from heapq import nlargest
from typing import Any, Protocol

import msgspec
from msgspec import Struct, structs

from deviceplugin.scheduler.alike import difference, ranks
from deviceplugin.scheduler.asking import AskingError
from deviceplugin.scheduler.demand import Demand, as_document
from deviceplugin.scheduler.fairness import Fairness
from deviceplugin.scheduler.held import counts_of
from deviceplugin.scheduler.keeping import Keeping
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.packing import Cost
from deviceplugin.scheduler.preempting import is_hopeless, victims
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.wire import (
    Score,
    asked_decoder,
    preempting_decoder,
)
from deviceplugin.scheduler.withheld import Withheld

MAX_EXPLAINED = 1000
MAX_REASONS = 20
Document = dict[str, Any]
Verb = Callable[[bytes], bytes]


class Ordered(Struct, frozen=True, kw_only=True):
    """The nodes with scores, more is better, the costs of those that were judged, and who ordered
    them: the rule, or with a model also `model` and `round_robin`."""

    scores: Mapping[str, int]
    costs: Mapping[str, Cost]
    by: str = "rule"


class Orders(Protocol):
    """Who orders the nodes for a pod instead of the rule."""

    def order(self, names: Sequence[str], pod: Pod, demand: Demand) -> Ordered:
        """All of them that fit."""
        ...


class Extender:
    """Answers by the state; raises ValueError (msgspec's are some) for a body that is none."""

    def __init__(
        self,
        cluster: Cluster,
        fairness: Fairness | None = None,
        decided: Callable[[Pod, Document], None] = lambda pod, why: None,
        orders: Orders | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self._cluster, self._decided, self._orders = cluster, decided, orders
        self._withheld = Withheld(cluster, fairness, keeping)
        self._explained: dict[str, Document] = {}
        self._refused: tuple[str, Mapping[str, str]] = ("", {})  # of the pod that was filtered last

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
        names = list(asked.by_name())
        hopeless: Mapping[str, str] = {}
        try:
            demand = self._demand(asked.pod)
            failed, hopeless = self._failed(asked.pod, demand, names)
        except AskingError as error:
            demand = counts_of(self._cluster.reading, asked.pod)
            failed = dict.fromkeys(names, str(error))
            hopeless = failed
        fitting = [name for name in names if name not in failed]
        if not fitting:
            if len(names) > 1:
                self._withheld.found_no_room(asked.pod, demand)
            self._explain(asked.pod, demand, Ordered(scores={}, costs={}), failed)
        self._refused = (asked.pod.key, failed)
        if len(fitting) == 1:  # kube-scheduler takes it and does not ask for scores
            self._take(asked.pod, demand, fitting[0])
        others = {name: reason for name, reason in failed.items() if name not in hopeless}
        return msgspec.json.encode(asked.answer(fitting, others, hopeless))

    def _failed(
        self, pod: Pod, demand: Demand, names: Sequence[str]
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The nodes that the pod may not have, with the reason; and, where it may have none, those
        of them where it would not help that other pods went."""
        withheld = self._withheld.of(pod, demand, names)
        held = self._cluster.held(pod.key)
        if len(withheld) == len(names) or (held is not None and held.group):
            return withheld, withheld
        reasons = {n: self._cluster.misfit(n, demand) or withheld.get(n, "") for n in names}
        failed = {name: reason for name, reason in reasons.items() if reason}
        if len(failed) < len(names):
            return failed, {}
        nodes = self._cluster.board.nodes
        hopeless = {
            n: r for n, r in failed.items() if n in withheld or is_hopeless(nodes[n], demand)
        }
        return failed, hopeless

    def prioritize(self, body: bytes) -> bytes:
        """A score of its own for each node; the best one is assumed to be taken."""
        asked = asked_decoder.decode(body)
        names = list(asked.by_name())
        held = self._cluster.held(asked.pod.key)
        if held is not None and held.group:  # explained when it was filtered
            return msgspec.json.encode([Score(name, int(name == held.node)) for name in names])
        demand = self._demand(asked.pod)
        ordered = self._ordered(names, asked.pod, demand)
        key, failed = self._refused
        self._explain(asked.pod, demand, ordered, failed if key == asked.pod.key else {})
        scores = {name: score + 1 for name, score in ordered.scores.items()}
        best = max(scores, key=scores.__getitem__, default="")
        if best in ordered.costs:
            self._reserve(asked.pod, best, ordered.costs[best])
        return msgspec.json.encode([Score(name, scores.get(name, 0)) for name in names])

    def _take(self, pod: Pod, demand: Demand, name: str) -> None:
        """The only node that is left is the decision."""
        price = self._cluster.cost_without(pod.key, name, demand)
        if price is None:
            return
        self._explain(pod, demand, Ordered(scores={name: 1}, costs={name: price}), self._refused[1])
        if self._cluster.held(pod.key) is None:
            self._reserve(pod, name, price)

    def _reserve(self, pod: Pod, node: str, price: Cost) -> None:
        held = self._cluster.holding(pod, node)
        held.chosen = price.chosen
        self._cluster.reserve(pod.key, held)

    def _ordered(self, names: Sequence[str], pod: Pod, demand: Demand) -> Ordered:
        if self._orders is not None:
            return self._orders.order(names, pod, demand)
        costs = self._cluster.board.costs(names, demand)
        return Ordered(scores=ranks(costs), costs=costs)

    def preempt(self, body: bytes) -> bytes:
        """Those of the nodes where the pod has room once the victims are gone."""
        asked = preempting_decoder.decode(body)
        demand = self._demand(asked.pod)
        fitting = victims(self._cluster, asked.pod, demand, asked.victims())
        return msgspec.json.encode({"NodeNameToMetaVictims": fitting})

    def explained(self, pod: str) -> Document | None:
        """The last decision about `namespace/name`, or None."""
        return self._explained.get(pod)

    def _demand(self, pod: Pod) -> Demand:
        self._cluster.forget(pod.key)
        return self._cluster.demand_of(pod)

    def _explain(self, pod: Pod, demand: Demand, found: Ordered, failed: Mapping[str, str]) -> None:
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        self._explained.pop(name, None)
        if len(self._explained) >= MAX_EXPLAINED:
            del self._explained[next(iter(self._explained))]
        costs, scores = found.costs, found.scores
        ordered = nlargest(2, costs, key=scores.__getitem__)
        best = [self._told(node, costs[node], demand) for node in ordered]
        self._explained[name] = {
            "pod": name,
            "demand": as_document(demand),
            "fitting": len(costs),
            "ordered_by": found.by,
            "best": best,
            "lacking": _lacking(found.by, *(costs[node] for node in ordered))
            if len(ordered) > 1
            else "",
            "failed": _counted(list(failed.values())),
        }
        self._decided(pod, self._explained[name])

    def _told(self, node: str, cost: Cost, demand: Demand) -> Document:
        return {
            **_cost(node, cost),
            "devices": self._cluster.board.nodes[node].names_of(cost.got),
            "by": self._cluster.nodes.judged_by(node, demand),
        }


def _cost(node: str, cost: Cost) -> Document:
    return {
        "node": node,
        "gpus": list(cost.chosen),
        "partitions": [structs.asdict(one) for one in cost.taken],
        "fragment_milli": round(float(cost.fragment), 1),
        "waste_milli": round(float(cost.waste), 1),
        "stranded_milli": round(float(cost.stranded), 1),
        "affinity_milli": round(float(cost.affinity), 1),
        "balance_milli": round(float(cost.balance), 1),
        "added_watts": round(cost.watts, 1),
    }


_PARTS = {
    "fragment": "it would leave more GPU that the expected pods cannot use",
    "waste": "it would leave gaps on shared GPUs that are filled worse",
    "stranded": "it would leave more GPU without the CPUs for it",
    "affinity": "its GPUs are farther from each other or from what the pod wants near",
    "balance": "its GPUs are busier, hotter or have faults",
    "watts": "it would add more to the power that GPUs take",
}


def _lacking(by: str, best: Cost, other: Cost) -> str:
    """What the runner-up lacked: the part in which it is worst."""
    worse = {name: getattr(other, name) - getattr(best, name) for name in _PARTS}
    part = max(worse, key=worse.__getitem__)
    if worse[part] > 0:
        return _PARTS[part]
    if by == "model":
        return "nothing that the rule knows: the model expects pods to end there less together"
    return difference(best, other)


def _counted(reasons: Sequence[str]) -> Sequence[Document]:
    return [
        {"reason": reason, "nodes": nodes}
        for reason, nodes in Counts(reasons).most_common(MAX_REASONS)
    ]
