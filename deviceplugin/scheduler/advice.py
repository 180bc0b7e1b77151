"""Model, rule, round robin: who orders the nodes for a pod, and what the model learns from pods
that end. It lives on the loop."""

import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct, structs

from deviceplugin.learning.killswitch import KillSwitch
from deviceplugin.learning.model import Model
from deviceplugin.learning.predict import Prediction, predict, rolling_median
from deviceplugin.learning.runs import Group, History, Run, log_of, owner_name, owner_of_pod
from deviceplugin.learning.settings import Learning
from deviceplugin.learning.train import Upper
from deviceplugin.scheduler.about import About, Wants
from deviceplugin.scheduler.alike import NO_TIES, extension, leading, ranks
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.extender import Ordered
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.packing import Cost
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.watch import Kind

MAX_RUNS = 20_000  # that ended and are remembered, to learn from without a Prometheus
MAX_OWNERS = 20_000
BUSY = 10  # tenths of load: more on one GPU is too much
PATHS = ("model", "rule", "round_robin")


class _Known(Struct):
    """A pod that runs, with what was predicted of it when it began."""

    node: str
    group: Group
    start: float
    prediction: Prediction | None
    rolling: float | None


class Advice:
    """Orders nodes and follows pods; `now` gives Unix seconds, `clock` is for the time-out."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Learning,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._settings, self._now, self._clock = cluster, settings, now, clock
        self._history, self._upper, self._switch = History(), Upper(), KillSwitch()
        self._running: dict[str, _Known] = {}
        self._ended: deque[tuple[str, Run]] = deque(maxlen=MAX_RUNS)
        self.owners: dict[tuple[str, str], str] = {}  # as learning.nodes.merged takes them
        self._last = ""
        self.model: Model | None = None
        self.counted: Counter[str] = Counter(dict.fromkeys(PATHS, 0))

    # What is learned

    def take(self, model: Model) -> None:
        """Predict by this model from now on."""
        self.model, self._history = model, model.history()
        self._upper = Upper(model.shift)
        for key, known in self._running.items():
            self._history.started(known.group, key, known.start)

    def runs(self, without: Container[str] = ()) -> list[Run]:
        """The runs that ended while this process watched, `without` those of these nodes."""
        return [run for node, run in self._ended if node not in without]

    def follow(self, kind: Kind, pods: Sequence[Pod]) -> None:
        """Pods are new, changed or gone; with SET they are all there are."""
        if kind == "SET":
            for key in [*self._running.keys() - {pod.key for pod in pods}]:
                self.gone(key)
        for pod in pods:
            if kind == "DELETED":
                self.gone(pod.key)
            else:
                self.seen(pod)

    def seen(self, pod: Pod) -> None:
        """The pod is new or changed."""
        if pod.has_ended:
            self.gone(pod.key)
        elif pod.holds and pod.key not in self._running and self._cluster.asks_gpus(pod):
            group, start = group_of(pod), _unix(pod.status.start_time) or self._now()
            known = self._predicted(group), rolling_median(self._history, group)
            self._running[pod.key] = _Known(pod.spec.node_name, group, start, *known)
            self._called(pod, group)
            self._history.started(group, pod.key, start)

    def _called(self, pod: Pod, group: Group) -> None:
        """A node knows the owner by the name of the pod alone."""
        by_name = pod.metadata.namespace, owner_of_pod(pod.metadata.name)
        self.owners.pop(by_name, None)
        self.owners[by_name] = group[1]
        if len(self.owners) > MAX_OWNERS:
            del self.owners[next(iter(self.owners))]

    def gone(self, key: str) -> None:
        """The pod runs no more."""
        known = self._running.pop(key, None)
        if known is None:
            return
        now, (namespace, owner, container) = self._now(), known.group
        self._history.ended(known.group, key)
        run = Run(
            namespace=namespace,
            owner=owner,
            container=container,
            start=known.start,
            seconds=max(1.0, now - known.start),
        )
        self._history.add(run)
        self._ended.append((known.node, run))
        if known.prediction is not None:
            was = log_of(run.seconds)
            self._upper.learn(was, known.prediction.upper)
            if known.rolling is not None:
                errors = abs(was - known.prediction.log), abs(was - known.rolling)
                self._switch.ended(now, *errors)

    @property
    def silence(self) -> str:
        """Why the model does not speak; empty if it does."""
        if self.model is None:
            return "none"
        if self._now() - self.model.made > 2 * self._settings.interval_s:
            return "old"
        return "worse" if self._switch.silent(self._now(), self.model.last_day) else ""

    def judged(self) -> Mapping[str, float]:
        """The model's figures, and its age in seconds; empty without a model."""
        if self.model is None:
            return {}
        told: dict[str, float] = {"age_seconds": self._now() - self.model.made}
        told |= structs.asdict(self.model.judged) if self.model.judged else {}
        if (day := self.model.last_day) is not None:
            told |= {"last_day_factor": day.factor, "last_day_rolling_factor": day.rolling_factor}
        return told

    # What is decided

    def order(self, names: Sequence[str], pod: Pod, demand: Demand) -> Ordered:
        """The model's order where it may speak, the rule's where not, and the nodes by turns where
        the rule was not done in time."""
        end = self._clock() + self._settings.timeout_s
        costs = self._judged(names, demand, end)
        if costs is None:
            ordered = self._by_turns(names, demand)
        else:
            ties = self._ties(pod, costs, end) if demand.gpus else NO_TIES
            by = "model" if ties else "rule"
            ordered = Ordered(scores=ranks(costs, ties), costs=costs, by=by)
        self.counted[ordered.by] += 1
        if ordered.scores:
            self._last = max(ordered.scores, key=ordered.scores.__getitem__)
        return ordered

    def _judged(
        self, names: Sequence[str], demand: Demand, end: float
    ) -> Mapping[str, Cost] | None:
        costs = dict[str, Cost]()
        for start in range(0, len(names), self._settings.batch):
            if self._clock() > end:
                return None
            some = names[start : start + self._settings.batch]
            costs.update(self._cluster.board.costs(some, demand))
        return costs

    def _by_turns(self, names: Sequence[str], demand: Demand) -> Ordered:
        """The node after the last one is the first; nodes that are known not to fit were filtered,
        so only the first one is judged, for what it holds then."""
        turn = sorted(names)
        first = next((at for at, name in enumerate(turn) if name > self._last), 0)
        turn = turn[first:] + turn[:first]
        scores = {name: len(turn) - 1 - place for place, name in enumerate(turn)}
        costs = self._cluster.board.costs(turn[:1], demand)
        return Ordered(scores=scores, costs=costs, by="round_robin")

    def _ties(
        self, pod: Pod, costs: Mapping[str, Cost], end: float
    ) -> Mapping[str, tuple[int, ...]]:
        """What the model says of the leading nodes; nothing where it is not done in time."""
        found = None if self.silence else self._predicted(group_of(pod))
        if found is None:
            return NO_TIES
        now, batch, ties = self._now(), self._settings.batch, dict[str, tuple[int, ...]]()
        for number, name in enumerate(leading(costs)):
            if number % batch == 0 and self._clock() > end:
                return NO_TIES
            about, chosen = self._cluster.board.nodes[name].about or About(), costs[name].chosen
            longer = extension(now + found.seconds, self._free_at(name, now))
            ties[name] = (*_narrow(about, chosen, found), longer)
        return ties

    def _free_at(self, name: str, now: float) -> float:
        """When the last pod of the node is predicted to end. One of which nothing is known, or that
        has run for longer than was predicted, stays as long again as it has been there."""
        latest = now
        for key in self._cluster.held_on(name):
            known = self._running.get(key)
            if known is None:
                continue
            end = known.start + known.prediction.seconds if known.prediction else now
            latest = max(latest, end if end > now else 2 * now - known.start)
        return latest

    def _predicted(self, group: Group) -> Prediction | None:
        if self.model is None:
            return None
        learned, shift = self.model.learned, self._upper.shift
        return predict(self._history, group, self._now(), learned, shift)


def _narrow(about: About, chosen: Iterable[int], found: Prediction) -> tuple[int, int]:
    """Whether the memory or the time of one of the GPUs is too little for what is predicted."""
    short = crowded = 0
    for index in chosen:
        short |= not about.suits(index, Wants(memory_mib=int(found.peak_mib or 0)))
        load = (about.gpus[index].load or 0) if index < len(about.gpus) else 0
        crowded |= load > 0 and load + 10 * (found.busy_ratio or 0.0) > BUSY
    return int(short), int(crowded)


def group_of(pod: Pod) -> Group:
    """The runs that it is like: those of its namespace, owner, and first container with GPUs."""
    return (pod.metadata.namespace, owner_name(*pod.owner), pod.container)


def _unix(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
