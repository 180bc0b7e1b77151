"""A small API server over HTTPS that lists nodes and pods and lets them be watched."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from deviceplugin.kubernetes.api import Access
from tests.kubernetes.stub import ACCOUNT, TOKEN

Document = dict[str, Any]
WAIT_S = 60.0
KINDS = ("nodes", "pods", "resourceslices", "resourceclaims", "deviceclasses")


class WatchStub:
    """What there is, and what has happened, by kind (`nodes`, `pods`, and of DRA). `absent` kinds
    are not found."""

    def __init__(self) -> None:
        self.access = Access(host="127.0.0.1", port=0, account=ACCOUNT)
        self.objects: dict[str, dict[str, Document]] = {kind: {} for kind in KINDS}
        self.absent: frozenset[str] = frozenset()
        self.away = False  # no question is answered but by 503
        self.events: list[tuple[int, str, str, Document]] = []  # version, kind, type, object
        self.compacted = 0  # watches from before this version are GONE
        self.ended = 0  # watches that were open when this rose are ended
        self.version = 1
        self.changed = threading.Condition()
        self.closing = False

    def put(self, kind: str, thing: Document) -> None:
        """The object is new or changed."""
        with self.changed:
            name = thing["metadata"]["name"]
            self._happened(kind, "MODIFIED" if name in self.objects[kind] else "ADDED", thing)
            self.objects[kind][name] = thing

    def delete(self, kind: str, name: str) -> None:
        """The object is gone."""
        with self.changed:
            self._happened(kind, "DELETED", self.objects[kind].pop(name))

    def _happened(self, kind: str, how: str, thing: Document) -> None:
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, kind, how, thing))
        self.changed.notify_all()

    def end_watches(self, *, gone: bool = False) -> None:
        """End all open watches; with `gone` they cannot go on from where they were."""
        with self.changed:
            self.ended += 1
            if gone:
                self.compacted = self.version + 1
                self.version += 2
            self.changed.notify_all()

    def page(self, kind: str, query: dict[str, list[str]]) -> Document:
        """A page of a list."""
        with self.changed:
            names = sorted(self.objects[kind])
            start, limit = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
            following = str(start + limit) if start + limit < len(names) else ""
            return {
                "metadata": {"resourceVersion": str(self.version), "continue": following},
                "items": [self.objects[kind][name] for name in names[start : start + limit]],
            }

    def watched(self, kind: str, version: int) -> Iterator[Document]:
        """What happens after the version."""
        ended = self.ended
        if version < self.compacted:
            yield {"type": "ERROR", "object": {"code": 410, "metadata": {}}}
            return
        while True:
            with self.changed:
                new = [event for event in self.events if event[0] > version]
                if not new:
                    if self.closing or self.ended > ended:
                        return
                    self.changed.wait(WAIT_S)
                    continue
                version = new[-1][0]
            for _, of, how, thing in new:
                if of == kind:
                    yield {"type": how, "object": thing}


def _handler(stub: WatchStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query, kind = parse_qs(parts.query), parts.path.rpartition("/")[2]
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            if stub.away or kind in stub.absent:
                self.send_error(503 if stub.away else 404)
                return
            self.send_response(200)
            self.end_headers()
            if "watch" in query:
                for event in stub.watched(kind, int(query["resourceVersion"][0])):
                    self.wfile.write(json.dumps(event).encode() + b"\n")
            else:
                self.wfile.write(json.dumps(stub.page(kind, query)).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def watch_stub() -> Iterator[WatchStub]:
    """The stub, serving."""
    stub = WatchStub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ACCOUNT / "ca.crt", ACCOUNT / "key.pem")
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    stub.access = Access(host="127.0.0.1", port=server.server_address[1], account=ACCOUNT)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield stub
    finally:
        with stub.changed:
            stub.closing = True
            stub.changed.notify_all()
        server.shutdown()
        thread.join()
        server.server_close()
