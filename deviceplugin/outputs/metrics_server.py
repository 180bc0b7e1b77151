"""The HTTP endpoint with /metrics, /healthz and /readyz; read-only, bounded, on its own threads.

It is not served by the loop, so that /healthz can tell that the loop is frozen.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

MAX_REQUESTS = 8
REQUEST_S = 5.0
LOOP_S = 2.0
ACCEPT_RETRY_S = 0.2

Start = Callable[[str, list[tuple[str, str]]], Any]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


def application(
    registry: CollectorRegistry, alive: Callable[[], bool], ready: Callable[[], str]
) -> App:
    """The WSGI application; `ready` gives an empty text, or what is being waited for."""
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            answer: Iterable[bytes] = metrics(environ, start)
            return answer
        if path == "/healthz":
            return _plain(start, "" if alive() else "the event loop does not answer")
        if path == "/readyz":
            return _plain(start, ready())
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there is /metrics, /healthz and /readyz\n"]

    return app


def loop_alive(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop runs a callback within LOOP_S seconds; called from another thread."""
    answered = threading.Event()
    try:
        loop.call_soon_threadsafe(answered.set)
    except RuntimeError:  # closed
        return False
    return answered.wait(LOOP_S)


def serve_http(app: App, address: tuple[str, int]) -> WSGIServer:
    """Listen and answer on daemon threads until `shutdown`; raises OSError if it cannot bind."""
    family = _Server6 if ":" in address[0] else _Server
    server = family(address, _Handler)
    server.set_app(app)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


def _plain(start: Start, problem: str) -> Iterable[bytes]:
    status = "503 Service Unavailable" if problem else "200 OK"
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{problem or 'ok'}\n".encode()]


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Scrapes and probes are no events."""


class _Server(ThreadingMixIn, WSGIServer):
    """At most MAX_REQUESTS at a time: a further one waits in the listen queue."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.Semaphore(MAX_REQUESTS)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Without the name look-up of the base class, which can wait for a resolver."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def get_request(self) -> Any:  # the base class's type
        try:
            return super().get_request()
        except OSError:  # no descriptor left: the client still waits, asking at once is a busy loop
            time.sleep(ACCEPT_RETRY_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no event."""


class _Server6(_Server):
    address_family = 10  # AF_INET6
