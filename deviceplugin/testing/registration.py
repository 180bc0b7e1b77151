"""The kubelet's Registration service and its map of clients by resource name, defects included."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from math import isinf
from os.path import normpath
from pathlib import Path

import grpc
import grpc.aio
from msgspec import Struct, field

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.devicemanager import DeviceManager
from deviceplugin.testing.happenings import (
    Asked,
    Ended,
    Happening,
    Listed,
    Listener,
    Opened,
    Refused,
)
from deviceplugin.testing.names import is_extended_resource_name
from deviceplugin.testing.plugin_client import DialError, Options, PluginClient, RpcError
from deviceplugin.testing.stalesocket import Handler

VERSION = "v1beta1"


class RegistrationRefusedError(Exception):
    """Register fails with this text, as gRPC code UNKNOWN."""


class Registration(Struct, frozen=True, kw_only=True):
    """A Register that succeeded. at_s: when it arrived, on the stub's clock."""

    resource: str
    endpoint: str
    options: Options
    announced: Options
    at_s: float
    generation: int


class RegisterKnobs(Struct, kw_only=True):
    """How the next Register calls misbehave.

    refuse_next: one text per call to fail. hang: while set, Register never answers.
    dial_timeout_s: seconds to wait for the plugin's socket. delay_s: seconds before any check.
    """

    refuse_next: list[str] = field(default_factory=list)
    hang: asyncio.Event = field(default_factory=asyncio.Event)
    dial_timeout_s: float = 10.0
    delay_s: float = 0.0


class RegistrationLog(Struct, kw_only=True):
    """What happened over all generations of the kubelet; `listeners` are told at once."""

    listeners: list[Listener] = field(default_factory=list)
    streams: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    accepted: list[Registration] = field(default_factory=list)
    first_list_at_s: dict[str, float] = field(default_factory=dict)
    last_list_at_s: dict[str, float] = field(default_factory=dict)
    stream_ends: list[tuple[str, str]] = field(default_factory=list)

    def tell(self, happening: Happening) -> None:
        """Tell every listener."""
        for listener in self.listeners:
            listener(happening)


