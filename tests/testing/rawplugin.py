"""A device plugin of a few lines on raw grpc.aio for the stub's tests: good, or bad on purpose."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.pb import deviceplugin_v1beta1_pb2_grpc as rpc

GPU = "example.com/gpu"
Context = grpc.aio.ServicerContext[Any, Any]  # of messages that do not matter here
Answer = pluginapi.AllocateResponse | tuple[grpc.StatusCode, str]


def device(
    name: str, health: str = "Healthy", nodes: tuple[int, ...] | None = None
) -> pluginapi.Device:
    topology = None
    if nodes is not None:
        topology = pluginapi.TopologyInfo(nodes=[pluginapi.NUMANode(ID=node) for node in nodes])
    return pluginapi.Device(ID=name, health=health, topology=topology)


def one_answer(request: pluginapi.AllocateRequest) -> pluginapi.AllocateResponse:
    ids = sorted(request.container_requests[0].devices_ids)
    answer = pluginapi.ContainerAllocateResponse(envs={"GPUS": ",".join(ids)})
    return pluginapi.AllocateResponse(container_responses=[answer])


Prefer = Callable[[pluginapi.ContainerPreferredAllocationRequest], Sequence[str]]


class RawPlugin(rpc.DevicePluginServicer):
    """Serves one resource; `resend` and `end_streams` drive its ListAndWatch streams."""

    def __init__(self, socket: Path, devices: list[pluginapi.Device], resource: str = GPU):
        self.resource = resource
        self.socket = socket
        self.devices = devices
        self.options = pluginapi.DevicePluginOptions()
        self.on_allocate: Callable[[pluginapi.AllocateRequest], Answer] = one_answer
        self.prefer: Prefer = lambda _: []
        self.allocate_gate: asyncio.Event | None = None
        self.allocate_entered = asyncio.Event()
        self.on_cancel: Callable[[], None] = lambda: None
        self.options_gate: asyncio.Event | None = None
        self.options_cancelled = asyncio.Event()
        self.prefer_gate: asyncio.Event | None = None
        self.prefer_entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.allocated: list[list[str]] = []
        self.preferred: list[pluginapi.ContainerPreferredAllocationRequest] = []
        self.pre_started: list[list[str]] = []
        self._queues: list[asyncio.Queue[bool]] = []
        self._server = grpc.aio.server()

    async def serve(self) -> "RawPlugin":
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        rpc.add_DevicePluginServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()
        return self

    async def register(self, kubelet: Path, timeout_s: float = 12.0, **changes: str) -> None:
        fields = {
            "version": "v1beta1",
            "endpoint": str(self.socket.relative_to(kubelet.parent)),
            "resource_name": self.resource,
        }
        request = pluginapi.RegisterRequest(**(fields | changes), options=self.options)
        await register(kubelet, request, timeout_s)

    def resend(self, *devices: pluginapi.Device) -> None:
        self.devices = list(devices)
        for queue in self._queues:
            queue.put_nowait(True)

    def end_stream(self, index: int = 0) -> None:
        self._queues.pop(index).put_nowait(False)

    async def stop(self) -> None:
        while self._queues:
            self.end_stream()
        await self._server.stop(None)

    async def GetDevicePluginOptions(
        self, request: pluginapi.Empty, context: Context
    ) -> pluginapi.DevicePluginOptions:
        if self.options_gate is None:
            return self.options
        try:
            await self.options_gate.wait()
        except asyncio.CancelledError:
            self.options_cancelled.set()
            raise
        return self.options

    async def ListAndWatch(
        self, request: pluginapi.Empty, context: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        queue: asyncio.Queue[bool] = asyncio.Queue()
        self._queues.append(queue)
        try:
            yield pluginapi.ListAndWatchResponse(devices=self.devices)
            while await queue.get():
                yield pluginapi.ListAndWatchResponse(devices=self.devices)
        except asyncio.CancelledError:
            self.on_cancel()
            self.cancelled.set()
            if queue in self._queues:
                self._queues.remove(queue)
            raise

    async def GetPreferredAllocation(
        self, request: pluginapi.PreferredAllocationRequest, context: Context
    ) -> pluginapi.PreferredAllocationResponse:
        (wanted,) = request.container_requests
        self.preferred.append(wanted)
        self.prefer_entered.set()
        if self.prefer_gate is not None:
            await self.prefer_gate.wait()
        answer = pluginapi.PreferredAllocationResponse()
        answer.container_responses.add(deviceIDs=self.prefer(wanted))
        return answer

    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        self.allocated.append(list(request.container_requests[0].devices_ids))
        self.allocate_entered.set()
        if self.allocate_gate is not None:
            await self.allocate_gate.wait()
        answer = self.on_allocate(request)
        if isinstance(answer, tuple):
            await context.abort(*answer)
        return answer

    async def PreStartContainer(
        self, request: pluginapi.PreStartContainerRequest, context: Context
    ) -> pluginapi.PreStartContainerResponse:
        self.pre_started.append(sorted(request.devices_ids))
        return pluginapi.PreStartContainerResponse()


async def register(
    kubelet: Path, request: pluginapi.RegisterRequest, timeout_s: float = 12.0
) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"unix:{kubelet}", options=options) as channel:
        await rpc.RegistrationStub(channel).Register(request, timeout=timeout_s)
