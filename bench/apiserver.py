"""The API server's stub on a socket, and the kubeconfig for it: for daemons that are processes."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from deviceplugin.kubernetes.api import ApiError
from deviceplugin.testing.apiserver import ApiServer
from tests.kubernetes.stub import ACCOUNT, TOKEN

QUIET_S = 5.0


@contextmanager
def api_server(directory: Path) -> Iterator[tuple[ApiServer, str]]:
    """It, serving, and the path of a kubeconfig that leads there."""
    stub = ApiServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ACCOUNT / "ca.crt", ACCOUNT / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield stub, _kubeconfig(directory, server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _kubeconfig(directory: Path, port: int) -> str:
    cluster = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority": str(ACCOUNT / "ca.crt"),
    }
    document = {
        "clusters": [{"name": "stub", "cluster": cluster}],
        "users": [{"name": "stub", "user": {"token": TOKEN}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
        "current-context": "stub",
    }
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def _handler(stub: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            try:
                if "watch=" in self.path:
                    self._watch()
                    return
                kind = self.headers.get("Content-Type", "")
                self._send(200, stub.request(self.command, self.path, body, kind))
            except ApiError as error:
                self._send(error.status, {"message": str(error)})

        def _watch(self) -> None:
            self.send_response(200)
            self.end_headers()
            for line in stub.lines(self.path, QUIET_S):
                self.wfile.write(line + b"\n")

        def _send(self, status: int, document: object) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