class Registrations:
    """Serves Register for one life of the kubelet and follows every plugin's ListAndWatch.

    Clients are found by resource name only: the end of any stream of a name disconnects the
    newest client of that name, and nothing registers it again.
    """

    def __init__(
        self,
        socket_dir: Path,
        manager: DeviceManager,
        knobs: RegisterKnobs,
        log: RegistrationLog,
        changed: Callable[[], None],
    ) -> None:
        self.generation = 0
        self._socket_dir = socket_dir
        self._manager = manager
        self._knobs = knobs
        self._log = log
        self._changed = changed
        self._by_name: dict[str, PluginClient] = {}
        self._streams: dict[asyncio.Task[None], PluginClient] = {}
        self._connects: set[asyncio.Task[None]] = set()

    def handler(self) -> Handler:
        """The gRPC service to add to a server."""
        register = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=pluginapi.RegisterRequest.FromString,
            response_serializer=pluginapi.Empty.SerializeToString,
        )
        return grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": register})

    def live_streams(self, resource: str) -> int:
        """Number of open ListAndWatch streams of the resource."""
        return sum(client.resource == resource for client in self._streams.values())

    async def disconnect(self, resource: str) -> None:
        """Drop the newest client of the name, as the kubelet does at a stream's end."""
        client = self._by_name.pop(resource, None)
        if client is None:
            return
        self._manager.disconnect(resource)
        self._changed()
        await client.close()

    async def drop_all(self) -> None:
        """Die: close every connection at once, without any of the end-of-stream work."""
        tasks = [*self._streams, *self._connects]
        clients = {*self._streams.values(), *self._by_name.values()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(client.close() for client in clients))
        await asyncio.gather(*tasks, return_exceptions=True)
        self._by_name.clear()
        self._changed()

    async def _register(
        self,
        request: pluginapi.RegisterRequest,
        context: grpc.aio.ServicerContext[pluginapi.RegisterRequest, pluginapi.Empty],
    ) -> pluginapi.Empty:
        self._log.calls[request.resource_name] += 1
        remaining_s = context.time_remaining()
        self._log.tell(
            Asked(
                at_s=self._manager.clock(),
                request=request,
                remaining_s=None if remaining_s is None or isinf(remaining_s) else remaining_s,
                generation=self.generation,
            )
        )
        self._changed()
        # A Go handler goes on after its caller gave up; a Python one is cancelled. Hence a task.
        connect = asyncio.create_task(self._accept(request, remaining_s))
        self._connects.add(connect)
        connect.add_done_callback(partial(self._accepted, request.resource_name))
        try:
            await asyncio.shield(connect)
        except (RegistrationRefusedError, DialError, RpcError) as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return pluginapi.Empty()

    def _accepted(self, resource: str, connect: asyncio.Task[None]) -> None:
        """Nobody waits for the end of one whose caller gave up: its failure is looked at here."""
        self._connects.discard(connect)
        error = None if connect.cancelled() else connect.exception()
        if error is not None:
            self._log.tell(Refused(at_s=self._manager.clock(), resource=resource, error=error))

    async def _accept(self, request: pluginapi.RegisterRequest, remaining_s: float | None) -> None:
        at_s = self._manager.clock()
        deadline_s = _deadline(remaining_s)
        await self._misbehave()
        _check(request)
        client = PluginClient(request.resource_name, self._socket(request.endpoint))
        options = await self._connect(client, deadline_s)
        self._log.accepted.append(
            Registration(
                resource=request.resource_name,
                endpoint=request.endpoint,
                options=options,
                announced=_announced(request),
                at_s=at_s,
                generation=self.generation,
            )
        )
        self._log.first_list_at_s.pop(request.resource_name, None)
        self._follow(client)

    def _socket(self, endpoint: str) -> Path:
        """Joined and cleaned by text alone: an absolute endpoint ends up below the directory."""
        return Path(normpath(f"{self._socket_dir}/{endpoint}"))

    async def _misbehave(self) -> None:
        if self._knobs.delay_s:
            await asyncio.sleep(self._knobs.delay_s)
        if self._knobs.hang.is_set():
            await asyncio.Event().wait()
        if self._knobs.refuse_next:
            raise RegistrationRefusedError(self._knobs.refuse_next.pop(0))

    async def _connect(self, client: PluginClient, deadline_s: float | None) -> Options:
        """Dial and ask for options; a failure forgets the name, an older live client's too."""
        self._by_name[client.resource] = client
        try:
            await client.dial(self._knobs.dial_timeout_s)
            options = await client.options(_remaining(deadline_s))
        except BaseException:
            self._by_name.pop(client.resource, None)
            await client.close()
            raise
        self._manager.connect(client.resource, client, options)
        return options

    def _follow(self, client: PluginClient) -> None:
        self._log.streams += 1
        run = self._run(client, self._log.streams)
        task = asyncio.create_task(run, name=f"ListAndWatch {client.resource}")
        self._streams[task] = client
        task.add_done_callback(self._ended)
        self._log.tell(
            Opened(
                at_s=self._manager.clock(),
                resource=client.resource,
                live=self.live_streams(client.resource),
                generation=self.generation,
            )
        )
        self._changed()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._streams[task]
        self._changed()

    async def _run(self, client: PluginClient, stream: int) -> None:
        reason = "ended by the plugin"
        opened_s = self._manager.clock()
        try:
            async for message in client.lists():
                listed = Listed(
                    at_s=self._manager.clock(),
                    resource=client.resource,
                    stream=stream,
                    waited_s=self._manager.clock() - opened_s,
                    message=message,
                )
                self._received(listed)
        except RpcError as error:
            reason = str(error)
        self._log.stream_ends.append((client.resource, reason))
        ended_s = self._manager.clock()
        self._log.tell(Ended(at_s=ended_s, resource=client.resource, reason=reason))
        await self.disconnect(client.resource)
        await client.close()

    def _received(self, listed: Listed) -> None:
        resource, now_s = listed.resource, listed.at_s
        self._manager.apply_list(resource, listed.message.devices)
        self._log.first_list_at_s.setdefault(resource, now_s)
        self._log.last_list_at_s[resource] = now_s
        self._log.tell(listed)
        self._changed()


def _check(request: pluginapi.RegisterRequest) -> None:
    if request.version != VERSION:
        raise RegistrationRefusedError(
            f'unsupported version "{request.version}": this kubelet takes "{VERSION}"'
        )
    if not is_extended_resource_name(request.resource_name):
        raise RegistrationRefusedError(f'the ResourceName "{request.resource_name}" is invalid')


def _announced(request: pluginapi.RegisterRequest) -> Options:
    return Options(
        pre_start_required=request.options.pre_start_required,
        get_preferred_allocation_available=request.options.get_preferred_allocation_available,
    )


def _deadline(remaining_s: float | None) -> float | None:
    if remaining_s is None or isinf(remaining_s):
        return None
    return asyncio.get_running_loop().time() + remaining_s


def _remaining(deadline_s: float | None) -> float | None:
    if deadline_s is None:
        return None
    return max(0.0, deadline_s - asyncio.get_running_loop().time())
