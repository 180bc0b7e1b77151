"""The scheduler's metrics."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from deviceplugin.metrics.registry import Counter, Family, Histogram, Registry
from deviceplugin.scheduler.demand import WHOLE
from deviceplugin.scheduler.notes import Notes
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.watch import Watch

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Learns(Protocol):
    """What a model says of itself."""

    @property
    def counted(self) -> Mapping[str, int]:
        """Orders by who made them."""
        ...

    @property
    def silence(self) -> str:
        """Why the model does not speak; empty if it does."""
        ...

    def judged(self) -> Mapping[str, float]:
        """The model's figures, and its age in seconds; empty without a model."""
        ...


class Collects(Protocol):
    """What the nodes' daemons were asked for."""

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Daemons by what came of asking them the last time; empty before the first."""
        ...

    @property
    def runs(self) -> int:
        """How many runs they gave."""
        ...


class Metrics:
    """What is counted of calls and decisions, and what is known of the cluster; `notes` are None
    where no Events are written, `learns` where nothing is learned, `collects` where daemons are not
    asked for runs."""

    def __init__(
        self,
        cluster: Cluster,
        watches: Iterable[Watch],
        notes: Callable[[], Notes | None],
        learns: Learns | None = None,
        collects: Collects | None = None,
    ) -> None:
        self._cluster, self._notes, self._learns = cluster, notes, learns
        self._collects, self._watches = collects, watches
        self.requests = Counter(
            "deviceplugin_scheduler_requests_total",
            "calls of kube-scheduler by verb and outcome",
            ["verb", "outcome"],
        )
        self.seconds = Histogram(
            "deviceplugin_scheduler_request_seconds",
            "how long a call of kube-scheduler took",
            "verb",
            _BOUNDS,
        )
        self.decisions = Counter(
            "deviceplugin_scheduler_decisions_total",
            "decisions about pods: by the facts of a node's daemon, slices, counts, or refused",
            ["path"],
        )
        parts = (self.requests, self.seconds, self.decisions, self)
        self.registry = Registry()
        self.registry.register_all(
            dict(zip(("requests", "seconds", "decisions", "cluster"), parts, strict=True))
        )

    def collect(self) -> Sequence[Family]:
        """How much is known."""
        nodes, pods = self._cluster.size
        known = Family("deviceplugin_scheduler_objects", "gauge", "what is known", ["kind"])
        counts = {
            "node": nodes,
            "node_with_facts": self._cluster.nodes.with_facts,
            "node_with_slices": len(self._cluster.dynamic.nodes),
            "pod": pods,
            "assumption": self._cluster.assumed,
        }
        for kind, count in counts.items():
            known.add([kind], count)
        unreadable = Family(
            "deviceplugin_scheduler_unreadable_total", "counter", "quantities that are none"
        )
        unreadable.add([], self._cluster.unreadable)
        bound = Family(
            "deviceplugin_scheduler_bindings_total",
            "counter",
            "pods with GPUs that got a node, by whether this replica was asked",
            ["asked"],
        )
        for asked, count in self._cluster.bound.items():
            bound.add(["yes" if asked else "no"], count)
        found = (known, unreadable, bound, *self._packed(), *self._watched(), *self._events())
        return [*found, *self._learned(), *self._collected()]

    def _watched(self) -> Iterator[Family]:
        age = Family(
            "deviceplugin_scheduler_watch_age_seconds",
            "gauge",
            "since the API server was last heard of a kind of object",
            ["kind"],
        )
        failures = Family(
            "deviceplugin_scheduler_watch_failures_total",
            "counter",
            "lists and watches that failed",
            ["kind"],
        )
        left_out = Family(
            "deviceplugin_scheduler_left_out",
            "gauge",
            "objects that could not be read, or are too large",
            ["kind"],
        )
        for watch in self._watches:
            name = watch.what.name
            if (age_s := watch.age_s) is not None:
                age.add([name], age_s)
            failures.add([name], watch.failures)
            left_out.add([name], len(watch.left_out))
        yield from (age, failures, left_out)

    def _packed(self) -> Iterator[Family]:
        gpus = Family("deviceplugin_scheduler_gpus", "gauge", "GPUs of the cluster", ["kind"])
        for kind, milli in self._cluster.board.packed().items():
            gpus.add([kind], milli / WHOLE)
        yield gpus

    def _events(self) -> Iterator[Family]:
        notes = self._notes()
        if notes is not None:
            events = Family(
                "deviceplugin_scheduler_events_total", "counter", "Events on pods", ["outcome"]
            )
            events.add(["written"], notes.written)
            events.add(["left_out"], notes.left_out)
            yield events

    def _learned(self) -> Iterator[Family]:
        if self._learns is None:
            return
        orders = Family(
            "deviceplugin_scheduler_orders_total",
            "counter",
            "orders of nodes for a pod, by who made them: model, rule, round_robin",
            ["by"],
        )
        for by, count in self._learns.counted.items():
            orders.add([by], count)
        silence = self._learns.silence
        silent = Family(
            "deviceplugin_scheduler_model_silent",
            "gauge",
            "1 for the reason why the model does not speak: none, old, worse",
            ["reason"],
        )
        for reason in ("none", "old", "worse"):
            silent.add([reason], int(reason == silence))
        model = Family(
            "deviceplugin_scheduler_model", "gauge", "the model's age and figures", ["kind"]
        )
        for kind, value in self._learns.judged().items():
            model.add([kind], value)
        yield from (orders, silent, model)

    def _collected(self) -> Iterator[Family]:
        if self._collects is None or not self._collects.outcomes:
            return
        daemons = Family(
            "deviceplugin_scheduler_histories",
            "gauge",
            "daemons by what came of asking them for runs: given, off, refused, failed",
            ["outcome"],
        )
        for outcome, count in self._collects.outcomes.items():
            daemons.add([outcome], count)
        runs = Family("deviceplugin_scheduler_history_runs", "gauge", "runs that they gave")
        runs.add([], self._collects.runs)
        yield from (daemons, runs)
