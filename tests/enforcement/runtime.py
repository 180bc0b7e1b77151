"""A container runtime with NRI: it asks its plugin, then makes containers as runc does."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message as Protobuf
from msgspec import Struct

from deviceplugin.enforcement.wire import (
    PLUGIN,
    REQUEST,
    RESPONSE,
    RUNTIME,
    TRUNK_BYTES,
    Message,
    Messages,
    frame,
    parse_trunk,
)
from deviceplugin.pb import nri_v1alpha1_pb2 as nri
from tests.enforcement.kernel import KernelTree

P = TypeVar("P", bound=Protobuf)


class StartError(Exception):
    """The container was not made: what the kubelet shows."""


class Made(Struct):
    """A container that runs: its cgroup, and its annotations as the kubelet gave them."""

    cgroup: Path
    annotations: Mapping[str, str]
    pod: tuple[str, str, str]
    sources: Sequence[str] = ()


class Runtime:
    """On `socket`; `kernel` has the cgroups. `required` is containerd's required_plugins: nothing
    is made without the plugin."""

    def __init__(self, socket: Path, kernel: KernelTree, *, required: bool = False) -> None:
        self.socket, self.kernel, self.required = socket, kernel, required
        self.containers: dict[str, Made] = {}
        self.registered, self.lost = asyncio.Event(), asyncio.Event()
        self.events = 0
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[nri.TtrpcResponse]] = {}
        self._stream = 1
        self._server: asyncio.Server | None = None
        self.chunk = 100

    async def start(self) -> None:
        """Listen."""
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self._server = await asyncio.start_unix_server(self._connected, self.socket)

    async def stop(self) -> None:
        """End, as containerd does when it is restarted: containers go on."""
        assert self._server is not None
        self._server.close()
        if self._writer:
            self._writer.close()
        self.socket.unlink(missing_ok=True)

    async def create(
        self,
        path: str,
        annotations: Mapping[str, str],
        pod: tuple[str, str, str],
        sources: Sequence[str] = (),
    ) -> Made:
        """A container, up to before its first instruction; StartError where it is not made.
        `sources` are the host's files that are mounted into it."""
        unified: Mapping[str, str] = {}
        if self.registered.is_set():
            unified = await self.asked(path, annotations, pod, sources)
        elif self.required:
            raise StartError("required plugin deviceplugin is not present")
        cgroup = self.kernel.make(path)
        made = Made(cgroup, annotations, pod, sources)
        self._apply(cgroup, unified)
        self.containers[Path(path).name] = made
        return made

    async def asked(
        self,
        path: str,
        annotations: Mapping[str, str],
        pod: tuple[str, str, str],
        sources: Sequence[str] = (),
    ) -> Mapping[str, str]:
        """The files that the plugin wants in a new container's cgroup."""
        one = self._message(path, Made(Path(), annotations, pod, sources))
        request = nri.CreateContainerRequest(pod=self._pod(pod), container=one)
        answer = await self._ask("CreateContainer", request, nri.CreateContainerResponse)
        return answer.adjust.linux.resources.unified

    def remove(self, path: str) -> None:
        """A container ends."""
        made = self.containers.pop(Path(path).name)
        self.kernel.end(made.cgroup)

    def _apply(self, cgroup: Path, unified: Mapping[str, str]) -> None:
        """What runc does: the controllers of the root are enabled on the way, then files."""
        above = [p for p in cgroup.parents if p.is_relative_to(self.kernel.root)]
        for place in reversed(above):
            if "dmem" not in (place / "cgroup.subtree_control").read_text().split():
                self.kernel.write(place / "cgroup.subtree_control", "+dmem")
        for name, text in unified.items():
            try:
                self.kernel.write(cgroup / name, text)
            except OSError as error:
                self.kernel.end(cgroup)
                raise StartError(f"runc create failed: {name}: {error}") from error

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        parsers = {PLUGIN: Messages(), RUNTIME: Messages()}
        tasks = []
        try:
            while True:
                connection, size = parse_trunk(await reader.readexactly(TRUNK_BYTES))
                for message in parsers[connection].take(await reader.readexactly(size)):
                    if connection == RUNTIME and message.kind == REQUEST:
                        self._register(message)
                        tasks.append(asyncio.create_task(self._set_up()))
                    else:
                        self._answered(message)
        except (OSError, asyncio.IncompleteReadError):
            self.registered.clear()
            self.lost.set()
            for future in self._waiting.values():
                future.cancel()
        finally:
            for task in tasks:
                task.cancel()
            writer.close()

    def _register(self, message: Message) -> None:
        request = _parsed(nri.TtrpcRequest, message.body)
        assert (request.service, request.method) == (
            "nri.pkg.api.v1alpha1.Runtime",
            "RegisterPlugin",
        )
        reply = nri.TtrpcResponse(payload=nri.Empty().SerializeToString())
        self._send(RUNTIME, Message(message.stream, RESPONSE, reply.SerializeToString()))

    async def _set_up(self) -> None:
        configured = await self._ask(
            "Configure",
            nri.ConfigureRequest(runtime_name="double", NRI_version="v0.10.0"),
            nri.ConfigureResponse,
        )
        self.events = configured.events
        known = [
            self._message(str(made.cgroup.relative_to(self.kernel.root)), made)
            for made in self.containers.values()
        ]
        pods = [self._pod(made.pod) for made in self.containers.values()]
        parts = [known[n : n + self.chunk] for n in range(0, len(known), self.chunk)] or [[]]
        for number, part in enumerate(parts, 1):
            more = number < len(parts)
            request = nri.SynchronizeRequest(pods=pods, containers=part, more=more)
            reply = await self._ask("Synchronize", request, nri.SynchronizeResponse)
            assert reply.more == more
            for update in reply.update:
                made = self.containers.get(update.container_id)
                if made is not None:
                    self._apply(made.cgroup, update.linux.resources.unified)
        self.lost.clear()
        self.registered.set()

    async def _ask(self, method: str, request: Protobuf, reply: type[P]) -> P:
        self._stream += 2
        future: asyncio.Future[nri.TtrpcResponse] = asyncio.get_running_loop().create_future()
        self._waiting[self._stream] = future
        body = nri.TtrpcRequest(
            service="nri.pkg.api.v1alpha1.Plugin",
            method=method,
            payload=request.SerializeToString(),
        )
        self._send(PLUGIN, Message(self._stream, REQUEST, body.SerializeToString()))
        try:
            answer = await future
        except asyncio.CancelledError as error:
            raise StartError("the plugin has closed the connection") from error
        if answer.status.code:
            raise StartError(answer.status.message)
        return _parsed(reply, answer.payload)

    def _answered(self, message: Message) -> None:
        future = self._waiting.pop(message.stream)
        if not future.done():
            future.set_result(_parsed(nri.TtrpcResponse, message.body))

    def _send(self, connection: int, message: Message) -> None:
        assert self._writer is not None
        data = frame(connection, message)
        # In two writes: a frame may arrive in parts.
        self._writer.write(data[:7])
        self._writer.write(data[7:])

    def _pod(self, pod: tuple[str, str, str]) -> nri.PodSandbox:
        namespace, name, uid = pod
        return nri.PodSandbox(id=uid, name=name, namespace=namespace, uid=uid)

    def _message(self, path: str, made: Made) -> nri.Container:
        return nri.Container(
            id=Path(path).name,
            pod_sandbox_id=made.pod[2],
            name="main",
            state=3,
            annotations=made.annotations,
            mounts=[nri.Mount(destination="/x", source=source) for source in made.sources],
            linux=nri.LinuxContainer(cgroups_path=f"/{path}"),
        )


def _parsed(schema: type[P], data: bytes) -> P:
    found = schema()
    found.ParseFromString(data)
    return found
