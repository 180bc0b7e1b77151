"""The operator's door: a unix socket in the state directory, one JSON line there and one back.

Open to root and to the daemon's own user only, checked by what the kernel says of the peer.
"""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.health.report import health_report
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device
from deviceplugin.names import one_line, socket_path_problem
from deviceplugin.schema import Section

log = structlog.get_logger()

FILE = "control.sock"
MAX_REQUEST_BYTES = 4096
MAX_REASON = 500
MAX_ERROR = 4096
MAX_PEERS = 8
PATIENCE_S = 5.0
_ORDERS = frozenset({"cordon", "uncordon", "forget"})

Answer = dict[str, Any]


class Request(Section, frozen=True):
    """What an operator may ask for; `operation` is health, cordon, uncordon or forget."""

    operation: str
    device: str = ""
    reason: str = ""


class ControlError(DevicePluginError):
    """A request that cannot be granted; the text goes back to the operator."""


class Control:
    """Answers operators from the store and passes their orders to the desk."""

    def __init__(self, store: InventoryStore, desk: FaultTracker) -> None:
        self._store, self._desk = store, desk
        self._peers = 0
        self.listening = asyncio.Event()
        self._operations: Mapping[str, Callable[[Request], Answer]] = {
            "health": self._health,
            "cordon": self._cordon,
            "uncordon": self._uncordon,
            "forget": self._forget,
        }

    async def serve(self, state_dir: Path) -> None:
        """Serve until cancelled; raises DevicePluginError where the socket cannot be made."""
        path = state_dir / FILE
        server = await asyncio.start_unix_server(
            self._attend, sock=await asyncio.to_thread(_bind, path), limit=MAX_REQUEST_BYTES
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

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        if self._peers > MAX_PEERS:
            return _refusal("too many at a time, try again")
        uid = _peer_uid(writer.get_extra_info("socket"))
        if uid not in (0, os.getuid()):
            log.warning("operator_refused", uid=uid)
            return _refusal(f"user {uid} may not do this, root may")
        try:
            return {"ok": True, **await self._answer(await reader.readline())}
        except ValueError:  # a line over the limit
            return _refusal(f"a request has at most {MAX_REQUEST_BYTES} bytes")
        except ControlError as error:
            return _refusal(str(error))

    async def _answer(self, line: bytes) -> Answer:
        try:
            request = msgspec.json.decode(line, type=Request)
        except msgspec.MsgspecError as error:
            raise ControlError(f"not a request: {error}") from error
        if request.operation not in self._operations:
            raise ControlError(f"unknown operation {request.operation!r}")
        answer = self._operations[request.operation](request)
        if request.operation in _ORDERS and (problem := await self._desk.settled()):
            raise ControlError(
                f"{request.operation} {answer['device']}: in force, but lost when the daemon ends: "
                f"it cannot be saved ({problem}); this is tried again every 5 s"
            )
        return answer

    def _health(self, _: Request) -> Answer:
        return health_report(self._store.current, self._desk.records.value)

    def _cordon(self, request: Request) -> Answer:
        device, reason = self._device(request), one_line(request.reason, MAX_REASON + 1)
        if not reason or len(reason) > MAX_REASON:
            raise ControlError(f"a cordon has a reason of 1 to {MAX_REASON} characters")
        self._desk.cordon(device, reason)
        return {"device": device.id}

    def _uncordon(self, request: Request) -> Answer:
        device = self._device(request)
        self._desk.uncordon(device)
        return {"device": device.id}

    def _forget(self, request: Request) -> Answer:
        device = self._device(request)
        self._desk.forget(device)
        return {"device": device.id}

    def _device(self, request: Request) -> Device:
        """The device of an id, or the whole GPU at a PCI address."""
        devices = self._store.current.devices.values()
        for device in devices:
            whole = device.parent is None and device.pci_address == request.device.lower()
            if request.device == device.id or whole:
                return device
        known = ", ".join(device.id for device in devices)
        raise ControlError(f"there is no device {request.device!r}, there is: {known or 'none'}")


def _bind(path: Path) -> socket.socket:
    """Closed to others before anyone can connect: there is no listening yet."""
    if problem := socket_path_problem(str(path)):
        raise DevicePluginError(f"{path}: {problem}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)  # of a daemon that was killed: we hold the lock
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        listener.close()
        raise DevicePluginError(f"{path}: {error.strerror}") from error
    return listener


def _peer_uid(peer: Any) -> int:  # asyncio's TransportSocket has no type of its own
    """The peer's user as the kernel knows it (man 7 unix, SO_PEERCRED)."""
    size = struct.calcsize("3i")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", credentials)[1])


def _refusal(text: str) -> Answer:
    return {"ok": False, "error": one_line(text, MAX_ERROR)}


def ask_daemon(state_dir: Path, request: Mapping[str, str]) -> Answer:
    """A running daemon's answer; raises ControlError where none runs or it refuses."""
    path = state_dir / FILE
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(PATIENCE_S)
            peer.connect(str(path))
            peer.sendall(json.dumps(dict(request)).encode() + b"\n")
            said = msgspec.json.decode(b"".join(iter(lambda: peer.recv(1 << 16), b"")))
    except (OSError, ValueError, RecursionError) as error:
        raise ControlError(f"no daemon answers on {path}: {error}") from error
    answer: Answer = said if isinstance(said, dict) else {"error": "this is no answer of a daemon"}
    if not answer.pop("ok", False):
        raise ControlError(one_line(str(answer.get("error", "refused")), MAX_ERROR))
    return answer
