"""What is asked of the HTTP endpoint, and what it gives for any names."""

import contextlib
import socket
from collections.abc import Iterable
from functools import cache

from prometheus_client.parser import text_string_to_metric_families

from deviceplugin.kubelet.metrics import KubeletMetrics
from deviceplugin.metrics.http import HttpServer, application, pages_of
from deviceplugin.metrics.registry import Family, Registry
from tests.fuzz.loop import at_the_end
from tests.fuzz.surface import Source, Surface, text_of

STATUSES = {b"HTTP/1.1 %d " % code for code in (200, 400, 404, 405)}


def http(data: bytes) -> None:
    """Any request has an answer or none; the next probe has its own."""
    port = _http()
    answer = _request(port, data)
    if answer:  # a connection that is reset takes its answer with it
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head[:13] in STATUSES, head
        assert b"Content-Length: %d\r\n" % len(body) in head or data.startswith(b"HEAD ")
    assert _request(port, b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nok\n")


def exposition(data: bytes) -> None:
    """What is written for a scrape is read as the same labels and the same value."""
    source = Source(data)
    value = float(source.number(1 << 16))
    label, other = text_of(source.line()), text_of(source.rest())
    family = Family("deviceplugin_x", "gauge", other, ("a", "b"))
    family.add((label, other), value)
    text = "".join(f"{line}\n" for line in family.lines())
    (read,) = text_string_to_metric_families(text)
    assert [(s.labels, s.value) for s in read.samples] == [({"a": label, "b": other}, value)]


def _request(port: int, data: bytes) -> bytes:
    peer = socket.create_connection(("127.0.0.1", port), timeout=60)
    with peer, contextlib.suppress(ConnectionError):
        peer.sendall(data)
        with contextlib.suppress(OSError):  # ENOTCONN: the server has reset the connection already
            peer.shutdown(socket.SHUT_WR)
        return b"".join(_parts(peer))
    return b""


def _parts(peer: socket.socket) -> Iterable[bytes]:
    with contextlib.suppress(ConnectionError):
        while part := peer.recv(1 << 16):
            yield part


@cache
def _http() -> int:
    registry = Registry()
    registry.register(KubeletMetrics())
    app = application(pages_of(registry, lambda: True, lambda: ""))
    server = HttpServer(app, ("127.0.0.1", 0))

    async def stop() -> None:
        server.close()

    at_the_end(stop)
    return server.port


SURFACES = {
    "exposition": Surface(
        target=exposition,
        seeds=(b"\1\0label\nother", b'\0\0"\\\n\\n"}', b"\0\0\r\x85\n\xe2\x80\xa8"),
        words=(b"\\", b'"', b"\n", b"{", b"}", b",", b"=", b"\r", b" ", b"#"),
    ),
    "http": Surface(
        target=http,
        seeds=(
            b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
            b"GET /metrics?name[]=x&name[]=%ff HTTP/1.0\r\n\r\n",
            b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n",
            b"POST /metrics HTTP/1.1\r\nContent-Length: -5\r\n\r\nabc",
            b"OPTIONS * HTTP/1.1\r\n\r\n",
            b"GET //healthz HTTP/1.1\r\n\r\n",
            b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
            b"GET /healthz HTTP/9.9\r\n\r\n",
            b"GET /\xff%00%ff\xe9 HTTP/1.1\r\n: \r\n\r\n",
            b"",
        ),
        words=(
            *(b"GET ", b"HEAD ", b"/metrics", b"?name[]=", b" HTTP/1.1", b"\r\n", b"\n", b": "),
            *(b"Accept: ", b"Content-Length: ", b"Expect: 100-continue", b"\0", b"%", b"HTTP/0.9"),
        ),
    ),
}
