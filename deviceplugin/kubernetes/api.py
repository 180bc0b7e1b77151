"""The few requests to the API server, over http.client; blocks, so it is called on a thread."""

import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from deviceplugin.errors import DevicePluginError
from deviceplugin.names import one_line

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 8 << 20  # a Node lists its images
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json"
Document = dict[str, Any]


class ApiError(DevicePluginError):
    """The API server did not do it; `status` is its HTTP status, 0 where it gave none."""

    def __init__(self, text: str, status: int = 0) -> None:
        self.status = status
        super().__init__(text)

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (0, 409, 429) or self.status >= 500


class Access(Struct, frozen=True, kw_only=True):
    """Where the API server is, and the files of the service account."""

    host: str
    port: int
    account: Path = ACCOUNT


def in_cluster(environ: Mapping[str, str] = os.environ) -> Access:
    """What the kubelet tells each pod; raises ApiError outside a pod."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not (port or "").isdecimal():
        raise ApiError("no API server is known: KUBERNETES_SERVICE_HOST and _PORT are not set")
    return Access(host=host, port=int(port or 0))


class Api:
    """Requests as the service account; its token is read each time, since it is renewed."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def request(
        self, method: str, path: str, body: Document | None = None, kind: str = JSON
    ) -> Document:
        """The answer's document; raises ApiError."""
        where = f"{method} https://{self._access.host}:{self._access.port}{path}"
        try:
            status, content = self._exchange(method, path, body, kind)
            document = json.loads(content or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(one_line(f"{where}: {error or type(error).__name__}")) from error
        if not isinstance(document, dict):
            raise ApiError(f"{where}: the answer is not an object")
        if status >= 300:
            text = document.get("message", "no reason given")
            raise ApiError(one_line(f"{where}: {status}: {text}"), status)
        return document

    def lines(self, path: str, quiet_s: float) -> Iterator[bytes]:
        """The lines of a watch until the server ends it; raises ApiError, also after `quiet_s`
        without one."""
        where = f"GET https://{self._access.host}:{self._access.port}{path}"
        try:
            connection, headers = self._connect(quiet_s)
            with contextlib.closing(connection):
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                if answer.status != 200:
                    raise ApiError(f"{where}: {answer.status}", answer.status)
                while line := answer.readline(MAX_ANSWER_BYTES):
                    yield line
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(one_line(f"{where}: {error or type(error).__name__}")) from error

    def _connect(self, timeout_s: float) -> tuple[http.client.HTTPSConnection, dict[str, str]]:
        account = self._access.account
        token = (account / "token").read_text().strip()
        context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        connection = http.client.HTTPSConnection(
            self._access.host, self._access.port, timeout=timeout_s, context=context
        )
        return connection, {"Authorization": f"Bearer {token}", "Accept": JSON}

    def _exchange(
        self, method: str, path: str, body: Document | None, kind: str
    ) -> tuple[int, bytes]:
        connection, headers = self._connect(TIMEOUT_S)
        headers["Content-Type"] = kind
        try:
            payload = None if body is None else json.dumps(body).encode()
            connection.request(method, path, payload, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(MAX_ANSWER_BYTES)
        finally:
            connection.close()


class InCluster:
    """The API server of the cluster in whose pod this runs; whether there is one is known when
    something is asked."""

    def request(
        self, method: str, path: str, body: Document | None = None, kind: str = JSON
    ) -> Document:
        """The answer's document; raises ApiError."""
        return Api(in_cluster()).request(method, path, body, kind)

    def lines(self, path: str, quiet_s: float) -> Iterator[bytes]:
        """The lines of a watch; raises ApiError."""
        return Api(in_cluster()).lines(path, quiet_s)
