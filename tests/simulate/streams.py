"""Pods that come and go, and an extender on a socket that decides about them."""

import asyncio
import http.client
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from typing import Any

import msgspec
from msgspec import structs

from deviceplugin.kubernetes.facts import ANNOTATION, GpuFacts, NodeFacts, written
from deviceplugin.scheduler.asking import GROUP, GROUP_SIZE
from deviceplugin.scheduler.http import Server
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.service import Service, Settings
from deviceplugin.simulate.coming import Coming, Timed, timestamp
from deviceplugin.simulate.compare import Rules
from deviceplugin.simulate.daemons import Daemons
from deviceplugin.simulate.placing import bound
from deviceplugin.simulate.timed import Clock
from tests.scheduler.objects import Document, node, pod
from tests.scheduler.partitions import NAMES, told

READING = Reading(shares={"example.com/share": 10})


def linked(name: str) -> Document:
    """A node of four GPUs, of which 0 and 2, and 1 and 3, have a link."""
    gpus = tuple(GpuFacts(id=f"{name}-{n}", offers={"nvidia.com/gpu": 1}) for n in range(4))
    links = ((0, 2, 1000), (1, 3, 1000), (0, 1, 40_000), (0, 3, 40_000), (1, 2, 40_000))
    document = node(name, 4)
    facts = NodeFacts(gpus=gpus, links=(*links, (2, 3, 40_000)))
    document["metadata"]["annotations"] = {ANNOTATION: written(facts)}
    return document


def coming(document: Document, at: float, seconds: float | None) -> Coming:
    document["metadata"]["creationTimestamp"] = timestamp(at)
    found = msgspec.convert(document, Pod)
    return Coming(at=at, pod=found, demand=READING.demand_of(found), seconds=seconds)


def stream(count: int, seed: int) -> Timed:
    """More than the nodes have room for: shares, several GPUs, parts, groups, priorities, links,
    neighbours."""
    chance = random.Random(seed)
    nodes = [node("a"), node("b", 2, model="A30"), linked("c"), told("d", ((0, 1, 2), ()))]
    pods: list[Coming] = []
    at = 1_000_000.0
    for number in range(count):
        at += chance.expovariate(1 / 40)
        length = chance.choice([60.0, 300.0, 900.0])
        for place in range(chance.choice([1, 1, 1, 1, 1, 3])):
            one = _random(chance, f"p{number}-{place}")
            pods.append(coming(one, at + place, length))
        if len(members := [one for one in pods if one.at >= at]) == 3:
            pods[-3:] = [_grouped(one, f"g{number}") for one in members]
    return Timed(nodes=msgspec.convert(nodes, list[Node]), staying=(), coming=pods)


def _grouped(one: Coming, group: str) -> Coming:
    meta = one.pod.metadata
    annotations = {**(meta.annotations or {}), GROUP: group, GROUP_SIZE: "3"}
    meta = structs.replace(meta, annotations=annotations, namespace="ml")
    found = structs.replace(one.pod, metadata=meta)
    return structs.replace(one, pod=found, demand=READING.demand_of(found))


def _random(chance: random.Random, name: str) -> Document:
    gpus, share = chance.choice(((1, 0), (2, 0), (4, 0), (0, 40), (0, 0)))
    one = pod(name, gpus, share)
    if chance.random() < 0.2:
        one = pod(name)
        one["spec"]["containers"][0]["resources"]["limits"][NAMES["one"]] = "1"
    one["metadata"]["namespace"] = chance.choice(["ml", "dev"])
    one["spec"]["priority"] = chance.choice([0, 0, 0, 10])
    one["metadata"]["labels"] = {"app": chance.choice(["web", "batch"])}
    if chance.random() < 0.2:
        beside = chance.choice(["deviceplugin/beside", "deviceplugin/not-beside"])
        one["metadata"]["annotations"] = {beside: "web"}
    if chance.random() < 0.2:
        one["spec"]["nodeSelector"] = {READING.model_label: "H100"}
    return one


class Asking:
    """Decides by the extender's answers, as kube-scheduler does."""

    fragmented = 0.0

    def __init__(self, service: Service, port: int, nodes: list[Node]) -> None:
        self.service, self._names = service, [one.metadata.name for one in nodes]
        self._daemons = Daemons(nodes)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def came(self, one: Coming) -> None:
        self.service._pods("PUT", [one.pod])

    def place(self, one: Coming) -> str:
        names = self._ask("filter", one, self._names)["NodeNames"]
        if not names:
            return ""
        found = str(names[0])
        if len(names) > 1:  # of a single one no scores are asked for
            scores = self._ask("prioritize", one, names)
            found = str(max(scores, key=lambda score: score["Score"])["Host"])
        self.service._pods("PUT", [bound(one.pod, found)])
        board = self.service.cluster.board
        about = board.nodes[found].about
        assert about is not None
        judged = board.workload.parts, about.shapes
        self._tell(self._daemons.took(one.pod.key, found, one.demand, judged))
        return found

    def is_settled(self, one: Coming) -> bool:
        """Everybody is tried again and again."""
        return False

    def left(self, one: Coming) -> None:
        held = self.service.cluster.held(one.pod.key)
        assert held is not None
        self.service._pods("DELETED", [one.pod])
        self._tell(self._daemons.left(one.pod.key, held.node))

    def _tell(self, changed: Node | None) -> None:
        if changed is not None:
            self.service._nodes("PUT", [changed])

    def _ask(self, verb: str, one: Coming, names: list[str]) -> Any:
        body = msgspec.json.encode({"Pod": one.pod, "NodeNames": names})
        self.connection.request("POST", f"/{verb}", body)
        answer = self.connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return msgspec.json.decode(content)


@asynccontextmanager
async def extender(trace: Timed, rules: Rules, clock: Clock) -> AsyncIterator[Asking]:
    """It listens on loopback, and is called by one at a time alone."""
    settings = Settings(
        address=("127.0.0.1", 0),
        reading=READING,
        fair=rules.fair,
        keep_after_s=rules.keep_after_s,
    )
    service = Service(settings, clock, clock)
    nodes = sorted(trace.nodes, key=lambda one: one.metadata.name)
    service._nodes("SET", nodes)
    service._pods("SET", trace.staying)
    async with _serving(service) as port:
        asking = Asking(service, port, nodes)
        with closing(asking.connection):
            yield asking


@asynccontextmanager
async def _serving(service: Service) -> AsyncIterator[int]:
    mine = asyncio.all_tasks()
    server = Server(service.answer)
    yield await server.listen(("127.0.0.1", 0), None)
    server.close()
    if peers := asyncio.all_tasks() - mine:  # whose connection is closed
        await asyncio.wait(peers)


def decisions(waits: list[Any]) -> Mapping[str, tuple[float, str]]:
    """By pod: how long it waited, and for which node."""
    return {wait.one.pod.metadata.name: (wait.seconds, wait.node) for wait in waits}
