"""Runs out of a Prometheus: what becomes of its series, and answers that are none."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from deviceplugin.learning.prometheus import (
    QUERIES,
    Prometheus,
    PrometheusError,
    Sample,
    read_runs,
)
from deviceplugin.learning.runs import Run

NOW = 1_000_000.0


def series(pod: str, value: float, **labels: str) -> Sample:
    return {"namespace": "ml", "pod": pod, **labels}, value


FOUND: dict[str, list[Sample]] = {
    "start": [series("job-1", NOW - 5000), series("gone", NOW - 9000), series("runs", NOW - 10)],
    "completion": [series("job-1", NOW - 1000)],
    "seen": [series("job-1", NOW), series("gone", NOW - 3000), series("runs", NOW - 60)],
    "owner": [series("job-1", 1, owner_kind="Job", owner_name="job-28912345")],
    "asked": [series(pod, 1, container="main") for pod in ("job-1", "gone", "runs", "unknown")],
    "memory": [
        series("job-1", 2 << 30, container="main", uuid="a"),
        series("job-1", 3 << 30, container="main", uuid="b"),
    ],
    "busy": [series("job-1", 0.7, container="main")],
}


def test_a_run_is_from_its_start_to_its_end_or_to_when_its_pod_was_seen_last() -> None:
    def ask(query: str) -> list[Sample]:
        (of,) = (name for name, text in QUERIES.items() if text.format(w="1440m") == query)
        return FOUND[of]

    whole, gone = read_runs(ask, NOW, 86_400)
    assert whole == Run(
        namespace="ml",
        owner="job",
        container="main",
        start=NOW - 5000,
        seconds=4000,
        peak_mib=3072,
        busy_ratio=0.7,
    )
    assert (gone.owner, gone.seconds, gone.peak_mib) == ("gone", 6000, None)


@contextmanager
def answering(content: bytes, asked: list[str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append(f"{self.path} {parse_qs(body)['query'][0]}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/prom/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(*samples: Any) -> bytes:
    result = {"resultType": "vector", "result": list(samples)}
    return json.dumps({"status": "success", "data": result}).encode()


def test_it_is_asked_by_its_http_api_and_numbers_that_are_none_are_left_out() -> None:
    asked: list[str] = []
    one = {"metric": {"pod": "p"}, "value": [1, "2.5"]}
    with answering(answer(one, {"metric": {}, "value": [1, "NaN"]}), asked) as url:
        assert Prometheus(url)("up") == [({"pod": "p"}, 2.5)]
    assert asked == ["/prom/api/v1/query up"]


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (b"{", "up: "),
        (b"[]", "no result"),
        (b'{"status": "error", "error": "query timed out"}', "query timed out"),
        (answer({"metric": {}}), "no vector of samples"),
        (answer({"metric": {}, "value": [1, "many"]}), "many"),
    ],
)
def test_an_answer_that_is_none_is_told_with_the_query(content: bytes, meant: str) -> None:
    with answering(content, []) as url, pytest.raises(PrometheusError, match=meant):
        Prometheus(url)("up")


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://x", "http://"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        Prometheus(url)
