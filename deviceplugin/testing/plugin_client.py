"""One connection of the kubelet to one plugin: dial, the DevicePlugin calls, their errors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from msgspec import Struct

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi

MESSAGE_LIMIT_BYTES = 4 * 1024 * 1024
PRE_START_TIMEOUT_S = 30.0

EOF: Any = vars(grpc.aio)["EOF"]  # Any: grpc-stubs does not know it
_SERVICE = "/v1beta1.DevicePlugin/"
_CHANNEL_OPTIONS = (
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    # Without it two channels to one path share a connection, and a refused path its backoff.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class RpcError(Exception):
    """A call to the plugin failed; the text has the shape of a Go gRPC error."""

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(f"rpc error: code = {go_code(code)} desc = {detail}")
        self.code = code
        self.detail = detail


class DialError(Exception):
    """Nobody accepted on the plugin's socket in time."""


class Options(Struct, frozen=True, kw_only=True):
    """What GetDevicePluginOptions answered."""

    pre_start_required: bool
    get_preferred_allocation_available: bool


def go_code(code: grpc.StatusCode) -> str:
    """Spell a status code as Go prints it: INVALID_ARGUMENT is InvalidArgument."""
    spelled = {grpc.StatusCode.OK: "OK", grpc.StatusCode.CANCELLED: "Canceled"}
    return spelled.get(code) or "".join(word.capitalize() for word in code.name.split("_"))


class PluginClient:
    """A connected plugin. Calls have no deadline unless one is given, as in the kubelet."""

    def __init__(self, resource: str, socket: Path) -> None:
        self.resource = resource
        self.socket = socket
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=_CHANNEL_OPTIONS)

    async def dial(self, timeout_s: float) -> None:
        """Wait until the connection stands; DialError after timeout_s seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._channel.channel_ready()
        except TimeoutError as error:
            text = "failed to dial device plugin: context deadline exceeded"
            raise DialError(text) from error
        except grpc.aio.UsageError as error:  # closed meanwhile: the kubelet stops
            raise DialError("failed to dial device plugin: the connection is closing") from error

    async def options(self, timeout_s: float | None = None) -> Options:
        """GetDevicePluginOptions; RpcError when it fails or timeout_s seconds are over."""
        answer: pluginapi.DevicePluginOptions = await self.call(
            "GetDevicePluginOptions", pluginapi.Empty(), pluginapi.DevicePluginOptions, timeout_s
        )
        return Options(
            pre_start_required=answer.pre_start_required,
            get_preferred_allocation_available=answer.get_preferred_allocation_available,
        )

    async def allocate(
        self, ids: Iterable[str], timeout_s: float | None = None
    ) -> pluginapi.AllocateResponse:
        """Allocate with one container request, ids in the order given; RpcError."""
        request = pluginapi.AllocateRequest()
        request.container_requests.add(devices_ids=ids)
        answer: pluginapi.AllocateResponse = await self.call(
            "Allocate", request, pluginapi.AllocateResponse, timeout_s
        )
        return answer

    async def prefer(
        self, available: Iterable[str], must_include: Iterable[str], size: int
    ) -> frozenset[str]:
        """GetPreferredAllocation with one container request; RpcError. No answer is no id."""
        request = pluginapi.PreferredAllocationRequest()
        request.container_requests.add(
            available_deviceIDs=available, must_include_deviceIDs=must_include, allocation_size=size
        )
        answer: pluginapi.PreferredAllocationResponse = await self.call(
            "GetPreferredAllocation", request, pluginapi.PreferredAllocationResponse, None
        )
        first = answer.container_responses[:1]
        return frozenset(first[0].deviceIDs) if first else frozenset()

    async def pre_start(self, ids: Iterable[str]) -> None:
        """PreStartContainer, the one call with a deadline of the kubelet's (30 s); RpcError."""
        request = pluginapi.PreStartContainerRequest(devices_ids=ids)
        answer = pluginapi.PreStartContainerResponse
        await self.call("PreStartContainer", request, answer, PRE_START_TIMEOUT_S)

    async def lists(self) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        """ListAndWatch without deadline: every list until the end, RpcError if in error."""
        try:
            call = self._channel.unary_stream(
                _SERVICE + "ListAndWatch",
                request_serializer=pluginapi.Empty.SerializeToString,
                response_deserializer=None,
            )(pluginapi.Empty())
        except grpc.aio.UsageError as error:  # closed before the call
            raise RpcError(grpc.StatusCode.CANCELLED, "the connection is closing") from error
        while (message := await _translated(call.read())) is not EOF:
            yield _decoded(pluginapi.ListAndWatchResponse, message)

    async def close(self) -> None:
        """Drop the connection: open calls end as cancelled, on the plugin's side too."""
        await self._channel.close(None)

    # protobuf messages have no common typed base with SerializeToString and FromString
    async def call(self, method: str, request: Any, answer: Any, timeout_s: float | None) -> Any:
        """Any call of the service, answered by a message of the class `answer`; RpcError."""
        call = self._channel.unary_unary(
            _SERVICE + method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=None,
        )
        # UsageError is what grpc raises for a channel closed before the call
        try:
            return _decoded(answer, await _translated(call(request, timeout=timeout_s)))
        except grpc.aio.UsageError as error:
            raise RpcError(grpc.StatusCode.CANCELLED, "the connection is closing") from error


def _decoded(message: Any, data: bytes) -> Any:
    """The message, or the error that a Go client makes of bytes that are none."""
    try:
        return message.FromString(data)
    except DecodeError as error:
        text = f"grpc: failed to unmarshal the received message: {error}"
        raise RpcError(grpc.StatusCode.INTERNAL, text) from error


async def _translated(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise RpcError(error.code(), error.details() or "") from error
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        # the channel was closed under the call: for the caller an answer, not its own end
        raise RpcError(grpc.StatusCode.CANCELLED, "the connection is closing") from error


def _is_cancelled() -> bool:
    """Whether the caller itself is to end.

    The task is a name in no frame that its error passes: task, error and frame would keep each
    other, and the call with its connection, until the garbage collector comes by.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
