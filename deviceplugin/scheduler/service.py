"""The extender as a process: its watches and its HTTP server."""

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from msgspec import Struct, structs

from deviceplugin.kubernetes.api import Api
from deviceplugin.learning.settings import Learning
from deviceplugin.metrics.registry import CONTENT_TYPE
from deviceplugin.runtime.guard import start_guarded
from deviceplugin.runtime.keep import keep
from deviceplugin.scheduler.extender import Document, Extender
from deviceplugin.scheduler.fairness import Fairness, FairShare
from deviceplugin.scheduler.http import Answer, Request, Server
from deviceplugin.scheduler.keeping import Keeping
from deviceplugin.scheduler.kinds import Watched, dra_kinds
from deviceplugin.scheduler.metrics import Metrics
from deviceplugin.scheduler.notes import Notes
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.published import DRIVERS
from deviceplugin.scheduler.selectors import Others, not_known
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.watch import Changed, Kind
from deviceplugin.scheduler.watches import Watches

if TYPE_CHECKING:
    from deviceplugin.learning.runs import Run
    from deviceplugin.scheduler.advice import Advice
    from deviceplugin.scheduler.histories import Histories

log = structlog.get_logger()

WORKLOAD_S = 600.0  # how often the expected pods are counted anew


class Settings(Struct, frozen=True, kw_only=True):
    """Where the extender listens, with which certificate, how GPUs are asked for, by which shares
    of namespaces, whether it writes Events on pods, whether and how it learns, after how long a pod
    that finds no room gets a node kept for it (0: never), for how long it answers once it ends (a
    Service goes on sending requests for a while), whose ResourceSlices count, and who judges
    selectors that are no comparisons."""

    address: tuple[str, int]
    reading: Reading = Reading()
    tls: ssl.SSLContext | None = None
    fair: FairShare | None = None
    events: bool = False
    learning: Learning | None = None
    keep_after_s: float = 0.0
    linger_s: float = 5.0
    drivers: frozenset[str] = DRIVERS
    selectors: Others = not_known


