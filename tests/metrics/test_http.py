"""The HTTP endpoint: paths, probes, and that it outlives bad clients."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from deviceplugin.kubelet.metrics import KubeletMetrics
from deviceplugin.metrics.connections import MAX_REQUESTS
from deviceplugin.metrics.door import App
from deviceplugin.metrics.http import (
    HttpServer,
    application,
    loop_alive,
    pages_of,
)
from deviceplugin.metrics.peer import MAX_HEAD_BYTES
from deviceplugin.metrics.process import ProcessCollector
from deviceplugin.metrics.registry import CONTENT_TYPE, Counter, Family, Histogram, Registry
from deviceplugin.model import Device, DeviceID, Fault, Inventory, ResourceName, VendorStatus
from deviceplugin.resources.metrics import StateCollector
from deviceplugin.resources.plan import plan_resources
from deviceplugin.runtime.part import Collector, Response
from tests.rig import WAIT_S, fetch


@contextmanager
def answering(app: App, host: str = "127.0.0.1") -> Iterator[HttpServer]:
    server = HttpServer(app, (host, 0))
    yield server
    server.close()


def pages(registry: Registry, ready: str = "", *, alive: bool = True) -> App:
    return application(pages_of(registry, lambda: alive, lambda: ready))


class Source(Struct):
    """A collector of one family."""

    family: Family

    def collect(self) -> list[Family]:
        return [self.family]


@contextmanager
def serving(ready: str = "", *, alive: bool = True) -> Iterator[str]:
    with answering(pages(Registry(), ready, alive=alive)) as server:
        yield f"http://127.0.0.1:{server.port}"


def exchange(url: str, request: bytes) -> bytes:
    """Send raw bytes and the end of them; everything that comes back."""
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/healthz", 200, "ok"),
        ("/readyz", 503, "the kubelet is away"),
        ("/metrics", 200, ""),
        ("/other", 404, "/metrics"),
    ],
)
def test_each_path_has_its_answer(path: str, status: int, text: str) -> None:
    with serving("the kubelet is away") as url:
        answered, body = fetch(url + path)
    assert answered == status
    assert text in body


def test_a_frozen_loop_is_not_healthy() -> None:
    with serving(alive=False) as url:
        assert fetch(url + "/healthz")[0] == 503


async def test_a_running_loop_is_alive_and_a_closed_one_is_not() -> None:
    running = asyncio.get_running_loop()
    assert await asyncio.to_thread(loop_alive, running)
    closed = asyncio.new_event_loop()
    closed.close()
    assert not loop_alive(closed)


def test_clients_that_say_nothing_do_not_keep_others_from_an_answer() -> None:
    with serving() as url:
        port = int(url.rpartition(":")[2])
        address = ("127.0.0.1", port)
        silent = [socket.create_connection(address) for _ in range(MAX_REQUESTS - 1)]
        assert fetch(url + "/healthz")[0] == 200
        for connection in silent:
            connection.close()


def test_an_address_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        HttpServer(pages(Registry()), other.getsockname())


def test_a_closed_endpoint_leaves_its_address_to_the_next_one() -> None:
    with answering(pages(Registry())) as server:
        address = ("127.0.0.1", server.port)
    following = HttpServer(pages(Registry()), address)
    assert following.port == address[1]
    following.close()


def test_it_listens_on_ipv6_too() -> None:
    app = pages(Registry())
    with answering(app, "::1") as server:
        assert fetch(f"http://[::1]:{server.port}/healthz") == (200, "ok\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"200", id="get"),
        pytest.param(b"GET /healthz?a=b HTTP/1.0\r\n\r\n", b"200", id="query"),
        pytest.param(b"POST /healthz HTTP/1.1\r\n\r\n", b"405", id="post"),
        pytest.param(b"nonsense\r\n\r\n", b"400", id="nonsense"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n", b"400", id="unfinished"),
        pytest.param(b"GET /" + b"x" * (MAX_HEAD_BYTES - 5), b"400", id="too-long"),
        pytest.param(b"\x16\x03\x01\xff\xff\r\n\r\n", b"400", id="tls"),
    ],
)
def test_only_a_whole_read_only_request_is_served(request_bytes: bytes, status: bytes) -> None:
    with serving() as url:
        answer = exchange(url, request_bytes)
        assert answer.split(b" ")[1] == status
        assert fetch(url + "/healthz")[0] == 200


def test_a_head_is_answered_without_the_body() -> None:
    with serving() as url:
        answer = exchange(url, b"HEAD /healthz HTTP/1.1\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: 3" in head
    assert body == b""


def test_what_is_sent_is_what_prometheus_own_parser_reads() -> None:
    registry = Registry()
    odd = 'a "quoted" back\\slash\nand a line'
    gauge = Family("gauge", "gauge", "two\nlines \\ and more", ("b", "a"))
    gauge.add([odd, "plain"], -1.5)
    counter = Counter("requests_total", "Requests", ["path"])
    counter.inc("/x")
    counter.inc("/x")
    alone = Counter("alone_total", "Counted from the start")
    times = Histogram("seconds", "Times", "method", (0.1, 1))
    for value in (0.1, 0.5, 7.0):
        times.observe("Allocate", value)
    sources: list[Collector] = [Source(gauge), counter, alone, times]
    for number, source in enumerate(sources):
        registry.register(source, f"source {number}")
    read = {f.name: f for f in text_string_to_metric_families(registry.text())}
    assert len(read.pop("deviceplugin_collector_success").samples) == 4
    assert {name: family.type for name, family in read.items()} == {
        "gauge": "gauge",
        "requests": "counter",
        "alone": "counter",
        "seconds": "histogram",
    }
    assert read["gauge"].documentation == gauge.help
    (sample,) = read["gauge"].samples
    assert (sample.labels, sample.value) == ({"b": odd, "a": "plain"}, -1.5)
    assert [(s.name, s.value) for s in read["requests"].samples] == [("requests_total", 2.0)]
    assert [s.value for s in read["alone"].samples] == [0.0]
    series = {(s.name, s.labels.get("le")): s.value for s in read["seconds"].samples}
    assert series == {
        ("seconds_bucket", "0.1"): 1.0,
        ("seconds_bucket", "1.0"): 2.0,
        ("seconds_bucket", "+Inf"): 3.0,
        ("seconds_count", None): 3.0,
        ("seconds_sum", None): 7.6,
    }


def test_a_scrape_names_its_format() -> None:
    with serving() as url:
        answer = exchange(url, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert f"Content-Type: {CONTENT_TYPE}\r\n".encode() in answer


def test_a_scrape_shows_devices_by_health_vendors_faults_and_the_process() -> None:
    gpu = Device(id=DeviceID("a"), vendor="example", resource=ResourceName("example.com/gpu"))
    fault = Fault(device=gpu.id, source="example.x", code="lost", reason="r", action="a")
    inventory = Inventory(
        devices={gpu.id: gpu},
        faults={gpu.id: (fault,)},
        vendors={
            "example": VendorStatus(name="example"),
            "absent": VendorStatus(name="absent", error="no driver"),
        },
    )
    metrics, registry = KubeletMetrics(), Registry()
    for source in (metrics, ProcessCollector()):
        registry.register(source)
    registry.register(
        StateCollector(lambda: inventory, lambda: plan_resources(inventory).resources)
    )
    metrics.kubelet_restarted()
    threads = threading.active_count()  # other tests of this process may have left some
    with answering(pages(registry)) as server:
        _, body = fetch(f"http://127.0.0.1:{server.port}/metrics")
    assert list(text_string_to_metric_families(body))
    for line in (
        'deviceplugin_devices{health="Unhealthy",resource="example.com/gpu"} 1.0',
        'deviceplugin_devices{health="Healthy",resource="example.com/gpu"} 0.0',
        'deviceplugin_vendor_up{vendor="example"} 1.0',
        'deviceplugin_vendor_up{vendor="absent"} 0.0',
        "deviceplugin_kubelet_restarts_total 1.0",
        "process_resident_memory_bytes ",
        "process_open_fds ",
    ):
        assert line in body
    assert 'code="lost"' in body
    assert threading.active_count() < threads + MAX_REQUESTS


class Broken(Struct):
    """A collector that raises while `problem` is set, before or after its first family."""

    problem: str
    first: Family | None = None

    def collect(self) -> Iterator[Family]:
        if self.first is not None:
            yield self.first
        if self.problem:
            raise RuntimeError(self.problem)


def family_of(name: str, value: object = 1.0) -> Family:
    family = Family(name, "gauge", "Help")
    family.add((), value)  # type: ignore[arg-type]  # what a plug-in may do
    return family


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Broken("at once"), id="at-once"),
        pytest.param(Broken("half-way", family_of("half")), id="half-way"),
        pytest.param(Source(family_of("half", "no number")), id="no-number"),
    ],
)
def test_a_collector_that_raises_costs_its_own_series_only(broken: Collector) -> None:
    registry = Registry()
    registry.register(Source(family_of("before")), "first")
    registry.register(broken, "broken")
    registry.register(Source(family_of("after")), "last")
    with answering(pages(registry)) as server:
        url = f"http://127.0.0.1:{server.port}"
        status, body = fetch(f"{url}/metrics")
        assert fetch(f"{url}/healthz") == (200, "ok\n")
    assert status == 200
    read = {f.name: f for f in text_string_to_metric_families(body)}
    assert set(read) == {"before", "after", "deviceplugin_collector_success"}
    success = {
        s.labels["collector"]: s.value for s in read["deviceplugin_collector_success"].samples
    }
    assert success == {"first": 1.0, "broken": 0.0, "last": 1.0}


def test_a_collector_that_raises_is_logged_once_per_change() -> None:
    registry, broken = Registry(), Broken("no sensor")
    registry.register(broken, "telemetry")
    with capture_logs() as logs:
        for problem in ("no sensor", "no sensor", "no driver", "", "", "no sensor"):
            broken.problem = problem
            registry.text()
    told = [(entry["event"], entry.get("error", "")) for entry in logs]
    assert told == [
        ("collector_failed", "RuntimeError('no sensor')"),
        ("collector_failed", "RuntimeError('no driver')"),
        ("collector_recovered", ""),
        ("collector_failed", "RuntimeError('no sensor')"),
    ]


def test_two_collectors_of_one_name_are_a_mistake_of_ours() -> None:
    registry = Registry()
    registry.register(Source(family_of("a")), "name")
    with pytest.raises(ValueError, match="'name' already"):
        registry.register(Source(family_of("b")), "name")


def test_a_page_that_raises_is_a_server_error_and_costs_no_other_page() -> None:
    def broken() -> Response:
        raise RuntimeError("no")

    routes = {"/broken": broken, "/works": lambda: Response("200 OK", "text/plain", "yes")}
    with answering(application(routes)) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert fetch(f"{url}/broken")[0] == 500
        assert fetch(f"{url}/works") == (200, "yes")
        assert fetch(f"{url}/other") == (404, "there is /broken and /works\n")
