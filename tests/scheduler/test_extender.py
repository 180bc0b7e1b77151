"""The extender on real sockets, with nodes and pods watched from an API server."""

import asyncio
import http.client
import json
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from deviceplugin.kubernetes.api import Access, Api, ApiError
from deviceplugin.scheduler.objects import Reading
from deviceplugin.scheduler.service import Service, Settings
from tests.kubernetes.stub import ACCOUNT
from tests.scheduler.objects import Document, node, pod
from tests.scheduler.partitions import ONE, asking, told
from tests.scheduler.slices import CLASSES, bare, claim, claiming, device, slice_of
from tests.scheduler.stub import KINDS, WatchStub, watch_stub

pytestmark = pytest.mark.slow
CALLERS = 16
READING = Reading(shares={"example.com/share": 10})


@pytest.fixture
def api() -> Iterator[WatchStub]:
    with watch_stub() as stub:
        yield stub


class Running:
    """The extender, and kube-scheduler's side of a connection to it."""

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def close(self) -> None:
        self._connection.close()

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return await asyncio.to_thread(self._ask, method, path, body)

    def _ask(self, method: str, path: str, body: object) -> tuple[int, Any]:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request(method, path, None if body is None else payload)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(text) if is_json else text

    async def filter(self, wanted: Document, *names: str) -> Document:
        status, answer = await self.ask("POST", "/filter", {"Pod": wanted, "NodeNames": names})
        assert status == 200, answer
        return dict(answer)

    async def prioritize(self, wanted: Document, *names: str) -> dict[str, int]:
        body = {"Pod": wanted, "NodeNames": names, "Nodes": None}
        status, answer = await self.ask("POST", "/prioritize", body)
        assert status == 200, answer
        return {score["Host"]: score["Score"] for score in answer}

    async def until(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not fact():  # noqa: ASYNC110  # threads bring it about
                await asyncio.sleep(0.01)


@asynccontextmanager
async def extender(
    api: WatchStub,
    tls: ssl.SSLContext | None = None,
    now: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Running]:
    service = Service(Settings(address=("127.0.0.1", 0), reading=READING, tls=tls), now)
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(service.run(Api(api.access), port.set_result))
    running = Running(service, await port)
    try:
        with closing(running):
            await running.until(lambda: not service._missing)
            yield running
    finally:
        serving.cancel()
        await asyncio.wait([serving])


async def test_nodes_without_room_are_filtered_with_the_reason(api: WatchStub) -> None:
    api.put("nodes", node("a", 4))
    api.put("nodes", node("b", 1))
    async with extender(api) as running:
        answer = await running.filter(pod("p", gpus=2), "a", "b")
        assert answer == {
            "Nodes": None,
            "NodeNames": ["a"],
            "FailedNodes": {"b": "1 GPUs free, 2 requested"},
            "FailedAndUnresolvableNodes": {},
            "Error": "",
        }


async def test_whole_nodes_are_answered_as_they_came(api: WatchStub) -> None:
    api.put("nodes", node("a", 4))
    given = node("a", 4) | {"spec": {"podCIDR": "10.0.0.0/24"}}
    async with extender(api) as running:
        body = {"Pod": pod("p", gpus=2), "Nodes": {"items": [given]}, "NodeNames": None}
        _, answer = await running.ask("POST", "/gpu/filter", body)
        assert (answer["Nodes"], answer["NodeNames"]) == ({"items": [given]}, None)


async def test_scores_are_distinct_and_the_fuller_node_has_the_highest(api: WatchStub) -> None:
    for n in range(20):
        api.put("nodes", node(f"n{n}", 4))
    api.put("pods", pod("there", gpus=3, node="n7"))
    async with extender(api) as running:
        scores = await running.prioritize(pod("p", gpus=1), *(f"n{n}" for n in range(20)))
        assert sorted(scores.values()) == list(range(1, 21))
        assert scores["n7"] == 20


async def test_a_node_that_is_not_known_is_left_to_kube_scheduler(api: WatchStub) -> None:
    api.put("nodes", node("a", 4))
    async with extender(api) as running:
        answer = await running.filter(pod("p", gpus=1), "a", "new")
        assert answer["NodeNames"] == ["a", "new"]
        assert await running.prioritize(pod("p", gpus=1), "a", "new") == {"a": 1, "new": 0}


async def test_pods_that_ask_for_parts_go_where_the_others_lose_least(api: WatchStub) -> None:
    api.put("nodes", told("a", ((0, 1), ())))
    api.put("nodes", told("b", ((1, 2), (0,))))
    for name in ("w1", "w2"):
        api.put("pods", asking(name, three=1, one=1))
    api.put("pods", asking("x", node="b", one=1))
    async with extender(api) as running:
        answer = await running.filter(asking("p", one=2), "a", "b")
        assert answer["NodeNames"] == ["a", "b"]
        scores = await running.prioritize(asking("p", one=2), "a", "b")
        assert scores == {"b": 2, "a": 1}
        answer = await running.filter(asking("q", one=1), "a", "b")
        assert answer["FailedNodes"] == {"b": f"0 {ONE} free, 1 requested"}
        _, why = await running.ask("GET", "/explain/ml/p")
        assert why["demand"]["partitions"] == {ONE: 2}
        assert [one["start"] for one in why["best"][0]["partitions"]] == [1, 2]


async def test_nodes_are_judged_by_their_slices_and_pods_by_their_claims(api: WatchStub) -> None:
    for name in ("a", "b"):
        api.put("nodes", bare(name))
        api.put("resourceslices", slice_of(name, [device(n, of=name) for n in range(4)]))
    for one in CLASSES:
        api.put("deviceclasses", one)
    api.put("resourceclaims", claim("there", count=2, got=[("b", "gpu-0"), ("b", "gpu-1")]))
    for name in ("c", "d"):
        api.put("resourceclaims", claim(name, count=2))
    async with extender(api) as running:
        board = running.service.cluster.board
        await running.until(lambda: len(running.service._listed_once) == len(KINDS))
        answer = await running.filter(pod("p", gpus=1), "a", "b")
        assert set(answer["FailedAndUnresolvableNodes"].values()) == {"0 GPUs free, 1 requested"}
        answer = await running.filter(claiming("q", "c"), "a", "b")
        assert answer["NodeNames"] == ["a", "b"]
        assert await running.prioritize(claiming("q", "c"), "a", "b") == {"b": 2, "a": 1}
        assert board.nodes["b"].free == [0, 0, 0, 0]  # assumed
        assert await running.prioritize(claiming("r", "d"), "a", "b") == {"a": 1, "b": 0}
        _, why = await running.ask("GET", "/explain/ml/q")
        best = why["best"][0]
        assert (best["by"], best["devices"]) == ("slices", ["gpu-2", "gpu-3"])
        assert why["demand"]["claims"] == [{"gpus": 2, "gpu_milli": 1000}]
        _, text = await running.ask("GET", "/metrics")
        assert 'deviceplugin_scheduler_objects{kind="node_with_slices"} 2.0' in text
        assert 'deviceplugin_scheduler_decisions_total{path="slices"} 2.0' in text
        api.put("resourceclaims", claim("c", count=2, got=[("a", "gpu-0"), ("a", "gpu-1")]))
        await running.until(lambda: board.nodes["b"].free == [0, 0, 1000, 1000])
        api.delete("resourceslices", "00000-gpu.nvidia.com-a")
        await running.until(lambda: board.nodes["a"].free == [])


@pytest.mark.parametrize("absent", [(*KINDS[2:],), KINDS[2:3], KINDS[3:]])
async def test_without_slices_or_the_right_to_them_the_rest_goes_on(
    api: WatchStub, absent: tuple[str, ...]
) -> None:
    api.absent = frozenset(absent)
    api.put("nodes", node("a", 4))
    with structlog.testing.capture_logs() as logs:
        async with extender(api) as running:
            answer = await running.filter(claiming("q", "c", gpus=2), "a")
            assert answer["NodeNames"] == ["a"]
            failed = "scheduler_watch_failed"
            await running.until(lambda: sum(e["event"] == failed for e in logs) == len(absent))


async def test_what_is_listed_settles(api: WatchStub) -> None:
    settled: list[int] = []
    service = Service(
        Settings(address=("127.0.0.1", 0), reading=READING), settle=lambda: settled.append(1)
    )
    serving = asyncio.ensure_future(service.run(Api(api.access)))
    async with asyncio.timeout(120):
        while len(settled) < len(KINDS):  # noqa: ASYNC110  # threads bring it about
            await asyncio.sleep(0.01)
    serving.cancel()
    await asyncio.wait([serving])


async def test_what_happens_in_the_cluster_is_followed(api: WatchStub) -> None:
    async with extender(api) as running:
        api.put("nodes", node("a", 1))
        await running.until(lambda: running.service.cluster.size == (1, 0))
        api.end_watches()
        api.put("pods", pod("p", gpus=1, node="a"))
        await running.until(lambda: running.service.cluster.size == (1, 1))
        assert (await running.filter(pod("q", gpus=1), "a"))["NodeNames"] == []
        api.end_watches(gone=True)
        api.delete("pods", "p")
        await running.until(lambda: running.service.cluster.size == (1, 0))
        assert (await running.filter(pod("q", gpus=1), "a"))["NodeNames"] == ["a"]


async def test_while_the_api_server_is_away_what_is_known_decides(api: WatchStub) -> None:
    clock = [1000.0]
    api.put("nodes", node("a", 1))
    async with extender(api, now=lambda: clock[0]) as running:
        watches = {watch.what.name: watch for watch in running.service.watches}
        await running.until(lambda: all(watch.age_s == 0 for watch in watches.values()))
        assert await running.ask("GET", "/readyz") == (200, "ok\n")
        api.away = True
        api.end_watches(gone=True)
        await running.until(lambda: all(watch.failure for watch in watches.values()))
        api.put("pods", pod("p", gpus=1, node="a"))
        clock[0] += 400
        assert (await running.filter(pod("q", gpus=1), "a"))["NodeNames"] == ["a"]
        status, text = await running.ask("GET", "/readyz")
        assert (status, text.splitlines()[0]) == (200, "ok")
        assert "nodes: nothing heard for 400 s: GET https://" in text
        _, text = await running.ask("GET", "/metrics")
        for kind in KINDS:
            assert f'deviceplugin_scheduler_watch_age_seconds{{kind="{kind}"}} 400.0' in text
            assert f'deviceplugin_scheduler_watch_failures_total{{kind="{kind}"}} 0.0' not in text
        api.away = False
        await running.until(lambda: all(watch.age_s == 0 for watch in watches.values()))
        await running.until(lambda: running.service.cluster.size == (1, 1))
        assert (await running.filter(pod("r", gpus=1), "a"))["NodeNames"] == []
        assert await running.ask("GET", "/readyz") == (200, "ok\n")


async def test_no_gpu_is_given_twice_to_a_thousand_pods(api: WatchStub) -> None:
    names = [f"n{n}" for n in range(60)]
    for name in names:
        api.put("nodes", node(name, 8))
    chance = random.Random(4)
    shares = [chance.choice((30, 45, 60, 81, 100)) for _ in range(1000)]
    held: dict[str, int] = dict.fromkeys(names, 0)

    async def ask(asking: Running, first: int) -> None:
        for n in range(first, 1000, CALLERS):
            wanted = pod(f"p{n}", share=shares[n], cpu="10m")
            fitting = (await asking.filter(wanted, *names))["NodeNames"]
            scores = await asking.prioritize(wanted, *fitting) if fitting else {}
            if any(scores.values()):  # else others took the place between the two calls
                best = max(scores, key=scores.__getitem__)
                held[best] += shares[n] * 10

    async with extender(api) as running:
        port = running._connection.port
        callers = [Running(running.service, port) for _ in range(CALLERS)]
        await asyncio.gather(*(ask(one, first) for first, one in enumerate(callers)))
        for one in callers:
            one.close()
        nodes = running.service.cluster.board.nodes
        assert all(sum(nodes[name].free) == 8000 - held[name] for name in names)
        assert all(min(nodes[name].free) >= 0 for name in names)


async def test_preemption_keeps_the_nodes_where_the_victims_make_room(api: WatchStub) -> None:
    for name in ("a", "b"):
        api.put("nodes", node(name, 2))
        api.put("pods", pod(f"{name}-1", gpus=1, node=name))
        api.put("pods", pod(f"{name}-2", gpus=1, node=name))
    victims = {
        "a": {"Pods": [pod("a-1"), pod("a-2")], "NumPDBViolations": 1},
        "b": {"Pods": [pod("b-1")], "NumPDBViolations": 0},
    }
    left = {"a": {"Pods": [{"UID": "uid-a-1"}, {"UID": "uid-a-2"}], "NumPDBViolations": 1}}
    async with extender(api) as running:
        for body in (
            {"NodeNameToVictims": victims, "NodeNameToMetaVictims": None},
            {"NodeNameToMetaVictims": left},
        ):
            asked = {"Pod": pod("p", gpus=2), **body}
            _, answer = await running.ask("POST", "/preempt", asked)
            assert answer == {"NodeNameToMetaVictims": left}


async def test_a_decision_can_be_explained(api: WatchStub) -> None:
    api.put("nodes", node("a", 4))
    api.put("nodes", node("b", 8))
    async with extender(api) as running:
        await running.prioritize(pod("p", gpus=1), "a", "b")
        _, why = await running.ask("GET", "/explain/ml/p")
        assert [one["node"] for one in why["best"]] == ["a", "b"]
        await running.filter(pod("q", gpus=9), "a", "b")
        _, why = await running.ask("GET", "/explain/ml/q")
        assert {one["reason"] for one in why["failed"]} == {
            "3 GPUs free, 9 requested",
            "8 GPUs free, 9 requested",
        }
        assert (await running.ask("GET", "/explain/ml/r"))[0] == 404


async def test_what_is_no_question_is_told_and_the_next_one_is_answered(api: WatchStub) -> None:
    api.put("nodes", node("a", 4))
    async with extender(api) as running:
        deep = b'{"Pod": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
        for body in (
            b"",
            b"{",
            b"[]",
            b'{"Pod": 3}',
            b'{"Pod": {}, "Nodes": {"items": [{}]}}',
            deep,
        ):
            assert (await running.ask("POST", "/filter", body))[0] == 400
        assert (await running.ask("POST", "/filter", {"Pod": pod("p", cpu="many")}))[0] == 400
        assert (await running.ask("GET", "/filter"))[0] == 404
        assert (await running.filter(pod("p", gpus=1), "a"))["NodeNames"] == ["a"]
        _, text = await running.ask("GET", "/metrics")
        assert 'requests_total{outcome="bad_request",verb="filter"} 7.0' in text
        assert 'requests_total{outcome="ok",verb="filter"} 1.0' in text
        assert 'deviceplugin_scheduler_objects{kind="node"} 1.0' in text


def test_an_account_without_a_token_is_an_error_of_the_api(tmp_path: Path) -> None:
    api = Api(Access(host="127.0.0.1", port=1, account=tmp_path))
    with pytest.raises(ApiError, match="token"):
        list(api.lines("/api/v1/pods", 1.0))


async def test_it_is_not_ready_before_it_knows_the_cluster() -> None:
    service = Service(Settings(address=("127.0.0.1", 0)))
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with watch_stub() as gone:
        access = gone.access
    serving = asyncio.ensure_future(service.run(Api(access), port.set_result))
    with closing(Running(service, await port)) as running:
        status, text = await running.ask("GET", "/readyz")
        assert (status, text.partition("\n")[0]) == (503, "waiting for the list of nodes and pods")
        assert (await running.ask("POST", "/filter", {"Pod": pod("p")}))[0] == 503
        assert (await running.ask("GET", "/healthz"))[0] == 200
    serving.cancel()
    await asyncio.wait([serving])


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/2\r\n\r\n",
        b"POST /filter HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /filter HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
        b"POST /filter HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
    ids=["nonsense", "version", "length", "large", "chunked", "head"],
)
async def test_what_is_no_http_ends_its_connection(api: WatchStub, sent: bytes) -> None:
    async with extender(api) as running:
        port = running._connection.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        assert (await running.ask("GET", "/healthz"))[0] == 200


async def test_it_serves_https(api: WatchStub) -> None:
    api.put("nodes", node("a", 4))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(ACCOUNT / "ca.crt", ACCOUNT / "key.pem")
    async with extender(api, server) as running:
        client = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        port = running._connection.port
        running._connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=60, context=client
        )
        assert (await running.filter(pod("p", gpus=1), "a"))["NodeNames"] == ["a"]
