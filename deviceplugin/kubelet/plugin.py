"""The DevicePlugin service of one resource: lists, preferences, allocations.

State is changed by none of its calls. The service is described by hand instead of by the
generated servicer so that a list, serialised once, is sent to every stream as the same bytes.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from msgspec import Struct

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.kubelet import wire
from deviceplugin.kubelet.limits import message_limit
from deviceplugin.kubelet.metrics import KubeletMetrics
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Preference,
    Resource,
    ResourceName,
)
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.resources.allocation import Request
from deviceplugin.resources.large import LargeQuestion
from deviceplugin.resources.lists import changed_entries
from deviceplugin.runtime.latest import Latest

log = structlog.get_logger()
T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]
Encode = Callable[[ContainerEdits], bytes]
Allocate = Callable[[Request, Encode], Awaitable[bytes]]
Prefer = Callable[[Resource, Preference], Sequence[AdvertisedID]]
PreferLarge = Callable[[Resource, LargeQuestion], Sequence[AdvertisedID] | None]

OPTIONS = pluginapi.DevicePluginOptions(
    pre_start_required=False, get_preferred_allocation_available=True
)
# Changes closer together than this are one message; the first of a burst goes out at once.
BURST_S = 0.03  # with what an event takes itself, a fault is listed within 50 ms
MAX_MESSAGES = 128
_CODES = {
    Refusal.EMPTY: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.DUPLICATE: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.UNKNOWN: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.UNHEALTHY: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.IN_USE: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.LIMIT: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.PAIR: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.LEDGER: grpc.StatusCode.UNAVAILABLE,
    Refusal.UNLIMITED: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.MISSING_NODE: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Refusal.FAILED: grpc.StatusCode.INTERNAL,
}


class Offer(Struct, frozen=True, eq=False):
    """A resource as it is served: its entries by id and its list as bytes."""

    resource: Resource
    listed: wire.EncodedList
    entries: Mapping[str, AdvertisedDevice]


def offer(resource: Resource, before: Offer | None = None) -> Offer:
    """Prepare a resource for serving, once per change and not once per call."""
    listed = wire.encoded_list(resource, before.listed if before else wire.NO_LIST)
    return Offer(resource, listed, _entries(resource, before))


def _entries(resource: Resource, before: Offer | None) -> Mapping[str, AdvertisedDevice]:
    """By id; where the ids are those of before, only what has changed is looked at."""
    changed = changed_entries(resource.devices, before.resource.devices) if before else None
    if before is None or changed is None:
        return {str(entry.id): entry for entry in resource.devices}
    return {**before.entries, **{str(entry.id): entry for entry, _ in changed}}


class ResourcePlugin:
    """Serves one resource; `allocate` and `prefer` decide what a container gets, `prefer_large`
    where it can do so without reading the question."""

    def __init__(
        self,
        resource: Resource,
        allocate: Allocate,
        prefer: Prefer,
        metrics: KubeletMetrics,
        prefer_large: PreferLarge = lambda *_: None,
    ) -> None:
        self.name: ResourceName = resource.name
        self.streams = Latest(0)
        self.lost = asyncio.Event()
        self._allocate_one, self._prefer, self._metrics = allocate, prefer, metrics
        self._prefer_large = prefer_large
        self._state = Latest((0, offer(resource)))
        self._limit = self._needed()
        self._messages: dict[int, tuple[ContainerEdits, bytes]] = {}

    @property
    def resource(self) -> Resource:
        """The resource as it is listed now."""
        return self._state.value[1].resource

    def show(self, resource: Resource) -> None:
        """List `resource` from now on; equal content sends nothing."""
        epoch, current = self._state.value
        if resource != current.resource:
            self._state.set((epoch, offer(resource, current)))
            if self.outgrown:
                self.lost.set()

    def begin(self) -> int:
        """The bytes that a request may have from now on: those of a new server."""
        self._limit = self._needed()
        return self._limit

    @property
    def outgrown(self) -> bool:
        """Whether a request about all of the list is longer than this server takes."""
        return self._needed() > self._limit

    def _needed(self) -> int:
        return message_limit(len(self._state.value[1].listed.message))

    async def end_streams(self) -> None:
        """End every ListAndWatch stream, and know that a later end was not asked for."""
        epoch, current = self._state.value
        self._state.set((epoch + 1, current))
        await self.streams.until(lambda count: count == 0)
        self.lost = asyncio.Event()

    def handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """The service for a grpc.aio server."""
        return grpc.method_handlers_generic_handler(
            "v1beta1.DevicePlugin",
            {
                "GetDevicePluginOptions": _unary(self._options, pluginapi.Empty),
                "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                    self._list_and_watch, request_deserializer=None, response_serializer=None
                ),
                "GetPreferredAllocation": grpc.unary_unary_rpc_method_handler(self._preferred),
                "Allocate": grpc.unary_unary_rpc_method_handler(self._allocate),
                "PreStartContainer": _unary(self._pre_start, pluginapi.PreStartContainerRequest),
            },
        )

    async def _options(self, _: object, __: Context) -> pluginapi.DevicePluginOptions:
        return OPTIONS

    async def _pre_start(self, _: object, __: Context) -> pluginapi.PreStartContainerResponse:
        return pluginapi.PreStartContainerResponse()

    async def _list_and_watch(self, _: object, __: Context) -> AsyncIterator[bytes]:
        state, lost, sent = self._state.value, self.lost, None
        epoch = state[0]
        self.streams.set(self.streams.value + 1)
        try:
            while state[0] == epoch:
                if state[1].listed.message != sent:
                    sent = state[1].listed.message
                    self._metrics.listed(self.name)
                    yield sent
                    await self._pause(epoch)
                    state = self._state.value
                else:
                    state = await self._state.next(state)
        finally:
            if epoch == self._state.value[0]:
                lost.set()
            self.streams.set(self.streams.value - 1)

    async def _pause(self, epoch: int) -> None:
        """Let a burst pass, unless the streams are to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BURST_S):
                await self._state.until(lambda state: state[0] != epoch)

    async def _preferred(self, data: bytes, context: Context) -> bytes:
        started = time.perf_counter()
        request = await _parsed(pluginapi.PreferredAllocationRequest, data, context)
        resource = self.resource
        large = wire.large_question(data, request)
        quick = self._prefer_large(resource, large) if large else None
        containers = request.container_requests if quick is None else ()
        answers = [self._prefer(resource, wire.preference(c)) for c in containers]
        message = wire.preferred_response(answers if quick is None else [quick])
        self._metrics.rpc("GetPreferredAllocation", time.perf_counter() - started)
        return message

    async def _allocate(self, data: bytes, context: Context) -> bytes:
        started = time.perf_counter()
        request = await _parsed(pluginapi.AllocateRequest, data, context)
        try:
            answers = await self._containers(
                [tuple(c.devices_ids) for c in request.container_requests]
            )
        except AllocationError as error:
            self._metrics.refused(self.name, error.refusal)
            log.warning("allocate_refused", resource=self.name, reason=str(error))
            await context.abort(_CODES[error.refusal], str(error))
        finally:
            self._metrics.rpc("Allocate", time.perf_counter() - started)
        return b"".join(answers)  # messages one after the other are one with all their items

    async def _containers(self, requests: Sequence[Sequence[str]]) -> Sequence[bytes]:
        """One answer a request: with none at all the kubelet would leak the devices."""
        if not requests:
            raise AllocationError(Refusal.EMPTY, f"{self.name}: no container request")
        return [await self._container(ids) for ids in requests]

    async def _container(self, ids: Sequence[str]) -> bytes:
        current = self._state.value[1]
        request = Request(current.resource, current.entries, ids)
        return await self._allocate_one(request, self._message)

    def _message(self, edits: ContainerEdits) -> bytes:
        """The answer's bytes, made once for edits that are kept elsewhere and come again."""
        kept = self._messages.get(id(edits))
        if kept is not None and kept[0] is edits:
            return kept[1]
        if len(self._messages) >= MAX_MESSAGES:
            self._messages.clear()
        message = self._encoded(edits)
        self._messages[id(edits)] = (edits, message)
        return message

    def _encoded(self, edits: ContainerEdits) -> bytes:
        """A vendor may have put anything into its edits."""
        try:
            return wire.allocate_response(edits)
        except (AttributeError, TypeError, ValueError) as error:
            text = f"{self.name}: the vendor's container edits cannot be sent: {error}"
            raise AllocationError(Refusal.FAILED, text) from error


def _serialize(message: Any) -> bytes:  # any generated message: protobuf has no common Protocol
    data: bytes = message.SerializeToString()
    return data


async def _parsed(kind: Any, data: bytes, context: Context) -> Any:  # one of the generated messages
    """Parsed here: what gRPC itself cannot parse it answers with UNKNOWN, and logs a traceback."""
    try:
        return kind.FromString(data)
    except DecodeError:
        text = f"these {len(data)} bytes are no {kind.DESCRIPTOR.full_name}"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)


def _unary(
    method: Callable[[Any, Context], Awaitable[Any]], request: Any
) -> "grpc.RpcMethodHandler[Any, Any]":
    async def call(data: bytes, context: Context) -> Any:  # one of the generated messages
        return await method(await _parsed(request, data, context), context)

    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=None, response_serializer=_serialize
    )
