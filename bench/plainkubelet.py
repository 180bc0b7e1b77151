"""A kubelet that only registers and receives, as cheaply as it can.

Lists arrive as bytes, and their arrival is timed before anybody looks into them: with 60,000
devices the stub's own bookkeeping would be most of what is measured.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from msgspec import Struct, field

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.pb import podresources_v1_pb2 as podapi
from deviceplugin.testing.changes import Changes
from deviceplugin.testing.stalesocket import remove_top_level_sockets, serve_socket

UNHEALTHY = b"Unhealthy"
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)  # one connection each


class Stream:
    """One open ListAndWatch: its newest list as bytes, and when that came."""

    def __init__(self, path: Path, changes: Changes) -> None:
        self.path, self.changes = path, changes
        self.message = b""
        self.at_s = 0.0

    @property
    def devices(self) -> dict[str, bool]:
        """Each id of the newest list, and whether it is healthy."""
        listed = pluginapi.ListAndWatchResponse.FromString(self.message).devices
        return {device.ID: device.health == "Healthy" for device in listed}

    @property
    def faulty(self) -> bool:
        """Whether any device of the newest list is Unhealthy."""
        return UNHEALTHY in self.message

    def open(self) -> None:
        """Dial and watch until closed."""
        self._channel = grpc.aio.insecure_channel(f"unix:{self.path}", options=_OPTIONS)
        self._task = asyncio.create_task(self._watch())

    async def options(self) -> None:
        """What the kubelet asks before it takes a registration."""
        await self._channel.unary_unary(
            "/v1beta1.DevicePlugin/GetDevicePluginOptions",
            request_serializer=pluginapi.Empty.SerializeToString,
            response_deserializer=pluginapi.DevicePluginOptions.FromString,
        )(pluginapi.Empty(), wait_for_ready=True)

    async def close(self) -> None:
        """Drop the connection."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._channel.close(None)

    async def _watch(self) -> None:
        call = self._channel.unary_stream("/v1beta1.DevicePlugin/ListAndWatch", None, None)(b"")
        async for message in call:
            self.at_s, self.message = time.perf_counter(), message
            self.changes.notify()


class PlainKubelet(Struct):
    """The kubelet below `kubelet_dir`; `streams` has one for each registered resource."""

    kubelet_dir: Path
    streams: dict[str, Stream] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    generation: int = 0
    _servers: dict[str, grpc.aio.Server] = field(default_factory=dict)

    async def start(self) -> float:
        """Come up; when its socket was there to be dialled."""
        self.generation += 1
        if self.generation == 1:
            await self._serve("pod-resources", "v1.PodResourcesLister", {"List": _no_pods})
        remove_top_level_sockets(self._directory("device-plugins"))
        service = {"Register": self._register}
        await self._serve("device-plugins", "v1beta1.Registration", service)
        return time.perf_counter()

    async def stop(self) -> None:
        """Go away with all connections; PodResources goes on answering."""
        await self._servers["device-plugins"].stop(None)
        streams, self.streams = self.streams, {}
        await asyncio.gather(*(stream.close() for stream in streams.values()))

    async def close(self) -> None:
        """Stop, PodResources too."""
        await self.stop()
        await self._servers["pod-resources"].stop(None)

    async def listed(self, *sizes: int) -> float:
        """Wait until there are resources of just so many healthy devices; when the last came."""
        wanted = sorted(sizes)
        async with asyncio.timeout(120):
            await self.changes.until(lambda: self._healthy() == wanted)
        return max(stream.at_s for stream in self.streams.values())

    def socket(self, resource: str) -> Path:
        """Where a resource is served."""
        return self.streams[resource].path

    def _healthy(self) -> list[int]:
        lists = [stream.devices for stream in list(self.streams.values())]
        return sorted(sum(healthy.values()) for healthy in lists)

    async def _register(self, raw: bytes, _: Any) -> bytes:
        request = pluginapi.RegisterRequest.FromString(raw)
        path = self.kubelet_dir / "device-plugins" / request.endpoint
        stream = Stream(path, self.changes)
        stream.open()
        await stream.options()
        old = self.streams.get(request.resource_name)
        self.streams[request.resource_name] = stream
        self.changes.notify()
        if old is not None:
            await old.close()
        return b""

    def _directory(self, name: str) -> Path:
        path = self.kubelet_dir / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    async def _serve(self, name: str, service: str, methods: dict[str, Any]) -> None:
        handlers = {m: grpc.unary_unary_rpc_method_handler(f) for m, f in methods.items()}
        handler = grpc.method_handlers_generic_handler(service, handlers)
        private = self.kubelet_dir / f".{name}.{self.generation}"
        public = self._directory(name) / "kubelet.sock"
        self._servers[name] = await serve_socket(public, private, handler)


async def _no_pods(_: bytes, __: Any) -> bytes:
    return podapi.ListPodResourcesResponse().SerializeToString()
