"""The HTTP endpoint: paths, probes, and that it outlives bad clients."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry

from deviceplugin.core.resources import plan_resources
from deviceplugin.model import Device, DeviceID, Fault, Inventory, ResourceName, VendorStatus
from deviceplugin.outputs.metrics import Metrics, StateCollector
from deviceplugin.outputs.metrics_server import application, loop_alive, serve_http
from tests.rig import fetch


@contextmanager
def serving(ready: str = "", *, alive: bool = True) -> Iterator[str]:
    app = application(CollectorRegistry(), lambda: alive, lambda: ready)
    server = serve_http(app, ("127.0.0.1", 0))
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


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
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        assert fetch(url + "/healthz")[0] == 200
        for connection in silent:
            connection.close()


def test_an_address_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        serve_http(application(CollectorRegistry(), bool, str), other.getsockname())


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
    metrics = Metrics()
    metrics.registry.register(
        StateCollector(lambda: inventory, lambda: plan_resources(inventory).resources)
    )
    metrics.kubelet_restarted()
    server = serve_http(application(metrics.registry, bool, str), ("127.0.0.1", 0))
    _, body = fetch(f"http://127.0.0.1:{server.server_port}/metrics")
    server.shutdown()
    server.server_close()
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
    assert threading.active_count() < 20
