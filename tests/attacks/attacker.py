"""The attackers: `python -m tests.attacks.attacker NAME TARGET SECONDS`, a process each.

TARGET is the port of /metrics, the socket of a plugin, or a file that the daemon reads.
"""

import contextlib
import itertools
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from tests.attacks import http2

THREADS = 2
HELD = 200  # connections

Attack = Callable[[str, float], None]  # target, until when (monotonic)


def silent(port: str, until: float) -> None:
    """Connections that say nothing, made again as they end."""
    held: list[socket.socket] = []
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", int(port)), 1))
        if len(held) >= HELD:
            held.pop(0).close()
    for peer in held:
        peer.close()


def dribbling(port: str, until: float) -> None:
    """Heads of which a byte comes at a time."""
    held: list[socket.socket] = []
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", int(port)), 1))
        for peer in tuple(held):
            try:
                peer.send(b"x")
            except OSError:
                peer.close()
                held.remove(peer)
        time.sleep(0.01)


def scrapes(port: str, until: float) -> None:
    """As many scrapes as there can be."""
    while time.monotonic() < until:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", int(port)), 1) as peer,
        ):
            peer.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            while peer.recv(1 << 16):
                pass


def large_messages(path: str, until: float) -> None:
    """Allocates of 60 MB, and of more ids than there are."""
    request = pluginapi.AllocateRequest()
    request.container_requests.add(devices_ids=[str(n) for n in range(1_600_000)])
    messages = itertools.cycle([b"\0" * (60 << 20), request.SerializeToString()])
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{path}", options) as channel:
        call = channel.unary_unary(http2.ALLOCATE, None, None)
        while time.monotonic() < until:
            with contextlib.suppress(grpc.RpcError):
                call(next(messages), timeout=5)


def configurations(path: str, until: float) -> None:
    """Files that are slow to read, one after the other, as a ConfigMap may hold them."""
    texts = itertools.cycle(["[" + "[]," * 340_000, "[" + "[]," * 21_000 + "]"])
    while time.monotonic() < until:
        Path(path).write_text(next(texts))
        time.sleep(0.3)


def events(path: str, until: float) -> None:
    """1,000 XIDs a second of the second GPU, of all that there are."""
    numbers = itertools.count(1)
    with Path(path).open("a") as file:
        for xid in itertools.cycle(range(1, 173)):
            no_instance = "gi=4294967295 ci=4294967295"
            file.write(f"{next(numbers)} gpu=1 type=0x8 data={xid} {no_instance}\n")
            file.flush()
            time.sleep(0.001 * THREADS)
            if time.monotonic() > until:
                return


ATTACKS: dict[str, Attack] = {
    "silent connections": silent,
    "dribbled heads": dribbling,
    "scrapes": scrapes,
    "large messages": large_messages,
    "configurations": configurations,
    "events": events,
} | {
    name: lambda path, until, frames=frames: http2.flood(Path(path), frames, until)  # type: ignore[misc]
    for name, frames in http2.FLOODS.items()
}


def main() -> None:
    """Attack with THREADS threads, and end."""
    name, target, seconds = sys.argv[1:]
    attack = partial(ATTACKS[name], target, time.monotonic() + float(seconds))
    threads = [threading.Thread(target=attack) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
