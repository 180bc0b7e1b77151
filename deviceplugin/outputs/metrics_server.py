"""What the HTTP endpoint answers: /metrics, /healthz and /readyz."""

import asyncio
import threading
from collections.abc import Callable

from deviceplugin.outputs.exposition import CONTENT_TYPE, Registry
from deviceplugin.outputs.http_server import App, Response

LOOP_S = 2.0
_PLAIN = "text/plain; charset=utf-8"


def application(registry: Registry, alive: Callable[[], bool], ready: Callable[[], str]) -> App:
    """The answers; `ready` gives an empty text, or what is being waited for."""

    def answer(path: str) -> Response:
        if path == "/metrics":
            return Response("200 OK", CONTENT_TYPE, registry.text())
        if path == "/healthz":
            return _probe("" if alive() else "the event loop does not answer")
        if path == "/readyz":
            return _probe(ready())
        return Response("404 Not Found", _PLAIN, "there is /metrics, /healthz and /readyz\n")

    return answer


def loop_alive(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop runs a callback within LOOP_S seconds; called from another thread."""
    answered = threading.Event()
    try:
        loop.call_soon_threadsafe(answered.set)
    except RuntimeError:  # closed
        return False
    return answered.wait(LOOP_S)


def _probe(problem: str) -> Response:
    status = "503 Service Unavailable" if problem else "200 OK"
    return Response(status, _PLAIN, f"{problem or 'ok'}\n")
