"""A small HTTP server for a table of pages, and the pages that every daemon has."""

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial

from deviceplugin.metrics.connections import END, Connections
from deviceplugin.metrics.door import PLAIN, App, Door
from deviceplugin.metrics.openmetrics import as_openmetrics, wants_openmetrics
from deviceplugin.metrics.registry import CONTENT_TYPE, Registry
from deviceplugin.runtime.guard import guarded
from deviceplugin.runtime.part import Page, Response

LOOP_S = 2.0
PAGES_S = 1.0
PAGES = 4


class HttpServer(Connections):
    """Answers GET and HEAD by `app`, a path at a time and connection, until `close`.

    `door` decides who gets which page. Raises OSError if it cannot bind.
    """

    def __init__(self, app: App, address: tuple[str, int], door: Door | None = None) -> None:
        door = door or Door()
        super().__init__(partial(_answer, door, app), address, door.enter)


def _answer(door: Door, app: App, head: bytes, connection: socket.socket) -> bytes:
    method, path = _parse_request(head)
    if not path:
        response = Response("400 Bad Request", PLAIN, "no HTTP/1 request\n")
    elif method not in ("GET", "HEAD"):
        response = Response("405 Method Not Allowed", PLAIN, "read-only\n")
    else:
        response = door.answer(app, path, head, connection)
        response = as_openmetrics(response) if wants_openmetrics(head) else response
    return _encode(response, with_body=method != "HEAD")


def _parse_request(head: bytes) -> tuple[str, str]:
    """Method and path of a complete head, else nothing (RFC 9112, 3)."""
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if END not in head or len(words) != 3 or not words[2].startswith("HTTP/1."):
        return "", ""
    return words[0], words[1].partition("?")[0]


@lru_cache(maxsize=4)
def _encode(response: Response, *, with_body: bool) -> bytes:
    """The same bytes for all who are given the same page, however slowly they read."""
    body = response.text.encode()
    head = (
        f"HTTP/1.1 {response.status}\r\nContent-Type: {response.content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    )
    head += "WWW-Authenticate: Bearer\r\n" if response.status.startswith("401") else ""
    return f"{head}\r\n".encode() + (body if with_body else b"")


class Shared:
    """A page that is made once for all who wait for it, and no more than PAGES times in PAGES_S:
    whoever asks more often gets the last one again. What strangers ask for costs no more."""

    def __init__(self, page: Page, clock: Callable[[], float] = time.monotonic) -> None:
        self._page, self._clock = page, clock
        self._one = threading.Lock()
        self._made: deque[tuple[float, Response]] = deque(maxlen=PAGES)

    def __call__(self) -> Response:
        """The page as it is now, or as it was when PAGES were made within the last PAGES_S."""
        asked_at = self._clock()
        with self._one:
            if self._made and self._is_new(asked_at):
                return self._made[-1][1]
            started_at = self._clock()
            response = self._page()
            self._made.append((started_at, response))
            return response

    def _is_new(self, asked_at: float) -> bool:
        """Made since it was asked for, or the last of many."""
        if self._made[-1][0] >= asked_at:
            return True
        return len(self._made) == PAGES and self._clock() - self._made[0][0] < PAGES_S


def application(routes: Mapping[str, Page]) -> App:
    """Answers by the table of pages; a page that fails costs itself, and any other path is told
    what there is."""
    pages = {path: Shared(guarded(f"page {path}", page, _failed)) for path, page in routes.items()}
    *most, last = sorted(pages) or [""]
    there = f"{', '.join(most)} and {last}" if most else last or "nothing"

    def answer(path: str) -> Response:
        if path in pages:
            return pages[path]()
        return Response("404 Not Found", PLAIN, f"there is {there}\n")

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
    return Response("500 Internal Server Error", PLAIN, "this page failed, see the log\n")


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
    return Response(status, PLAIN, "\n".join((problem or "ok", *remarks, "")))
