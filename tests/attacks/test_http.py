"""Strangers at the HTTP endpoint: none of them keeps anybody else from an answer."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from deviceplugin.metrics.connections import MAX_PEERS, MAX_UNREAD_BYTES
from deviceplugin.metrics.http import PAGES, PAGES_S, HttpServer, Shared, application
from deviceplugin.metrics.peer import HEAD_S, MAX_HEAD_BYTES
from deviceplugin.runtime.part import Response
from tests.rig import WAIT_S, fetch

OK = Response("200 OK", "text/plain", "ok\n")
GET = b"GET /healthz HTTP/1.1\r\n\r\n"


@contextlib.contextmanager
def serving(text: str = "ok\n") -> Iterator[HttpServer]:
    page = Response("200 OK", "text/plain", text)
    server = HttpServer(application({"/healthz": lambda: page}), ("127.0.0.1", 0))
    yield server
    server.close()


@contextlib.contextmanager
def connected(
    server: HttpServer, count: int, source: str = "127.0.0.1"
) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(server, source)) for _ in range(count)]


def connect(server: HttpServer, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), WAIT_S, (source, 0))


def answer(peer: socket.socket) -> bytes:
    return b"".join(iter(lambda: peer.recv(1 << 16), b""))


def is_alive(server: HttpServer) -> bool:
    return fetch(f"http://127.0.0.1:{server.port}/healthz") == (200, "ok\n")


def test_peers_that_say_nothing_keep_nobody_from_an_answer() -> None:
    threads = threading.active_count()
    with serving() as server, connected(server, 4 * MAX_PEERS):
        assert is_alive(server)
        assert threading.active_count() <= threads + 2  # the one that waits, one that answers


def test_connections_that_come_all_the_time_keep_nobody_from_an_answer() -> None:
    with serving() as server:
        ended = threading.Event()

        def knock() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError), connect(server):
                    pass

        strangers = [threading.Thread(target=knock) for _ in range(4)]
        for stranger in strangers:
            stranger.start()
        try:
            assert all(is_alive(server) for _ in range(10))
        finally:
            ended.set()
            for stranger in strangers:
                stranger.join()


def test_who_dribbles_its_head_is_ended_at_the_deadline_of_the_whole_head() -> None:
    with serving() as server, connect(server) as slow:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < started + WAIT_S:
                slow.sendall(b"x")
                slow.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not slow.recv(1):
                        break
        assert HEAD_S / 2 < time.monotonic() - started < WAIT_S


def test_many_of_one_address_take_no_place_of_another() -> None:
    with serving() as server, connect(server, "127.0.0.2") as other:
        other.sendall(GET[:5])
        with connected(server, 2 * MAX_PEERS):
            assert is_alive(server)
            other.sendall(GET[5:])
            assert answer(other).startswith(b"HTTP/1.1 200")


def test_who_reads_nothing_of_its_answer_keeps_nobody_from_theirs() -> None:
    with serving("x" * (8 << 20)) as server, connected(server, 2 * MAX_PEERS) as deaf:
        for peer in deaf:
            with contextlib.suppress(OSError):
                peer.sendall(GET)
        with connect(server, "127.0.0.2") as other:
            other.sendall(GET)
            assert len(answer(other)) > 8 << 20


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET /" + b"x" * (MAX_HEAD_BYTES + 20_000), b"400", id="long-head"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000, b"405", id="body"
        ),
    ],
)
def test_what_is_not_read_does_not_take_the_answer_back(
    request_bytes: bytes, status: bytes
) -> None:
    assert len(request_bytes) < MAX_UNREAD_BYTES
    with serving() as server, connect(server) as peer:
        peer.sendall(request_bytes)
        assert answer(peer).split(b" ")[1] == status


def test_an_endless_body_is_ended() -> None:
    def pour(peer: socket.socket) -> None:
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            peer.sendall(b"x" * 65536)

    with serving() as server, connect(server) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionError):
            pour(peer)


def test_a_page_is_made_so_many_times_a_second_however_often_it_is_asked_for() -> None:
    now, made = [0.0], []

    def page() -> Response:
        made.append(now[0])
        return OK

    shared = Shared(page, lambda: now[0])
    for _ in range(100):
        now[0] += 0.001
        assert shared() is OK
    assert len(made) == PAGES
    now[0] += PAGES_S
    shared()
    assert len(made) == PAGES + 1


def test_who_waits_while_a_page_is_made_does_not_wait_for_another() -> None:
    """A loop that hangs costs each prober one deadline, not one for each that stands before it."""
    begun, go_on, made = threading.Event(), threading.Event(), []

    def page() -> Response:
        made.append(1)
        begun.set()
        go_on.wait(WAIT_S)
        return OK

    shared = Shared(page)
    first = threading.Thread(target=shared)
    first.start()
    begun.wait(WAIT_S)
    asked = [threading.Thread(target=shared) for _ in range(6)]
    for thread in asked:
        thread.start()
    go_on.set()
    for thread in [first, *asked]:
        thread.join()
    assert 1 <= len(made) <= PAGES


def test_a_page_that_hangs_holds_its_own_askers_only() -> None:
    go_on = threading.Event()

    def hangs() -> Response:
        go_on.wait(WAIT_S)
        return OK

    app = application({"/hangs": hangs, "/healthz": lambda: OK})
    server = HttpServer(app, ("127.0.0.1", 0))
    try:
        with connect(server, "127.0.0.2") as asker:
            asker.sendall(b"GET /hangs HTTP/1.1\r\n\r\n")
            assert is_alive(server)
            go_on.set()
            assert answer(asker).endswith(b"ok\n")
    finally:
        go_on.set()
        server.close()
