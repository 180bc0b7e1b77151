"""A small HTTP server for a table of pages, and the pages that every daemon has."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from deviceplugin.metrics.registry import CONTENT_TYPE, Registry
from deviceplugin.runtime.guard import guarded, start_guarded
from deviceplugin.runtime.part import Page, Response

MAX_REQUESTS = 8


REQUEST_S = 5.0


MAX_HEAD_BYTES = 16 * 1024


RETRY_S = 1.0


_BACKLOG = 16


_END = b"\r\n\r\n"


App = Callable[[str], Response]


class HttpServer:
    """Answers GET and HEAD by `app`, a path at a time and connection, until `close`.

    At most MAX_REQUESTS at a time: a further one waits in the listen queue. The time for a whole
    request is bounded, not that for each of its bytes. Raises OSError if it cannot bind.
    """

    def __init__(self, app: App, address: tuple[str, int]) -> None:
        self._app = app
        self._free = threading.Semaphore(MAX_REQUESTS)
        self._closing = threading.Event()
        self._listener = _listen(address)
        self.port: int = self._listener.getsockname()[1]
        start_guarded("http", self._accept)

    def close(self) -> None:
        """Answer no more; what is being answered is finished."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() does not
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            self._free.acquire()
            try:
                peer, _ = self._listener.accept()
                start_guarded("http-request", partial(self._serve, peer))
            except (OSError, RuntimeError):  # closed; no file descriptor or no thread to be had
                self._free.release()
                self._closing.wait(RETRY_S)

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer:
                self._answer(peer)
        finally:
            self._free.release()

    def _answer(self, peer: socket.socket) -> None:
        """A peer that goes away or says nothing is no event."""
        try:
            head = _read_head(peer)
        except OSError:
            return
        method, path = _parse_request(head)
        if not path:
            response = Response("400 Bad Request", "text/plain", "no HTTP/1 request\n")
        elif method not in ("GET", "HEAD"):
            response = Response("405 Method Not Allowed", "text/plain", "read-only\n")
        else:
            response = self._app(path)
        with contextlib.suppress(OSError):
            peer.settimeout(REQUEST_S)
            peer.sendall(_encode(response, with_body=method != "HEAD"))


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _read_head(peer: socket.socket) -> bytes:
    """Everything up to the empty line, or what came instead; raises OSError when time is up."""
    deadline, head = time.monotonic() + REQUEST_S, b""
    while _END not in head and len(head) < MAX_HEAD_BYTES:
        peer.settimeout(max(deadline - time.monotonic(), 0.001))
        part = peer.recv(MAX_HEAD_BYTES)
        if not part:
            break
        head += part
    return head


def _parse_request(head: bytes) -> tuple[str, str]:
    """Method and path of a complete head, else nothing (RFC 9112, 3)."""
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if _END not in head or len(words) != 3 or not words[2].startswith("HTTP/1."):
        return "", ""
    return words[0], words[1].partition("?")[0]


def _encode(response: Response, *, with_body: bool) -> bytes:
    body = response.text.encode()
    head = (
        f"HTTP/1.1 {response.status}\r\nContent-Type: {response.content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")


LOOP_S = 2.0


_PLAIN = "text/plain; charset=utf-8"


def application(routes: Mapping[str, Page]) -> App:
    """Answers by the table of pages; a page that fails costs itself, and any other path is told
    what there is."""
    pages = {path: guarded(f"page {path}", page, _failed) for path, page in routes.items()}
    *most, last = sorted(pages) or [""]
    there = f"{', '.join(most)} and {last}" if most else last or "nothing"

    def answer(path: str) -> Response:
        if path in pages:
            return pages[path]()
        return Response("404 Not Found", _PLAIN, f"there is {there}\n")

    return answer


def pages_of(
    registry: Registry,
    alive: Callable[[], bool],
    ready: Callable[[], str],
    remarks: Callable[[], Sequence[str]] = tuple,
) -> Mapping[str, Page]:
    """/metrics, /healthz and /readyz; `ready` gives an empty text, or what is being waited for,
    `remarks` are lines for a daemon that is ready."""
    return {
        "/metrics": lambda: Response("200 OK", CONTENT_TYPE, registry.text()),
        "/healthz": lambda: _probe("" if alive() else "the event loop does not answer"),
        "/readyz": lambda: _probe(ready(), remarks()),
    }


def _failed() -> Response:
    return Response("500 Internal Server Error", _PLAIN, "this page failed, see the log\n")


def loop_alive(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop runs a callback within LOOP_S seconds; called from another thread."""
    answered = threading.Event()
    try:
        loop.call_soon_threadsafe(answered.set)
    except RuntimeError:  # closed
        return False
    return answered.wait(LOOP_S)


def _probe(problem: str, remarks: Sequence[str] = ()) -> Response:
    status = "503 Service Unavailable" if problem else "200 OK"
    return Response(status, _PLAIN, "\n".join((problem or "ok", *remarks, "")))
