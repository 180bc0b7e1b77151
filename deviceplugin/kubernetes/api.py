"""The few requests to the API server, over http.client; blocks, so it is called on a thread."""

import contextlib
import http.client
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from deviceplugin.kubernetes.access import Access, ApiError, TooLargeError
from deviceplugin.names import one_line

__all__ = [
    "JSON",
    "MERGE",
    "STRATEGIC",
    "Access",
    "Api",
    "ApiError",
    "Document",
    "InCluster",
    "TooLargeError",
    "in_cluster",
]

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 8 << 20  # a Node lists its images
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json"
Document = dict[str, Any]


def in_cluster(environ: Mapping[str, str] = os.environ) -> Access:
    """What the kubelet tells each pod, or else $KUBECONFIG; raises ApiError without both."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT")
    if host and (port or "").isdecimal():
        return Access(host=host, port=int(port or 0))
    if path := environ.get("KUBECONFIG"):
        from deviceplugin.kubernetes.kubeconfig import (  # noqa: PLC0415  # in no pod
            read_kubeconfig,
        )

        return read_kubeconfig(path)
    raise ApiError(
        "no API server is known: neither KUBERNETES_SERVICE_HOST and _PORT are set nor KUBECONFIG"
    )


class Api:
    """Requests as the service account; its token is read each time, since it is renewed."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def request(
        self, method: str, path: str, body: Document | None = None, kind: str = JSON
    ) -> Document:
        """The answer's document; raises ApiError."""
        where = self._where(method, path)
        payload = None if body is None else json.dumps(body).encode()
        status, content = self._exchange(method, path, payload, {"Content-Type": kind})
        if status >= 300:
            raise _refused(where, status, content)
        return _document(where, content)

    def content(self, path: str, accept: str = JSON) -> bytes:
        """What GET answers, as it came; raises ApiError, a TooLargeError for what is too large."""
        where = self._where("GET", path)
        status, content = self._exchange("GET", path, None, {"Accept": accept})
        if status >= 300:
            raise _refused(where, status, content)
        return content

    def lines(self, path: str, quiet_s: float) -> Iterator[bytes]:
        """The lines of a watch until the server ends it; raises ApiError, also after `quiet_s`
        without one."""
        where = self._where("GET", path)
        try:
            connection, headers = self._connect(quiet_s)
            with contextlib.closing(connection):
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                if answer.status != 200:
                    raise ApiError(f"{where}: {answer.status}", answer.status)
                while line := answer.readline(MAX_ANSWER_BYTES):
                    yield line
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(one_line(f"{where}: {error or type(error).__name__}")) from error

    def _connect(self, timeout_s: float) -> tuple[http.client.HTTPSConnection, dict[str, str]]:
        token, context = self._access.proofs()
        connection = http.client.HTTPSConnection(
            self._access.host, self._access.port, timeout=timeout_s, context=context
        )
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        return connection, {**bearer, "Accept": JSON}

    def _exchange(
        self, method: str, path: str, payload: bytes | None, more: Mapping[str, str]
    ) -> tuple[int, bytes]:
        where = self._where(method, path)
        try:
            connection, headers = self._connect(TIMEOUT_S)
            with contextlib.closing(connection):
                connection.request(method, path, payload, {**headers, **more})
                answer = connection.getresponse()
                content = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(one_line(f"{where}: {error or type(error).__name__}")) from error
        if len(content) > MAX_ANSWER_BYTES:
            raise TooLargeError(f"{where}: the answer has more than {MAX_ANSWER_BYTES >> 20} MiB")
        return answer.status, content

    def _where(self, method: str, path: str) -> str:
        return f"{method} https://{self._access.host}:{self._access.port}{path}"


def _document(where: str, content: bytes) -> Document:
    try:
        document = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError(one_line(f"{where}: {error or type(error).__name__}")) from error
    if not isinstance(document, dict):
        raise ApiError(f"{where}: the answer is not an object")
    return document


def _refused(where: str, status: int, content: bytes) -> ApiError:
    """With the API server's reason; a proxy before it gives another kind of page."""
    try:
        text = _document(where, content).get("message", "no reason given")
    except ApiError:
        text = "no reason given"
    return ApiError(one_line(f"{where}: {status}: {text}"), status)


class InCluster:
    """The API server of the cluster in whose pod this runs, or of $KUBECONFIG; whether there is
    one is known when something is asked."""

    def request(
        self, method: str, path: str, body: Document | None = None, kind: str = JSON
    ) -> Document:
        """The answer's document; raises ApiError."""
        return Api(in_cluster()).request(method, path, body, kind)

    def lines(self, path: str, quiet_s: float) -> Iterator[bytes]:
        """The lines of a watch; raises ApiError."""
        return Api(in_cluster()).lines(path, quiet_s)
