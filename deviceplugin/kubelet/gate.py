"""The door of a plugin's socket: what a peer sends goes to gRPC as it is while it is in bounds.

gRPC's own limits hold most of what a hostile peer can send. They do not hold a header block that
never ends (CONTINUATION): it writes each field that it refuses into the text of an error, which
grows until the container's limit of memory ends the daemon. Nor do they hold how fast calls and
pings come, which all share the server with the kubelet's: here that peer waits, and no other.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import structlog

from deviceplugin.errors import RegistrationError
from deviceplugin.kubelet.frames import Frames
from deviceplugin.kubelet.limits import CONNECTIONS
from deviceplugin.names import socket_path_problem
from deviceplugin.runtime.files import own_directory
from deviceplugin.runtime.sockets import bind_closed, user_of

log = structlog.get_logger()

DRAIN_S = 0.5
MAX_TOLD = 10
READ_BYTES = 16 * 1024
_BACKLOG = 16


class _Peer(asyncio.BufferedProtocol):
    """A connection from outside; `inner` is its other half.

    Its own buffer keeps a step on the loop short, however small the frames are that come.
    """

    transport: asyncio.Transport

    def __init__(self, gate: "Gate") -> None:
        self._gate, self.inner = gate, _Inner(self)
        self._frames = Frames(gate.now())
        self._buffer = bytearray(READ_BYTES)
        self._is_held = self._is_full = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # a stream's
        try:
            if self._gate.admits(self):
                self.transport.pause_reading()
                self._joining = asyncio.ensure_future(self._join())
                return
        except OSError:  # it is gone
            pass
        self.transport.abort()

    async def _join(self) -> None:
        """Not by the loop's own connect: that asks first whether the socket is one of TLS, and so
        loads OpenSSL."""
        half = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        half.setblocking(False)
        try:
            half.connect(self._gate.inner)
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: self.inner, sock=half)
        except (OSError, asyncio.CancelledError):  # gRPC ends, or has enough to do
            half.close()
            self.transport.abort()
            return
        self._is_held = self._is_full = False
        self._go_on()

    def _go_on(self) -> None:
        if not (self._is_held or self._is_full or self.transport.is_closing()):
            self.transport.resume_reading()

    def _release(self) -> None:
        self._is_held = False
        self._go_on()

    def get_buffer(self, _: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        if problem := self._frames.problem(data, self._gate.now()):
            self._gate.refused(problem)
            self.transport.abort()
            return
        self.inner.transport.write(data)
        self._gate.weigh()
        if wait_s := self._frames.wait_s():
            self._is_held = True
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(wait_s, self._release)

    @property
    def unfinished(self) -> int:
        """Bytes of its requests that have not ended."""
        return self._frames.unfinished

    def pause_writing(self) -> None:
        """It does not read what gRPC says."""
        self.inner.transport.pause_reading()

    def resume_writing(self) -> None:
        self.inner.transport.resume_reading()

    def full(self, *, is_full: bool) -> None:
        """Whether gRPC does not read what it says."""
        self._is_full = is_full
        if is_full:
            self.transport.pause_reading()
        else:
            self._go_on()

    def connection_lost(self, _: Exception | None) -> None:
        self._gate.left(self)
        self.inner.end()


class _Inner(asyncio.Protocol):
    """The connection to gRPC of a peer."""

    def __init__(self, peer: _Peer) -> None:
        self._peer = peer
        self._is_made = self._has_ended = False

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self._is_made = cast("asyncio.Transport", transport), True
        if self._has_ended:
            self.transport.abort()

    def end(self) -> None:
        self._has_ended = True
        if self._is_made:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._peer.transport.write(data)

    def pause_writing(self) -> None:
        self._peer.full(is_full=True)

    def resume_writing(self) -> None:
        self._peer.full(is_full=False)

    def connection_lost(self, _: Exception | None) -> None:
        self._peer.transport.close()  # after what is still to be sent


class Gate:
    """Lets root's and our own connections to `path` through to gRPC's socket `inner`.

    Requests that have not ended may have twice `message_bytes` together, of all peers.
    """

    def __init__(self, path: Path, inner: Path, message_bytes: int) -> None:
        self._path, self.inner = path, str(inner)
        self._budget = 2 * message_bytes
        self.peers: set[_Peer] = set()
        self.now = asyncio.get_running_loop().time
        self._told: set[str] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Let peers in, and remove the socket at the end; raises RegistrationError."""
        try:
            listener = _bind(self._path)
        except OSError as error:
            text = f"{self._path}: cannot be bound ({error.strerror})"
            raise RegistrationError(text) from error
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: _Peer(self), sock=listener, backlog=_BACKLOG)
        try:
            yield
        finally:
            server.close()
            await self._drained()
            self._path.unlink(missing_ok=True)

    async def _drained(self) -> None:
        """gRPC has ended: what it said last is still on its way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._empty.wait()
        for peer in tuple(self.peers):
            peer.transport.abort()

    def admits(self, peer: _Peer) -> bool:
        """Whether there is a place for it, and it is root's or ours."""
        uid = user_of(peer.transport.get_extra_info("socket"))
        if uid not in (0, os.getuid()):
            self.refused(f"user {uid}")
        elif len(self.peers) >= CONNECTIONS:
            self.refused(f"more than {CONNECTIONS} connections")
        else:
            self.peers.add(peer)
            self._empty.clear()
            return True
        return False

    def left(self, peer: _Peer) -> None:
        """Its place is free."""
        self.peers.discard(peer)
        if not self.peers:
            self._empty.set()

    def weigh(self) -> None:
        """End the peer with the longest unfinished requests where all together are too long."""
        if sum(peer.unfinished for peer in self.peers) > self._budget:
            self.refused(f"unfinished requests of more than {self._budget} bytes")
            max(self.peers, key=lambda peer: peer.unfinished).transport.abort()

    def refused(self, reason: str) -> None:
        """Each reason once, and not many of them: such a peer comes again."""
        if reason not in self._told and len(self._told) < MAX_TOLD:
            log.warning("plugin_peer_refused", socket=str(self._path), reason=reason)
            self._told.add(reason)


def _bind(path: Path) -> socket.socket:
    """In place of the socket of a daemon that was killed; nothing else is removed."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            path.unlink()
    return bind_closed(path)


def inner_socket(directory: Path, name: str) -> Path:
    """Where gRPC may listen so that nobody else reaches it: in a directory that is ours alone, in
    which a socket can be made. Raises OSError where there can be none."""
    path = directory / name
    if problem := socket_path_problem(str(path)):
        raise OSError(f"{path}: {problem}")
    own_directory(directory, 0o700)
    _bind(path).close()
    path.unlink()
    return path
