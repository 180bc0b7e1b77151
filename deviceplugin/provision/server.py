"""The socket of the privileged process: root's alone, one request and one answer a connection."""

import socket
from collections.abc import Callable
from pathlib import Path
from threading import BoundedSemaphore, Event, Thread

import msgspec
import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.names import one_line, socket_path_problem
from deviceplugin.provision.protocol import (
    FILE,
    Answer,
    Request,
    is_trusted,
    read_line,
)
from deviceplugin.runtime.files import PRIVATE, trusted_directory
from deviceplugin.runtime.sockets import bind_closed, user_of

log = structlog.get_logger()

MAX_PEERS = 4
PATIENCE_S = 10.0
POLL_S = 0.5
Answering = Callable[[Request], Answer]


def serve(state_dir: Path, answer: Answering, stop: Event) -> None:
    """Answer until `stop`; raises DevicePluginError where the socket cannot be made."""
    path = state_dir / FILE
    listening = _listen(state_dir, path)
    places = BoundedSemaphore(MAX_PEERS)
    with listening:
        while not stop.is_set():
            try:
                peer, _ = listening.accept()
            except TimeoutError:
                continue
            peer.settimeout(PATIENCE_S)
            if places.acquire(blocking=False):
                Thread(target=_attend, args=(peer, answer, places), daemon=True).start()
            else:
                peer.close()
    path.unlink(missing_ok=True)


def _listen(state_dir: Path, path: Path) -> socket.socket:
    if problem := socket_path_problem(str(path)):
        raise DevicePluginError(f"{path}: {problem}")
    try:
        trusted_directory(state_dir, PRIVATE)
        path.unlink(missing_ok=True)  # of a process that was killed: the lock is ours
        listening = bind_closed(path)
    except OSError as error:
        raise DevicePluginError(f"{path}: {error.strerror}") from error
    listening.settimeout(POLL_S)
    listening.listen(MAX_PEERS)
    return listening


def _attend(peer: socket.socket, answer: Answering, places: BoundedSemaphore) -> None:
    try:
        with peer:
            uid = user_of(peer)
            if not is_trusted(uid):
                log.warning("provision_refused", uid=uid)
                return
            said = _answered(read_line(peer), answer)
            peer.sendall(msgspec.json.encode(said) + b"\n")
    except OSError as error:
        log.debug("provision_peer_left", reason=str(error))
    finally:
        places.release()


def _answered(line: bytes, answer: Answering) -> Answer:
    try:
        request = msgspec.json.decode(line, type=Request)
    except (msgspec.MsgspecError, RecursionError) as error:
        return Answer(error=one_line(f"not a request: {error}"))
    return answer(request)
