"""The operator's door: a unix socket in the state directory, one JSON line there and one back.

Open to root and to the daemon's own user only, checked by what the kernel says of the peer.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.names import one_line, socket_path_problem
from deviceplugin.runtime.part import Operation, Reply
from deviceplugin.runtime.sockets import bind_closed, user_of

log = structlog.get_logger()
T = TypeVar("T")

FILE = "control.sock"
MAX_REQUEST_BYTES = 1 << 16  # a question may name many ids
MAX_ERROR = 4096
MAX_PEERS = 8
PATIENCE_S = 5.0
UNHEARD_S = 0.5


class _Named(msgspec.Struct, frozen=True):
    """What every request has; its other fields are the operation's own."""

    operation: str


class ControlError(DevicePluginError):
    """A request that cannot be granted; the text goes back to the operator."""


class NoDaemonError(ControlError):
    """No daemon answers on the socket."""


class Control:
    """Answers operators by a table of operations."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations
        self._peers = 0
        self.listening = asyncio.Event()

    async def serve(self, state_dir: Path) -> None:
        """Serve until cancelled; raises DevicePluginError where the socket cannot be made."""
        path = state_dir / FILE
        # Bound on the loop, a few calls at the start: from a thread it would be lost, and leak,
        # where we are cancelled meanwhile.
        server = await asyncio.start_unix_server(
            self._attend, sock=_bind(path), limit=MAX_REQUEST_BYTES
        )
        self.listening.set()
        async with server:
            try:
                await server.serve_forever()
            finally:
                path.unlink(missing_ok=True)  # one call, at the end

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._peers += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(json.dumps(await self._converse(reader, writer)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError) as error:
            log.debug("operator_left", reason=str(error))
        except asyncio.CancelledError:  # the daemon ends: asyncio 3.11 would log it as an error
            log.debug("operator_left", reason="the daemon ends")
        finally:
            self._peers -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Reply:
        if self._peers > MAX_PEERS:
            return await _unheard(reader, "too many at a time, try again")
        uid = user_of(writer.get_extra_info("socket"))
        if uid not in (0, os.getuid()):
            log.warning("operator_refused", uid=uid)
            return await _unheard(reader, f"user {uid} may not do this, root may")
        try:
            return {"ok": True, **await self._answer(await reader.readline())}
        except ValueError:  # a line over the limit
            return _refusal(f"a request has at most {MAX_REQUEST_BYTES} bytes")
        except ControlError as error:
            return _refusal(str(error))

    async def _answer(self, line: bytes) -> Reply:
        name = _decoded(line, _Named).operation
        if name not in self._operations:
            raise ControlError(f"unknown operation {name!r}")
        operation = self._operations[name]
        return await operation.answer(_decoded(line, operation.request))


def _decoded(line: bytes, schema: type[T]) -> T:
    try:
        return msgspec.json.decode(line, type=schema)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ControlError(f"not a request: {error}") from error


def _bind(path: Path) -> socket.socket:
    if problem := socket_path_problem(str(path)):
        raise DevicePluginError(f"{path}: {problem}")
    try:
        path.unlink(missing_ok=True)  # of a daemon that was killed: we hold the lock
        return bind_closed(path)
    except OSError as error:
        raise DevicePluginError(f"{path}: {error.strerror}") from error


async def _unheard(reader: asyncio.StreamReader, text: str) -> Reply:
    """A refusal, once the request is read: what is not read takes the answer back."""
    with contextlib.suppress(ValueError, TimeoutError):
        async with asyncio.timeout(UNHEARD_S):
            await reader.readline()
    return _refusal(text)


def _refusal(text: str) -> Reply:
    return {"ok": False, "error": one_line(text, MAX_ERROR)}


def ask_daemon(state_dir: Path, request: Mapping[str, str]) -> Reply:
    """A running daemon's answer; raises NoDaemonError where none answers,
    ControlError where it refuses."""
    path = state_dir / FILE
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(PATIENCE_S)
            peer.connect(str(path))
            peer.sendall(json.dumps(dict(request)).encode() + b"\n")
            said = msgspec.json.decode(b"".join(iter(lambda: peer.recv(1 << 16), b"")))
    except (OSError, ValueError, RecursionError) as error:
        raise NoDaemonError(f"no daemon answers on {path}: {_why_silent(error)}") from error
    answer: Reply = said if isinstance(said, dict) else {"error": "this is no answer of a daemon"}
    if not answer.pop("ok", False):
        raise ControlError(one_line(str(answer.get("error", "refused")), MAX_ERROR))
    return answer


def _why_silent(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return (
            "none runs on this node with this state directory"
            " (--state-dir; in a cluster: kubectl exec into the node's pod)"
        )
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
