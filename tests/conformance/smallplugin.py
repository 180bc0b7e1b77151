"""A complete device plugin of a few lines, as a process, with one defect where one is named.

`python -m tests.conformance.defects DIR STATE [DEFECT]`: DIR is the kubelet's, STATE the node's:
a file STATE/broken makes a device fail. It watches by polling every few milliseconds.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from deviceplugin.kubelet.socket import is_listening, read_identity
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.pb import deviceplugin_v1beta1_pb2_grpc as rpc

POLL_S = 0.003
OVERLOOKED_S = 8.0
COUNT = 3
KNOWN = ("gpu", "nic")
Context = grpc.aio.ServicerContext[Any, Any]  # of messages that do not matter here


class Plugin(rpc.DevicePluginServicer):
    """Serves one resource; every method that a defect changes is one method."""

    def __init__(self, kubelet_dir: Path, state: Path, kind: str) -> None:
        self.kind, self.state = kind, state
        self.resource = f"example.com/{kind}"
        self.host_path = {"gpu": "/dev/null", "nic": "/dev/zero"}[kind]
        self.directory = kubelet_dir / "device-plugins"
        self.endpoint = f"small/{kind}.sock"
        self.kubelet = self.directory / "kubelet.sock"
        self.options = pluginapi.DevicePluginOptions(get_preferred_allocation_available=True)
        self.registered_with: object = None
        self.registered_s = 0.0
        self.watched = False
        self.epoch = 0
        self.streams = 0

    # -- what it says ---------------------------------------------------------------------
    @property
    def socket(self) -> Path:
        return self.directory / self.endpoint

    def ids(self) -> list[str]:
        return [f"{self.kind}-{number}" for number in range(COUNT)]

    def broken(self) -> set[str]:
        return {self.ids()[1]} if (self.state / "broken").exists() else set()

    def devices(self) -> list[pluginapi.Device]:
        return [self.device(name) for name in self.ids()]

    def device(self, name: str) -> pluginapi.Device:
        health = "Unhealthy" if name in self.broken() else "Healthy"
        topology = pluginapi.TopologyInfo(nodes=[pluginapi.NUMANode(ID=0)])
        return pluginapi.Device(ID=name, health=health, topology=topology)

    def answer(self, ids: Sequence[str]) -> pluginapi.ContainerAllocateResponse:
        names = ",".join(sorted(ids))
        node = pluginapi.DeviceSpec(
            container_path=f"/dev/{self.kind}", host_path=self.host_path, permissions="rw"
        )
        return pluginapi.ContainerAllocateResponse(
            envs={f"{self.kind.upper()}S": names}, devices=[node]
        )

    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        rest = sorted(set(available) - set(must))
        return (sorted(set(must)) + rest)[:size]

    def refuse(self, name: str) -> tuple[grpc.StatusCode, str]:
        return grpc.StatusCode.INVALID_ARGUMENT, f"{self.resource}: {name} cannot be allocated"

    # -- the service ----------------------------------------------------------------------
    async def GetDevicePluginOptions(self, _: object, __: Context) -> pluginapi.DevicePluginOptions:
        return self.options

    async def ListAndWatch(
        self, _: object, __: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        epoch, sent = self.epoch, None
        self.streams += 1
        self.watched = True
        try:
            while epoch == self.epoch:
                if (message := self.message()) != sent:
                    sent = message
                    yield message
                await asyncio.sleep(POLL_S)
        finally:
            self.streams -= 1
            if epoch == self.epoch:
                self.registered_with = None

    def message(self) -> pluginapi.ListAndWatchResponse:
        return pluginapi.ListAndWatchResponse(devices=self.devices())

    async def GetPreferredAllocation(
        self, request: pluginapi.PreferredAllocationRequest, _: Context
    ) -> pluginapi.PreferredAllocationResponse:
        answer = pluginapi.PreferredAllocationResponse()
        for one in request.container_requests:
            chosen = self.choose(
                one.available_deviceIDs, one.must_include_deviceIDs, one.allocation_size
            )
            answer.container_responses.add(deviceIDs=chosen)
        return answer

    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        for one in request.container_requests:
            for name in one.devices_ids:
                if name not in self.ids() or name in self.broken():
                    await context.abort(*self.refuse(name))
        answers = [self.answer(list(one.devices_ids)) for one in request.container_requests]
        return pluginapi.AllocateResponse(container_responses=answers)

    # -- the life -------------------------------------------------------------------------
    async def run(self) -> None:
        """Serve, register, and again whenever the kubelet or the socket is another."""
        while True:
            server = await self.serve()
            own = read_identity(self.socket)
            while read_identity(self.socket) == own:
                if self.wants_registration():
                    await self.register_again()
                await asyncio.sleep(POLL_S)
            await self.end(server)

    async def serve(self) -> grpc.aio.Server:
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        while is_listening(self.socket):
            await asyncio.sleep(POLL_S)
        self.socket.unlink(missing_ok=True)
        server = grpc.aio.server()
        rpc.add_DevicePluginServicer_to_server(self, server)
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        return server

    def wants_registration(self) -> bool:
        identity = read_identity(self.kubelet)
        wanted = identity != self.registered_with or self.is_overlooked()
        return wanted and is_listening(self.kubelet)

    def is_overlooked(self) -> bool:
        """Whether no stream came of a registration: the end of another instance's, which the
        kubelet hears of late, takes it down before."""
        return not self.watched and time.monotonic() > self.registered_s + OVERLOOKED_S

    async def register_again(self) -> None:
        self.epoch += 1
        while self.streams:
            await asyncio.sleep(POLL_S)
        identity = read_identity(self.kubelet)
        self.watched = False
        try:
            await self.register()
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)
        else:
            self.registered_with = identity
            self.registered_s = time.monotonic()

    def request(self) -> pluginapi.RegisterRequest:
        return pluginapi.RegisterRequest(
            version="v1beta1",
            endpoint=self.endpoint,
            resource_name=self.resource,
            options=self.options,
        )

    async def register(self, timeout_s: float = 12.0) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"unix:{self.kubelet}", options=options) as channel:
            await rpc.RegistrationStub(channel).Register(self.request(), timeout=timeout_s)

    async def leave(self) -> None:
        """The process ends."""
        self.socket.unlink(missing_ok=True)

    async def end(self, server: grpc.aio.Server) -> None:
        self.epoch += 1
        while self.streams:
            await asyncio.sleep(POLL_S)
        await server.stop(0.1)
        self.socket.unlink(missing_ok=True)


@asynccontextmanager
async def running(make: type[Plugin], base: Path) -> AsyncIterator[None]:
    """A plugin for each resource on this loop, below base/k; base is the node."""
    plugins = [make(base / "k", base, kind) for kind in KNOWN]
    tasks = [asyncio.create_task(plugin.run()) for plugin in plugins]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def main(make: Callable[[Path, Path, str], Plugin], arguments: Sequence[str]) -> None:
    """Run a plugin for each resource until SIGTERM."""
    kubelet_dir, state = map(Path, arguments[:2])
    plugins = [make(kubelet_dir, state, kind) for kind in KNOWN]
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    tasks = [asyncio.create_task(plugin.run()) for plugin in plugins]
    ending = asyncio.create_task(stopped.wait())
    done, _ = await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in done - {ending}:
        task.result()
    for plugin in plugins:
        await plugin.leave()
    os._exit(0)  # the streams and servers end with the process