class Service:
    """Puts the extender's parts together; `wall` is Unix seconds, `settle` for when it is quiet."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._settle = settings, settle
        self.cluster = Cluster(settings.reading, now, others=settings.selectors)
        fair, after_s = settings.fair, settings.keep_after_s
        self._notes: Notes | None = None
        self._advice = _advice(self.cluster, settings.learning)
        self._histories = _histories(self.cluster, settings.learning)
        fairness = Fairness(self.cluster, fair, wall) if fair else None
        keeping = Keeping(self.cluster, after_s, wall) if after_s else None
        self._extender = Extender(self.cluster, fairness, self._decided, self._advice, keeping)
        self._missing, self._pods_listed = {"nodes", "pods"}, asyncio.Event()
        self._ending, self._listed_once = asyncio.Event(), set[str]()
        self.watches = Watches(now)
        learns = (self._advice, self._histories)
        self.metrics = Metrics(self.cluster, self.watches, lambda: self._notes, *learns)

    async def run(self, api: Api, listening: Callable[[int], None] = lambda _: None) -> None:
        """Serve until cancelled; raises OSError if the address cannot be had."""
        server = Server(self.answer)
        port = await server.listen(self._settings.address, self._settings.tls)
        log.info("scheduler_listening", address=self._settings.address[0], port=port)
        listening(port)
        self.watches.start(api, self._watched())
        if self._settings.events:
            self._notes = Notes(api)
            start_guarded("scheduler-events", self._notes.run)
        try:
            await self._until_the_end(server)
        finally:
            server.close()
            self.watches.stop()
            if self._notes is not None:
                self._notes.stop()

    def end(self) -> None:
        """Be ready no longer, answer for `linger_s` who does not know it yet, and end `run`."""
        self._ending.set()

    async def _until_the_end(self, server: Server) -> None:
        work = asyncio.gather(self._count_workload(asyncio.sleep), self._learn())
        ending = asyncio.ensure_future(self._ending.wait())
        both: tuple[asyncio.Future[Any], ...] = (work, ending)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                await work  # raises
            await asyncio.sleep(self._settings.linger_s)
            await server.finish()
        finally:
            for one in both:
                one.cancel()
            await asyncio.wait(both)
            if not work.cancelled():
                work.exception()  # it was raised, or comes too late to matter

    def _watched(self) -> Iterator[tuple[Watched, Changed]]:
        yield Watched(path="/api/v1/nodes", kind=Node), self._nodes
        yield Watched(path="/api/v1/pods", kind=Pod), self._pods
        of, kinds = self.cluster, dra_kinds(self._settings.drivers)
        changes: list[Changed] = [of.put_slices, of.put_claims, of.put_classes]
        yield from ((k, partial(self._dra, k.path, c)) for k, c in zip(kinds, changes, strict=True))

    async def _count_workload(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        while True:
            await sleep(WORKLOAD_S)
            self.cluster.expect_what_is_there()
            self._settle()

    async def _learn(self) -> None:
        """Make the model anew each interval, on a thread."""
        advice, settings = self._advice, self._settings.learning
        if advice is None or settings is None:
            return
        from deviceplugin.scheduler.learner import Learner  # noqa: PLC0415  # only where it is on

        learner = Learner(settings)
        if (model := await asyncio.to_thread(learner.stored)) is not None:
            advice.take(model)

        async def once() -> None:
            runs = await self._runs(advice)
            if (found := await asyncio.to_thread(learner.learn, runs)) is not None:
                advice.take(found)

        await keep("scheduler-learning", once, settings.interval_s)

    async def _runs(self, advice: "Advice") -> "Sequence[Run]":
        """Those that were watched; with histories those of the nodes, and of nodes that gave none
        those that were watched."""
        if self._histories is None:
            return advice.runs()
        await self._pods_listed.wait()  # before it nobody knows where daemons are
        from deviceplugin.learning.nodes import merged  # noqa: PLC0415  # only where it is on

        given = await self._histories.collect()
        return await asyncio.to_thread(merged, given, dict(advice.owners), advice.runs(given))

    # On the loop

    def _decided(self, pod: Pod, why: Document) -> None:
        why["decided_at"] = datetime.now(tz=UTC).isoformat(timespec="milliseconds")
        self.metrics.decisions.inc(why["best"][0]["by"] if why["best"] else "refused")
        if self._notes is not None:
            self._notes.decided(pod, why)

    def _nodes(self, kind: Kind, nodes: Sequence[Node]) -> None:
        if kind == "SET":
            self.cluster.set_nodes(nodes)
            self._listed("nodes")
        for node in nodes if kind != "SET" else ():
            if kind == "DELETED":
                self.cluster.remove_node(node.metadata.name)
            else:
                self.cluster.put_node(node)

    def _pods(self, kind: Kind, pods: Sequence[Pod]) -> None:
        if kind == "SET":
            self.cluster.set_pods(pods)
            self._listed("pods")
            self._pods_listed.set()
        for pod in pods if kind != "SET" else ():
            if kind == "DELETED":
                self.cluster.remove_pod(pod.key)
            else:
                self.cluster.put_pod(pod)
        if self._advice is not None:
            self._advice.follow(kind, pods)

    def _dra(self, name: str, changed: Changed, kind: Kind, found: Sequence[Any]) -> None:
        changed(kind, found)
        if kind == "SET":
            self._listed(name)

    def _listed(self, name: str) -> None:
        """All of a kind are known; with the first list of each the expected pods are others."""
        self._missing.discard(name)
        if "pods" not in self._missing and name not in self._listed_once:
            self.cluster.expect_what_is_there()
        self._listed_once.add(name)
        self._settle()

    def answer(self, request: Request) -> Answer:
        """The answer to a call of kube-scheduler, or a page."""
        path = request.path.partition("?")[0].strip("/")
        verb = path.rpartition("/")[2]
        if request.method == "POST" and verb in self._extender.verbs:
            return self._verb(verb, request.body)
        if path.startswith("explain/") and request.method == "GET":
            found = self._extender.explained(path.removeprefix("explain/"))
            if found:
                return _json(found)
            text = "no decision about this pod is known"
            return structs.replace(_json({"message": text}), status="404 Not Found")
        pages: Mapping[str, Callable[[], Answer]] = {
            "metrics": lambda: Answer(
                self.metrics.registry.text().encode(), "200 OK", CONTENT_TYPE
            ),
            "healthz": lambda: _text("ok\n"),
            "readyz": self._ready,
        }
        if request.method == "GET" and path in pages:
            return pages[path]()
        return _text(
            "there is filter, prioritize, preempt (POST), explain, metrics\n", "404 Not Found"
        )

    def _ready(self) -> Answer:
        if self._ending.is_set():
            return _text("it ends\n", "503 Service Unavailable")
        if self._missing:
            waiting = f"waiting for the list of {' and '.join(sorted(self._missing))}\n"
            return _text(waiting + self.watches.told(), "503 Service Unavailable")
        return _text("ok\n" + self.watches.told())

    def _verb(self, verb: str, body: bytes) -> Answer:
        started = time.perf_counter()
        if self._missing:  # `ignorable` goes on without us; a wrong answer would count
            self.metrics.requests.inc(verb, "not_ready")
            return self._ready()
        try:
            answer = Answer(self._extender.verbs[verb](body))
        except (ValueError, RecursionError) as error:
            self.metrics.requests.inc(verb, "bad_request")
            return _text(f"{error}\n", "400 Bad Request")
        self.metrics.requests.inc(verb, "ok")
        self.metrics.seconds.observe(verb, time.perf_counter() - started)
        return answer


def _advice(cluster: Cluster, learning: Learning | None) -> "Advice | None":
    if learning is None:
        return None
    from deviceplugin.scheduler.advice import Advice  # noqa: PLC0415  # only where it is on

    return Advice(cluster, learning)


def _histories(cluster: Cluster, learning: Learning | None) -> "Histories | None":
    if learning is None or learning.histories is None:
        return None
    from deviceplugin.scheduler.histories import (  # noqa: PLC0415  # only where it is on
        Histories,
        daemons_of,
    )

    daemons = daemons_of(learning.histories)
    return Histories(learning.histories, lambda: daemons.places(cluster.pods()))


def _json(document: object) -> Answer:
    return Answer(json.dumps(document, indent=2).encode() + b"\n")


def _text(text: str, status: str = "200 OK") -> Answer:
    return Answer(text.encode(), status, "text/plain; charset=utf-8")
