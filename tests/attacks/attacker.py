"""The attackers: `python -m tests.attacks.attacker NAME TARGET SECONDS`, a process each.

TARGET is the port of /metrics, the socket of a plugin, or a file that the daemon reads.
"""

import contextlib
import itertools
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.pb import exporter_nvidia_pb2 as exporter_nvidia
from deviceplugin.vendors.nvidia.agent import DEVICE_API
from tests.attacks import http2
from tests.fakes.nvml import a100_40gb

THREADS = 2
HELD = 200  # connections
FOUND_S = 30.0  # the daemon looks for agents every 10 s

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


def agent(path: str, until: float) -> None:
    """Answers of 400 KB with ever new complaints, as fast as they are read, once it is found."""
    seconds, found = until - time.monotonic(), threading.Event()
    answers = [_complaints(number) for number in range(20)]
    service, method = DEVICE_API.method.strip("/").split("/")

    def stream(_: object, __: object) -> Iterator[bytes]:
        found.set()
        end = time.monotonic() + seconds
        for answer in itertools.cycle(answers):
            if time.monotonic() > end:
                return
            yield answer

    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    with contextlib.suppress(RuntimeError):  # the other thread has it
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        server.add_insecure_port(f"unix:{path}")
        server.start()
        found.wait(FOUND_S)
        time.sleep(seconds)
        server.stop(None)


def _complaints(number: int) -> bytes:
    conditions = [
        exporter_nvidia.Condition(
            type=f"Broken{number}-{n}", status="True", reason="r" * 60, message="m" * 60
        )
        for n in range(2500)
    ]
    gpu = exporter_nvidia.Gpu(
        metadata=exporter_nvidia.GpuMetadata(name="gpu-1"),
        spec=exporter_nvidia.GpuSpec(uuid=a100_40gb(1).uuid),
        status=exporter_nvidia.GpuStatus(conditions=conditions),
    )
    return exporter_nvidia.WatchGpusResponse(type="MODIFIED", object=gpu).SerializeToString()


ATTACKS: dict[str, Attack] = {
    "silent connections": silent,
    "dribbled heads": dribbling,
    "scrapes": scrapes,
    "large messages": large_messages,
    "configurations": configurations,
    "events": events,
    "agent": agent,
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
