"""The extender as a process: its watches, its HTTP server, its metrics."""

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import structlog
from msgspec import Struct

from deviceplugin.kubernetes.api import Api
from deviceplugin.metrics.registry import CONTENT_TYPE, Counter, Family, Histogram, Registry
from deviceplugin.runtime.guard import start_guarded
from deviceplugin.scheduler.demand import WHOLE
from deviceplugin.scheduler.extender import Document, Extender
from deviceplugin.scheduler.fairness import Fairness, FairShare
from deviceplugin.scheduler.http import Answer, Request, serve
from deviceplugin.scheduler.notes import Notes
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.watch import Kind, Watch

log = structlog.get_logger()

WORKLOAD_S = 600.0  # how often the expected pods are counted anew
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Settings(Struct, frozen=True, kw_only=True):
    """Where the extender listens, with which certificate, how GPUs are asked for, by which shares
    of namespaces, and whether it writes Events on pods."""

    address: tuple[str, int]
    reading: Reading = Reading()
    tls: ssl.SSLContext | None = None
    fair: FairShare | None = None
    events: bool = False


class Service:
    """Puts the extender's parts together."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self.cluster = Cluster(settings.reading, now)
        fair = settings.fair
        self._notes: Notes | None = None
        self._extender = Extender(
            self.cluster, Fairness(self.cluster, fair, time.time) if fair else None, self._decided
        )
        self._decisions = Counter(
            "deviceplugin_scheduler_decisions_total",
            "decisions about pods: by the facts of the node's daemon, by counts, or refused",
            ["path"],
        )
        self._missing = {"nodes", "pods"}
        self._requests = Counter(
            "deviceplugin_scheduler_requests_total",
            "calls of kube-scheduler by verb and outcome",
            ["verb", "outcome"],
        )
        self._seconds = Histogram(
            "deviceplugin_scheduler_request_seconds",
            "how long a call of kube-scheduler took",
            "verb",
            _BOUNDS,
        )
        self._registry = Registry()
        self._registry.register_all(
            {
                "requests": self._requests,
                "seconds": self._seconds,
                "decisions": self._decisions,
                "cluster": self,
            }
        )

    async def run(self, api: Api, listening: Callable[[int], None] = lambda _: None) -> None:
        """Serve until cancelled; raises OSError if the address cannot be had."""
        server = await serve(self._answer, self._settings.address, self._settings.tls)
        port = server.sockets[0].getsockname()[1]
        log.info("scheduler_listening", address=self._settings.address[0], port=port)
        listening(port)
        loop = asyncio.get_running_loop()
        watches = (
            Watch(api, "/api/v1/nodes", Node, partial(_on_loop, loop, self._nodes)),
            Watch(api, "/api/v1/pods", Pod, partial(_on_loop, loop, self._pods)),
        )
        for watch in watches:
            start_guarded("scheduler-watch", watch.run)
        if self._settings.events:
            self._notes = Notes(api)
            start_guarded("scheduler-events", self._notes.run)
        try:
            await self._count_workload(asyncio.sleep)
        finally:
            server.close()  # waiting for it would be for connections that last
            for watch in watches:
                watch.stop.set()
            if self._notes is not None:
                self._notes.stop()

    async def _count_workload(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        while True:
            await sleep(WORKLOAD_S)
            self.cluster.expect_what_is_there()

    def collect(self) -> Sequence[Family]:
        """How much is known."""
        nodes, pods = self.cluster.size
        known = Family("deviceplugin_scheduler_objects", "gauge", "what is known", ["kind"])
        counts = {
            "node": nodes,
            "node_with_facts": self.cluster.with_facts,
            "pod": pods,
            "assumption": self.cluster.assumed,
        }
        for kind, count in counts.items():
            known.add([kind], count)
        unreadable = Family(
            "deviceplugin_scheduler_unreadable_total", "counter", "quantities that are none"
        )
        unreadable.add([], self.cluster.unreadable)
        return [known, unreadable, *self._packed(), *self._events()]

    def _packed(self) -> Iterator[Family]:
        gpus = Family(
            "deviceplugin_scheduler_gpus",
            "gauge",
            "GPUs of the cluster, by what they are",
            ["kind"],
        )
        for kind, milli in self.cluster.packed().items():
            gpus.add([kind], milli / WHOLE)
        yield gpus

    def _events(self) -> Iterator[Family]:
        if self._notes is not None:
            events = Family(
                "deviceplugin_scheduler_events_total", "counter", "Events on pods", ["outcome"]
            )
            events.add(["written"], self._notes.written)
            events.add(["left_out"], self._notes.left_out)
            yield events

    # On the loop

    def _decided(self, pod: Pod, why: Document) -> None:
        self._decisions.inc(why["best"][0]["by"] if why["best"] else "refused")
        if self._notes is not None:
            self._notes.decided(pod, why)

    def _nodes(self, kind: Kind, nodes: Sequence[Node]) -> None:
        if kind == "SET":
            self.cluster.set_nodes(nodes)
            self._missing.discard("nodes")
        for node in nodes if kind != "SET" else ():
            if kind == "DELETED":
                self.cluster.remove_node(node.metadata.name)
            else:
                self.cluster.put_node(node)

    def _pods(self, kind: Kind, pods: Sequence[Pod]) -> None:
        if kind == "SET":
            self.cluster.set_pods(pods)
            if "pods" in self._missing:
                self.cluster.expect_what_is_there()
            self._missing.discard("pods")
        for pod in pods if kind != "SET" else ():
            if kind == "DELETED":
                self.cluster.remove_pod(pod.key)
            else:
                self.cluster.put_pod(pod)

    def _answer(self, request: Request) -> Answer:
        path = request.path.partition("?")[0].strip("/")
        verb = path.rpartition("/")[2]
        if request.method == "POST" and verb in self._extender.verbs:
            return self._verb(verb, request.body)
        if path.startswith("explain/") and request.method == "GET":
            found = self._extender.explained(path.removeprefix("explain/"))
            return (
                _json(found)
                if found
                else _text("no decision about this pod is known\n", "404 Not Found")
            )
        pages: Mapping[str, Callable[[], Answer]] = {
            "metrics": lambda: Answer(self._registry.text().encode(), "200 OK", CONTENT_TYPE),
            "healthz": lambda: _text("ok\n"),
            "readyz": self._ready,
        }
        if request.method == "GET" and path in pages:
            return pages[path]()
        return _text(
            "there is filter, prioritize, preempt (POST), explain, metrics\n", "404 Not Found"
        )

    def _ready(self) -> Answer:
        if self._missing:
            waiting = f"waiting for the list of {' and '.join(sorted(self._missing))}\n"
            return _text(waiting, "503 Service Unavailable")
        return _text("ok\n")

    def _verb(self, verb: str, body: bytes) -> Answer:
        started = time.perf_counter()
        if self._missing:  # `ignorable` goes on without us; a wrong answer would count
            self._requests.inc(verb, "not_ready")
            return self._ready()
        try:
            answer = Answer(self._extender.verbs[verb](body))
        except ValueError as error:
            self._requests.inc(verb, "bad_request")
            return _text(f"{error}\n", "400 Bad Request")
        self._requests.inc(verb, "ok")
        self._seconds.observe(verb, time.perf_counter() - started)
        return answer


def _on_loop(
    loop: asyncio.AbstractEventLoop,
    changed: Callable[[Kind, Sequence[Any]], None],  # Any: nodes or pods
    kind: Kind,
    objects: Sequence[Any],
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(changed, kind, objects)


def _json(document: object) -> Answer:
    return Answer(json.dumps(document, indent=2).encode() + b"\n")


def _text(text: str, status: str = "200 OK") -> Answer:
    return Answer(text.encode(), status, "text/plain; charset=utf-8")
