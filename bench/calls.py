"""Allocate and GetPreferredAllocation timed; beside them a bare server with the same answers."""

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from msgspec import Struct

from bench.http2 import Client
from deviceplugin.kubelet.socket import is_listening
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi

WARM_UP = 20
# The door of the daemon's sockets lets a peer send a thousand frames a second (docs/security.md);
# whoever asks without a pause measures that. A call is four frames, a long request many.
CALLS_FRAMES = 6
FRAMES_PER_S, FRAME_BYTES = 1000, 16 * 1024
REQUESTS: Mapping[str, Any] = {
    "Allocate": pluginapi.AllocateRequest,
    "GetPreferredAllocation": pluginapi.PreferredAllocationRequest,
}
_SIZE = (("grpc.max_receive_message_length", 64 << 20),)


class Timed(Struct, frozen=True, kw_only=True):
    """Seconds of each call, sorted; the last answer; the size of the last request."""

    spent: Sequence[float]
    answer: bytes
    request_bytes: int

    def at(self, quantile: float) -> float:
        """Milliseconds that this part of the calls stayed below."""
        return 1000 * self.spent[int(quantile * (len(self.spent) - 1))]


def allocation(ids: Sequence[str]) -> bytes:
    """A request to allocate these ids to one container."""
    request = pluginapi.AllocateRequest()
    request.container_requests.add(devices_ids=ids)
    return request.SerializeToString()


def preference(available: Sequence[str], must: Sequence[str], size: int) -> bytes:
    """A question which of the available ids a container should get."""
    request = pluginapi.PreferredAllocationRequest()
    request.container_requests.add(
        available_deviceIDs=available, must_include_deviceIDs=must, allocation_size=size
    )
    return request.SerializeToString()


def timed(socket: Path, method: str, requests: Callable[[int], bytes], calls: int) -> Timed:
    """One call after the other, at a pace that is served; `requests` gives the bytes of the
    n-th."""
    with Client(socket) as client:
        path = f"/v1beta1.DevicePlugin/{method}"
        spent, answer, request = [], b"", b""
        for number in range(WARM_UP + calls):
            request = requests(number)
            time.sleep((CALLS_FRAMES + len(request) / FRAME_BYTES) / FRAMES_PER_S)
            started = time.perf_counter()
            answer = client.call(path, request)
            spent.append(time.perf_counter() - started)
    return Timed(spent=sorted(spent[WARM_UP:]), answer=answer, request_bytes=len(request))


@contextmanager
def echo(answers: Mapping[str, bytes], *sockets: Path) -> Iterator[int]:
    """A process with a grpc.aio server on each socket, which decodes a request and gives a fixed
    answer; its id."""
    spawned = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    addresses = [f"unix:{socket}" for socket in sockets]
    process = spawned.Process(target=_serve_echo, args=(addresses, dict(answers)))
    process.start()
    while not all(map(is_listening, sockets)):
        time.sleep(0.01)
    try:
        yield process.pid or 0
    finally:
        process.terminate()
        process.join()
        for socket in sockets:
            socket.unlink(missing_ok=True)


def _serve_echo(addresses: Sequence[str], answers: Mapping[str, bytes]) -> None:
    async def serve() -> None:
        servers = []
        for address in addresses:
            server = grpc.aio.server(options=_SIZE)
            methods = {name: _always(name, answer) for name, answer in answers.items()}
            handler = grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", methods)
            server.add_generic_rpc_handlers((handler,))
            server.add_insecure_port(address)
            await server.start()
            servers.append(server)
        await servers[0].wait_for_termination()

    asyncio.run(serve())


def _always(method: str, answer: bytes) -> Any:
    async def call(_: Any, __: Any) -> bytes:
        return answer

    decode = REQUESTS[method].FromString
    return grpc.unary_unary_rpc_method_handler(call, request_deserializer=decode)
