"""What stands between a connection and the pages: nothing, TLS, or TLS and a token.

Probes of a kubelet have no token and check no certificate, so `/healthz` and `/readyz` are answered
without both; `/readyz` gives its reason to known readers alone then.
"""

import socket
from collections.abc import Callable
from typing import NamedTuple, Protocol

from deviceplugin.runtime.part import Response

App = Callable[[str], Response]
PLAIN = "text/plain; charset=utf-8"
PROBES = ("/healthz", "/readyz")
UNREADY = Response("503 Service Unavailable", PLAIN, "not ready; the reason is for readers\n")
_HANDSHAKE = b"\x16"  # how a client begins TLS (RFC 8446, 5.1)


class Request(NamedTuple):
    """A request for a page: its path, the bearer token or nothing, and the peer's address."""

    path: str
    token: str
    peer: str


class Access(Protocol):
    """Who may read the pages."""

    def __call__(self, request: Request) -> Response | None:
        """None for a known reader, else the refusal."""


class Door:
    """The open door: everybody gets every page."""

    def enter(self, peer: socket.socket) -> socket.socket:
        """The connection to talk on, asked for when a first byte may have come; raises OSError."""
        return peer

    def answer(self, app: App, path: str, head: bytes, peer: socket.socket) -> Response:
        """The page, or why it is not given."""
        return app(path)


class LockedDoor(Door):
    """`wrap` makes TLS of a connection; without an `access` everybody who speaks it is served."""

    def __init__(
        self, wrap: Callable[[socket.socket], socket.socket], access: Access | None = None
    ) -> None:
        self._wrap, self._access = wrap, access

    def enter(self, peer: socket.socket) -> socket.socket:
        """TLS where the peer begins it."""
        return self._wrap(peer) if peer.recv(1, socket.MSG_PEEK) == _HANDSHAKE else peer

    def answer(self, app: App, path: str, head: bytes, peer: socket.socket) -> Response:
        """The page, or why it is not given."""
        secret = hasattr(peer, "cipher")  # without loading ssl: a socket of TLS has a cipher
        if path in PROBES:
            return self._probe(app(path), Request(path, token_of(head), _address(peer)), secret)
        if not secret:
            return Response("403 Forbidden", PLAIN, "this page is given over https alone\n")
        refusal = self._access and self._access(Request(path, token_of(head), _address(peer)))
        return refusal or app(path)

    def _probe(self, response: Response, request: Request, secret: bool) -> Response:
        """The status is for everybody, the reason names resources and sockets."""
        if response.status.startswith("200") or (secret and self._access is None):
            return response
        known = secret and request.token and self._access and not self._access(request)
        return response if known else UNREADY


def token_of(head: bytes) -> str:
    """The bearer token of a request's head (RFC 6750, 2.1), else nothing."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"authorization":
            scheme, _, token = value.decode("latin-1").strip().partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""


def _address(peer: socket.socket) -> str:
    try:
        return str(peer.getpeername()[0])
    except (OSError, IndexError):  # it is gone already
        return ""
