"""The client of a store, held against a small HTTP server that answers as stores do."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from deviceplugin.errors import ConfigError
from deviceplugin.metrics.reply import StoreError, parse_instant, parse_range
from deviceplugin.metrics.store import MOST_POINTS, Access, Store, spans

HOUR = 3600.0


class Answers:
    """What the server was asked, and how it answers: at most `most` steps in one go."""

    def __init__(self, most: int = 10**9, status: int = 422) -> None:
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.most, self.status = most, status

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        query = {name: found[0] for name, found in parse_qs(urlsplit(path).query).items()}
        self.asked.append({"path": urlsplit(path).path, **query})
        self.headers.append(headers)
        if "step" not in query:
            one = {"metric": {"pod": "p"}, "value": [1, "2.5"]}
            result = [one, {"metric": {}, "value": [1, "NaN"]}]
            data = {"resultType": "vector", "result": result}
            return 200, json.dumps({"status": "success", "data": data}).encode()
        start, end, step = (float(query[name]) for name in ("start", "end", "step"))
        moments = [start + step * n for n in range(int((end - start) / step) + 1)]
        if len(moments) > self.most:
            return self.status, b'{"status":"error","errorType":"execution","error":"too many"}'
        values = [[at, "NaN" if at == 2 * HOUR else str(at)] for at in moments]
        result = [{"metric": {"uuid": "GPU-0"}, "values": values}]
        data = {"resultType": "matrix", "result": result}
        return 200, json.dumps({"status": "success", "data": data}).encode()


@contextmanager
def server(answers: Answers) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.answer(self.path, dict(self.headers))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_values_come_as_numbers_and_what_is_none_is_left_out() -> None:
    answers = Answers()
    with server(answers) as address:
        (found,) = Store(Access(address=f"{address}/prefix/")).range("up", 0, 3 * HOUR, HOUR)
    assert found.labels == {"uuid": "GPU-0"}
    assert found.values == {0: 0, HOUR: HOUR, 3 * HOUR: 3 * HOUR}
    assert answers.asked[0]["path"] == "/prefix/api/v1/query_range"


@pytest.mark.parametrize("status", [422, 503])
def test_what_is_too_much_is_asked_for_in_halves(status: int) -> None:
    answers = Answers(most=3, status=status)
    with server(answers) as address:
        (found,) = Store(Access(address=address)).range("up", 10 * HOUR, 20 * HOUR, HOUR)
    assert sorted(found.values) == [HOUR * n for n in range(10, 21)]


def test_one_step_that_is_refused_is_an_error() -> None:
    with server(Answers(most=0)) as address, pytest.raises(StoreError, match="too many"):
        Store(Access(address=address)).range("up", 0, 10 * HOUR, HOUR)


def test_another_refusal_is_not_asked_again() -> None:
    answers = Answers(most=0, status=401)
    with server(answers) as address, pytest.raises(StoreError, match="401"):
        Store(Access(address=address)).range("up", 0, 10 * HOUR, HOUR)
    assert len(answers.asked) == 1


def test_no_request_has_more_points_than_stores_allow() -> None:
    found = list(spans(0, 25_000 * 60, 60))
    assert [int((last - first) / 60) + 1 for first, last in found] == [10_000, 10_000, 5_001]
    assert found[1][0] == found[0][1] + 60
    assert MOST_POINTS < 11_000


def test_a_token_and_a_tenant_are_sent(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    answers = Answers()
    with server(answers) as address:
        Store(Access(address=address, token_file=tmp_path / "token", tenant="gpu")).range(
            "up", 0, HOUR, HOUR
        )
    assert answers.headers[0]["Authorization"] == "Bearer secret"
    assert answers.headers[0]["X-Scope-OrgID"] == "gpu"


@pytest.mark.parametrize(
    "address", ["", "prometheus:9090", "ftp://a", "http://", "http://a:99999", "http://u:geheim@a"]
)
def test_an_address_that_is_none_is_one_error(address: str) -> None:
    with pytest.raises(ConfigError, match="--store") as caught:
        Store(Access(address=address))
    assert "geheim" not in str(caught.value)


def test_no_store_is_one_error() -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1"):
        Store(Access(address="http://127.0.0.1:1")).range("up", 0, HOUR, HOUR)


def test_values_of_now_are_asked_for_and_numbers_that_are_none_left_out(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    answers = Answers()
    with server(answers) as address:
        store = Store(Access(address=f"{address}/prom/", token_file=tmp_path / "token"))
        assert store.instant("up") == (({"pod": "p"}, 2.5),)
    assert answers.asked == [{"path": "/prom/api/v1/query", "query": "up"}]
    assert answers.headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (b"{", "up: the store answers 200"),
        (b"", "nothing"),
        (b"[]", "Expected `object`"),
        (b'{"status":"error","error":"query timed out"}', "query timed out"),
        (b'{"status":"success","data":{"resultType":"matrix","result":[]}}', "no vector"),
        (
            b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}',
            "missing required field `value`",
        ),
        (
            (
                b'{"status":"success","data":{"resultType":"vector","result":'
                b'[{"metric":{},"value":[1,"many"]}]}}'
            ),
            "many",
        ),
    ],
)
def test_an_answer_of_now_that_is_none_is_told_with_the_query(content: bytes, meant: str) -> None:
    with pytest.raises(StoreError, match=meant):
        parse_instant(content, query="up")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>login</html>",
        b"{}",
        b'{"status":"error","error":"parse error"}',
        b'{"status":"success","data":{"resultType":"vector","result":[]}}',
        b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":7}]}}',
        b'{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"x"]]}]}}',
    ],
)
def test_what_is_no_answer_is_a_store_error(content: bytes) -> None:
    with pytest.raises(StoreError):
        parse_range(content)
