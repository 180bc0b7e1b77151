"""A plugin of the container runtime (Node Resource Interface): asked before a container is made.

The runtime closes the connection of a plugin that does not answer within 2 s, and makes containers
without it from then on; so nothing that could take long is done for an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf
from msgspec import Struct

from deviceplugin.enforcement.regions import Limits, annotated, format_limits, summed
from deviceplugin.enforcement.wire import (
    PLUGIN,
    REQUEST,
    RESPONSE,
    RUNTIME,
    TRUNK_BYTES,
    Message,
    Messages,
    NriError,
    frame,
    parse_trunk,
)
from deviceplugin.pb import nri_v1alpha1_pb2 as nri

P = TypeVar("P", bound=Protobuf)

SERVICE = "nri.pkg.api.v1alpha1.Plugin"
RUNTIME_SERVICE = "nri.pkg.api.v1alpha1.Runtime"
NAME, INDEX = "deviceplugin", "10"
CREATE_CONTAINER = 4  # an event; its bit is one less
OK, UNIMPLEMENTED, FAILED_PRECONDITION = 0, 12, 9
REGISTER_S = 5.0
MAX_CONTAINERS = 10_000
STOPPED = 4  # a container's state


class Container(Struct, frozen=True, kw_only=True):
    """A container of the runtime: `limits` are what its slices stand for, `problem` why they
    cannot be told."""

    id: str
    name: str
    namespace: str
    pod: str
    limits: Limits
    problem: str = ""


class Answer(Struct, frozen=True):
    """What becomes of a new container: the files of its cgroup, or why it is not to be made."""

    unified: dict[str, str]
    refusal: str = ""


class Handler(Protocol):
    """Who decides."""

    def claimed(self, sources: Sequence[str]) -> tuple[Limits, str]:
        """The limits of a container with these mounts by its claims, or why they cannot be told."""

    def created(self, container: Container) -> Answer:
        """What a container gets that is about to be made; must not wait."""

    async def found(self, containers: list[Container]) -> dict[str, Limits]:
        """Containers with limits that are there already; those to be updated by the runtime."""


class Session:
    """One connection to the runtime, from its beginning to its end."""

    def __init__(
        self, handler: Handler, serving: Callable[[], Awaitable[object]], *, minimum: bool
    ) -> None:
        self._handler, self._serving, self._minimum = handler, serving, minimum
        self._parsers = {PLUGIN: Messages(), RUNTIME: Messages()}
        self._containers: list[Container] = []
        self._pods: dict[str, tuple[str, str]] = {}
        self._calls: dict[str, Callable[[bytes], Awaitable[Protobuf]]] = {
            "Configure": self._configure,
            "Synchronize": self._synchronize,
            "CreateContainer": self._create,
        }

    async def run(self, path: Path) -> None:
        """Register, and answer until the runtime ends; raises NriError when it does, or does not
        take us."""
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise NriError(f"{path}: {error.strerror or error}") from error
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise NriError(f"{path}: the container runtime has closed the connection") from error
        except DecodeError as error:
            raise NriError(f"{path}: what the container runtime sent cannot be read") from error
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = nri.RegisterPluginRequest(plugin_name=NAME, plugin_idx=INDEX)
        asked = nri.TtrpcRequest(
            service=RUNTIME_SERVICE,
            method="RegisterPlugin",
            payload=body.SerializeToString(),
            timeout_nano=int(REGISTER_S * 1e9),
        )
        writer.write(frame(RUNTIME, Message(1, REQUEST, asked.SerializeToString())))
        while True:
            connection, size = parse_trunk(await reader.readexactly(TRUNK_BYTES))
            data = await reader.readexactly(size)
            parser = self._parsers.get(connection)
            for message in parser.take(data) if parser else ():
                await self._take(connection, message, writer)
            await writer.drain()

    async def _take(self, connection: int, message: Message, writer: asyncio.StreamWriter) -> None:
        if connection == RUNTIME:
            _check_registered(message)
        elif message.kind == REQUEST:
            request = _parsed(nri.TtrpcRequest, message.body)
            reply = await self._reply(request)
            writer.write(frame(PLUGIN, Message(message.stream, RESPONSE, reply)))

    async def _reply(self, request: nri.TtrpcRequest) -> bytes:
        call = self._calls.get(request.method) if request.service == SERVICE else None
        if call is None:
            code = OK if request.method == "Shutdown" else UNIMPLEMENTED
            return _response(nri.Empty(), code, f"{request.method} is not subscribed to")
        try:
            return _response(await call(request.payload))
        except RefusedError as error:
            return _response(nri.Empty(), FAILED_PRECONDITION, str(error))

    async def _configure(self, payload: bytes) -> Protobuf:
        _parsed(nri.ConfigureRequest, payload)
        return nri.ConfigureResponse(events=1 << (CREATE_CONTAINER - 1))

    async def _synchronize(self, payload: bytes) -> Protobuf:
        """Everything that runs already, in one request or several; after the last we serve."""
        request = _parsed(nri.SynchronizeRequest, payload)
        self._pods |= {pod.id: (pod.namespace, pod.name) for pod in request.pods}
        found = (self._container(one) for one in request.containers if one.state != STOPPED)
        self._containers += [one for one in found if one.limits or one.problem]
        del self._containers[MAX_CONTAINERS:]
        if request.more:
            return nri.SynchronizeResponse(more=True)
        known, self._containers, self._pods = self._containers, [], {}
        wanted = await self._handler.found(known)
        await self._serving()
        return nri.SynchronizeResponse(
            update=[
                nri.ContainerUpdate(
                    container_id=container,
                    linux=nri.LinuxContainerUpdate(resources=_resources(self._unified(limits))),
                    ignore_failure=True,
                )
                for container, limits in sorted(wanted.items())
            ]
        )

    def _unified(self, limits: Limits) -> dict[str, str]:
        return unified(limits, minimum=self._minimum)

    async def _create(self, payload: bytes) -> Protobuf:
        request = _parsed(nri.CreateContainerRequest, payload)
        self._pods = {request.pod.id: (request.pod.namespace, request.pod.name)}
        answer = self._handler.created(self._container(request.container))
        self._pods = {}
        if answer.refusal:
            raise RefusedError(answer.refusal)
        if not answer.unified:
            return nri.CreateContainerResponse()
        linux = nri.LinuxContainerAdjustment(resources=_resources(answer.unified))
        return nri.CreateContainerResponse(adjust=nri.ContainerAdjustment(linux=linux))

    def _container(self, one: nri.Container) -> Container:
        namespace, pod = self._pods.get(one.pod_sandbox_id, ("", ""))
        limits, problem = self._handler.claimed([mount.source for mount in one.mounts])
        try:
            limits = summed(limits, annotated(one.annotations))
        except ValueError as error:
            problem = str(error)
        return Container(
            id=one.id,
            name=one.name,
            namespace=namespace,
            pod=pod,
            limits=limits,
            problem=problem,
        )


class RefusedError(NriError):
    """A container is not to be made."""


def unified(limits: Limits, *, minimum: bool) -> dict[str, str]:
    """The files of a container's cgroup, as the runtime takes them."""
    names = ("dmem.max", "dmem.min") if minimum else ("dmem.max",)
    return dict.fromkeys(names, format_limits(limits)) if limits else {}


def _resources(files: dict[str, str]) -> nri.LinuxResources:
    return nri.LinuxResources(unified=files)


def _response(payload: Protobuf, code: int = OK, text: str = "") -> bytes:
    status = nri.TtrpcStatus(code=code, message=text if code else "")
    body = payload.SerializeToString()
    return nri.TtrpcResponse(status=status, payload=body).SerializeToString()


def _check_registered(message: Message) -> None:
    status = _parsed(nri.TtrpcResponse, message.body).status
    if status.code:
        raise NriError(f"the container runtime refuses the plugin: {status.message[:200]}")


def _parsed(schema: type[P], data: bytes) -> P:
    found = schema()
    found.ParseFromString(data)
    return found
