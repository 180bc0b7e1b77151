"""The gRPC surface: raw bytes as requests to a live ResourcePlugin on a unix socket."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from msgspec import Struct

from deviceplugin.kubelet.plugin import OPTIONS, ResourcePlugin
from deviceplugin.model import AdvertisedID, Preference, Resource
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.placement.prefer import BUILT_IN, prefer
from deviceplugin.placement.view import Policy
from tests.fuzz.loop import at_the_end, run
from tests.fuzz.surface import Source, Surface, is_line
from tests.kubelet.conftest import Answer, Recorded, resource

SERVICE = "/v1beta1.DevicePlugin/"
RESOURCE = resource("a", "b", "c", "d", "e::0", "e::1", "é" * 9, unhealthy="d", numa=0)
IDS = frozenset(entry.id for entry in RESOURCE.devices)
REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
POLICIES = (None, *(BUILT_IN[name] for name in sorted(BUILT_IN)))


class Served(Struct):
    """A plugin, a channel to it, and the policy that it prefers by."""

    plugin: ResourcePlugin
    server: grpc.aio.Server
    channel: grpc.aio.Channel
    path: Path
    policy: Policy | None = None

    async def call(self, method: str, data: bytes) -> tuple[grpc.StatusCode, bytes, str]:
        """Status, answer, details."""
        try:
            answer = await self.channel.unary_unary(SERVICE + method, None, None)(data)
        except grpc.aio.AioRpcError as error:
            return error.code(), b"", error.details() or ""
        return grpc.StatusCode.OK, answer, ""

    async def stop(self) -> None:
        await self.channel.close(None)
        await self.server.stop(None)
        shutil.rmtree(self.path.parent)


@cache
def served() -> Served:
    return run(_serve())


async def _serve() -> Served:
    path = Path(tempfile.mkdtemp(prefix="g")) / "s"

    def preferred(offered: Resource, wanted: Preference) -> Sequence[AdvertisedID]:
        return prefer(offered, wanted, policy=live.policy)

    plugin = ResourcePlugin(RESOURCE, Answer(), preferred, Recorded())
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((plugin.handler(),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    live = Served(plugin, server, grpc.aio.insecure_channel(f"unix:{path}"), path)
    at_the_end(live.stop)
    return live


def requests(data: bytes) -> None:
    """The first byte says which call, the second which policy; the rest is the request."""
    source = Source(data)
    check, policy = source.choice((allocate, preferred, ignored, listed)), source.choice(POLICIES)
    live = served()
    live.policy = policy
    run(check(live, source.rest()))
    assert live.plugin.resource == RESOURCE


async def allocate(live: Served, data: bytes) -> None:
    """An answer for each container, or a refusal in one line."""
    code, answer, details = await live.call("Allocate", data)
    if code is not grpc.StatusCode.OK:
        assert code in REFUSED
        assert is_line(details), details
        return
    request = pluginapi.AllocateRequest.FromString(data)
    given = pluginapi.AllocateResponse.FromString(answer).container_responses
    asked = [sorted(container.devices_ids) for container in request.container_requests]
    assert asked == [response.envs["IDS"].split(",") for response in given] != []
    assert all(len(set(ids)) == len(ids) and IDS.issuperset(ids) for ids in asked)
    assert not any("d" in ids for ids in asked)  # the Unhealthy one


async def preferred(live: Served, data: bytes) -> None:
    """Of what is available, as many as are wanted, sorted, with all that must be in it."""
    code, answer, details = await live.call("GetPreferredAllocation", data)
    try:
        request = pluginapi.PreferredAllocationRequest.FromString(data)
    except DecodeError:
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert is_line(details)
        return
    assert code is grpc.StatusCode.OK
    given = pluginapi.PreferredAllocationResponse.FromString(answer).container_responses
    assert len(given) == len(request.container_requests)
    for container, response in zip(request.container_requests, given, strict=True):
        ids = list(response.deviceIDs)
        must, size = set(container.must_include_deviceIDs), max(container.allocation_size, 0)
        offered = must | set(container.available_deviceIDs)
        assert len(set(ids)) == len(ids) == min(size, len(offered))
        assert offered.issuperset(ids)
        assert must.issuperset(ids) if len(must) >= size else must <= set(ids)


async def ignored(live: Served, data: bytes) -> None:
    """Calls whose request says nothing that matters."""
    for method, answered in (
        ("GetDevicePluginOptions", OPTIONS),
        ("PreStartContainer", pluginapi.PreStartContainerResponse()),
    ):
        code, answer, details = await live.call(method, data)
        if code is grpc.StatusCode.OK:
            assert type(answered).FromString(answer) == answered
        else:
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert is_line(details)
    code, _, _ = await live.call("NoSuchMethod", data)
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def listed(live: Served, data: bytes) -> None:
    """ListAndWatch gives the whole list, whatever it is asked with."""
    stream = live.channel.unary_stream(f"{SERVICE}ListAndWatch", None, None)(data)
    answer = await stream.read()
    assert isinstance(answer, bytes)
    assert {d.ID for d in pluginapi.ListAndWatchResponse.FromString(answer).devices} == IDS
    stream.cancel()
    await live.plugin.streams.until(lambda count: count == 0)


def wire(data: bytes) -> None:
    """Bytes that are no HTTP/2, or begin like it: the connection ends, others do not notice."""
    run(_wire(served(), data))


async def _wire(live: Served, data: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(live.path))
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        writer.write_eof()
        await reader.read(1 << 16)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    code, answer, _ = await live.call("GetDevicePluginOptions", b"")
    assert code is grpc.StatusCode.OK
    assert pluginapi.DevicePluginOptions.FromString(answer) == OPTIONS


def _asked(*ids: str) -> bytes:
    container = pluginapi.ContainerAllocateRequest(devices_ids=ids)
    return pluginapi.AllocateRequest(container_requests=[container]).SerializeToString()


def _wanted(available: Sequence[str], must: Sequence[str], size: int) -> bytes:
    container = pluginapi.ContainerPreferredAllocationRequest(
        available_deviceIDs=available, must_include_deviceIDs=must, allocation_size=size
    )
    request = pluginapi.PreferredAllocationRequest(container_requests=[container, container])
    return request.SerializeToString()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS = b"\0\0\0\4\0\0\0\0\0", b"\0\0\1\1\5\0\0\0\1\x82"
SURFACES = {
    "grpc": Surface(
        target=requests,
        seeds=(
            *(b"\0\0" + _asked(*ids) for ids in (("a",), ("a", "a"), ("d",), (), ("é" * 9, "b"))),
            *(b"\0\0" + _asked(text) for text in ("a\nb", "\x1b[1m", "x" * 100_000, "nobody")),
            *(bytes([1, n]) + _wanted("abcx", "b", 3) for n in range(len(POLICIES))),
            *(b"\1\0" + _wanted(("a", "zz"), (), size) for size in (-1, 0, 1 << 30)),
            *(bytes([n, 0, 255, 255]) for n in range(4)),
        ),
        words=(b"\x0a", b"\x12", b"\x18", b"\1a", b"\1b", b"\1d", b"\4e::0", b"\x0a\3\x0a\1c"),
    ),
    "grpc_wire": Surface(
        target=wire,
        seeds=(b"", PREFACE, PREFACE + SETTINGS, PREFACE + SETTINGS + HEADERS, b"GET / HTTP/1.1"),
        words=(PREFACE, SETTINGS, HEADERS, b"\0\0\4\x08\0\0\0\0\0", b"\xff" * 9),
        examples=60,
    ),
}
