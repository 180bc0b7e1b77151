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

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi

WARM_UP = 20
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
    """One call after the other; `requests` gives the bytes of the n-th."""
    with grpc.insecure_channel(f"unix:{socket}", options=_SIZE) as channel:
        call = channel.unary_unary(f"/v1beta1.DevicePlugin/{method}", None, None)
        spent, answer, request = [], b"", b""
        for number in range(WARM_UP + calls):
            request = requests(number)
            started = time.perf_counter()
            answer = call(request, wait_for_ready=True)
            spent.append(time.perf_counter() - started)
    return Timed(spent=sorted(spent[WARM_UP:]), answer=answer, request_bytes=len(request))


@contextmanager
def echo(socket: Path, answers: Mapping[str, bytes]) -> Iterator[Path]:
    """A grpc.aio server in a process of its own: it decodes a request and gives a fixed answer."""
    spawned = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    process = spawned.Process(target=_serve_echo, args=(f"unix:{socket}", dict(answers)))
    process.start()
    while not socket.exists():
        time.sleep(0.01)
    try:
        yield socket
    finally:
        process.terminate()
        process.join()
        socket.unlink(missing_ok=True)


def _serve_echo(address: str, answers: Mapping[str, bytes]) -> None:
    async def serve() -> None:
        server = grpc.aio.server(options=_SIZE)
        methods = {name: _always(name, answer) for name, answer in answers.items()}
        handler = grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", methods)
        server.add_generic_rpc_handlers((handler,))
        server.add_insecure_port(address)
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


def _always(method: str, answer: bytes) -> Any:
    async def call(_: Any, __: Any) -> bytes:
        return answer

    decode = REQUESTS[method].FromString
    return grpc.unary_unary_rpc_method_handler(call, request_deserializer=decode)
