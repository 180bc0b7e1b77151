"""A small API server over HTTPS: nodes, pods and Events, with the patches that we send.

Its key (account/key.pem) protects nothing: it is only for this stub on 127.0.0.1.
"""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deviceplugin.kubernetes.api import Access

ACCOUNT = Path(__file__).parent / "account"
TOKEN = (ACCOUNT / "token").read_text().strip()
Document = dict[str, Any]


class ApiStub:
    """What the cluster has; `failures` are statuses that the next writes get."""

    def __init__(self, port: int) -> None:
        self.access = Access(host="127.0.0.1", port=port, account=ACCOUNT)
        self.node: Document = {
            "metadata": {"name": "node-1", "resourceVersion": "1"},
            "spec": {"taints": [{"key": "other", "effect": "NoExecute"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        self.pods: dict[str, str] = {}  # namespace/name to uid
        self.events: dict[str, Document] = {}
        self.failures: list[int] = []
        self.refused: dict[str, int] = {}  # method and start of the path to a status
        self.accounts: dict[str, str] = {}  # token to user
        self.readers: dict[str, str] = {}  # user to the path that it may get
        self.requests: list[str] = []
        self.changed = threading.Condition()

    def answer(self, method: str, path: str, body: Document, kind: str) -> tuple[int, Document]:
        with self.changed:
            self.requests.append(f"{method} {path}")
            self.changed.notify_all()
            if method != "GET" and self.failures:
                return self.failures.pop(0), {"message": "not now"}
            for start, status in self.refused.items():
                if f"{method} {path}".startswith(start):
                    return status, {"message": "events is forbidden"}
            if path.startswith("/apis/"):
                return 201, {"status": self._reviewed(body["kind"], body["spec"])}
            return self._served(method, path.strip("/").split("/")[2:], body, kind)

    def _served(
        self, method: str, path: list[str], body: Document, kind: str
    ) -> tuple[int, Document]:
        if path == ["nodes", "node-1"] and method == "GET":
            return 200, self.node
        if path == ["nodes", "node-1"] and kind.startswith("application/merge"):
            version = body["metadata"].get("resourceVersion")  # without one any is patched
            if version and version != self.node["metadata"]["resourceVersion"]:
                return 409, {"message": "the object has been modified"}
            self.node["spec"] |= body.get("spec", {})
            for part in ("labels", "annotations"):
                self._merge_texts(part, body["metadata"].get(part, {}))
            return 200, self.node
        if path == ["nodes", "node-1", "status"] and kind.startswith("application/strategic"):
            self._merge(body["status"]["conditions"])
            return 200, self.node
        if path[:1] == ["namespaces"] and path[2] == "pods":
            uid = self.pods.get(f"{path[1]}/{path[3]}")
            return (200, {"metadata": {"uid": uid}}) if uid else (404, {"message": "no such pod"})
        return self._event(method, path, body)

    def _reviewed(self, kind: str, spec: Document) -> Document:
        if kind == "TokenReview":
            user = self.accounts.get(spec["token"])
            return {"authenticated": True, "user": {"username": user}} if user else {}
        wanted = spec["nonResourceAttributes"]
        allowed = self.readers.get(spec["user"]) == wanted["path"] and wanted["verb"] == "get"
        return {"allowed": allowed}

    def _event(self, method: str, path: list[str], body: Document) -> tuple[int, Document]:
        if method == "POST" and path[2:] == ["events"]:
            name = f"{path[1]}/{body['metadata']['name']}"
            if name in self.events:
                return 409, {"message": "already exists"}
            self.events[name] = body
            return 201, body
        name = f"{path[1]}/{path[3]}"
        if method == "PATCH":
            self.events[name] |= body
        return 200, self.events[name]

    def _merge_texts(self, part: str, changes: dict[str, str | None]) -> None:
        texts = self.node["metadata"].setdefault(part, {})
        texts |= {key: value for key, value in changes.items() if value is not None}
        for key in [key for key, value in changes.items() if value is None]:
            texts.pop(key, None)

    def _merge(self, changes: list[Document]) -> None:
        conditions = {one["type"]: one for one in self.node["status"]["conditions"]}
        for change in changes:
            if change.get("$patch") == "delete":
                conditions.pop(change["type"], None)
            else:
                conditions[change["type"]] = change
        self.node["status"]["conditions"] = list(conditions.values())

    def condition(self) -> Document | None:
        found = [c for c in self.node["status"]["conditions"] if c["type"] == "GpuProblem"]
        return found[0] if found else None

    def taints(self) -> list[str]:
        return [taint["key"] for taint in self.node["spec"]["taints"]]


def _handler(stubs: list[ApiStub]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, document = 401, {"message": "who are you"}
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                kind = self.headers.get("Content-Type", "")
                status, document = stubs[0].answer(self.command, self.path, body, kind)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _serve  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def api_stub() -> Iterator[ApiStub]:
    """The stub, serving."""
    stubs: list[ApiStub] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stubs))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ACCOUNT / "ca.crt", ACCOUNT / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    stubs.append(ApiStub(server.server_address[1]))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield stubs[0]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
