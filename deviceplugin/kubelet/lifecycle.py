"""The life of one resource at the kubelet: serve, register, watch, and all of it again.

The kubelet never dials again (kubernetes#92958): each end of a ListAndWatch stream that we did not
ask for, and each new kubelet, means registering again, with the old stream gone first, because
the end of an old stream takes the new registration of the same name down.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import grpc
import grpc.aio
import structlog

from deviceplugin.errors import RegistrationError
from deviceplugin.kubelet.gate import Gate, inner_socket
from deviceplugin.kubelet.metrics import KubeletMetrics
from deviceplugin.kubelet.plugin import OPTIONS, ResourcePlugin
from deviceplugin.kubelet.socket import KubeletSocket, SocketIdentity, is_listening, read_identity
from deviceplugin.kubelet.starting import remove, started
from deviceplugin.kubelet.turns import Turns
from deviceplugin.model import ResourceName
from deviceplugin.names import short_digest, socket_path_problem
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.runtime.files import own_directory, remove_irregular

log = structlog.get_logger()

DEVICE_PLUGINS = "device-plugins"
# The kubelet wipes sockets at the top level of its directory when it starts, never below it.
OWN_DIRECTORY = "deviceplugin"
REGISTER_S = 12.0  # the kubelet dials back inside Register, for up to 10 s
STREAM_S = 10.0  # a registered kubelet opens its stream within milliseconds
STOP_S = 0.5
PRIVATE_S = 1.0
_RETRY_S, _RETRY_MAX_S = 0.1, 5.0
_LASTING_S = 5.0


def endpoint_of(name: ResourceName) -> str:
    """The socket of a resource, relative to the kubelet's device-plugin directory.

    A name that would pass what the kernel takes for a path (107 bytes) is shortened by a hash.
    """
    file = name.replace("/", "_")
    if len(file) > 50:
        file = f"{file[:33]}-{short_digest(name)}"
    return f"{OWN_DIRECTORY}/{file}.sock"


def check_socket_path(path: Path) -> None:
    """Raise RegistrationError for a path that is too long to be a unix socket."""
    if problem := socket_path_problem(str(path)):
        raise RegistrationError(f"{path}: {problem}")


class Backoff:
    """How long to wait before registering: not at all with a kubelet not tried yet, or after a
    registration that lasted; longer and longer with one that keeps refusing or ending."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._delay_s = 0.0
        self._tried: SocketIdentity | None = None
        self._accepted_s: float | None = None

    def next_s(self, identity: SocketIdentity | None, now_s: float) -> float:
        """Seconds to wait before an attempt with the kubelet `identity`; counts the attempt."""
        lasted = self._accepted_s is not None and now_s - self._accepted_s > _LASTING_S
        if identity != self._tried or lasted:
            self._delay_s = 0.0
        wait_s = self._delay_s * self._random.uniform(0.5, 1.0)
        self._tried, self._accepted_s = identity, None
        self._delay_s = min(max(self._delay_s * 2, _RETRY_S), _RETRY_MAX_S)
        return wait_s

    def accepted(self, now_s: float) -> None:
        """The attempt was accepted."""
        self._accepted_s = now_s


class Endpoint:
    """Serves one resource on its own socket and keeps it registered; `registered` says whether.

    `private` is a directory for the sockets that only the gate reaches.
    """

    private: Path | None = None

    def __init__(
        self,
        plugin: ResourcePlugin,
        kubelet: KubeletSocket,
        metrics: KubeletMetrics,
        seed: int,
        turns: Turns | None = None,
    ) -> None:
        self.plugin, self._turns = plugin, turns or Turns(lambda: ())
        self.registered_with: SocketIdentity | None = None
        self._kubelet, self._metrics = kubelet, metrics
        self._backoff = Backoff(random.Random(f"{seed}{plugin.name}"))  # noqa: S311  # jitter
        self._name = endpoint_of(plugin.name)
        self._path = kubelet.path.parent / self._name
        self._reason = ""
        self.problem = ""  # why it cannot be served at all

    @property
    def ready(self) -> bool:
        """Registered with the kubelet that listens now, which watches our list."""
        current = self._kubelet.listening.value
        return (
            current is not None
            and self.registered_with == current
            and self.plugin.streams.value > 0
        )

    async def run(self) -> None:
        """Serve until cancelled; ends the streams before the server, then removes the socket."""
        check_socket_path(self._path)
        with self._turns.serving(self.plugin.name):
            while True:
                async with self._server():
                    own = read_identity(self._path)
                    while read_identity(self._path) == own and not self.plugin.outgrown:
                        await self._once()

    async def _once(self) -> None:
        """Register with the kubelet that listens, then wait for a reason to do it again."""
        identity = await self._kubelet.listening.until(lambda value: value is not None)
        await asyncio.sleep(self._backoff.next_s(identity, time.monotonic()))
        await self._turns.turn(self.plugin.name, identity)
        if not self._path.exists():
            return
        await self.plugin.end_streams()
        if not await self._register():
            return
        # The one that answered: it may be newer than the one that we set out to. Had it ended
        # since, the end of its stream would say so.
        self.registered_with = read_identity(self._kubelet.path)
        self._turns.registered(self.plugin.name, self.registered_with)
        self._backoff.accepted(time.monotonic())
        try:
            await self._wait_lost(self.registered_with)
        finally:
            self.registered_with = None

    async def _register(self) -> bool:
        try:
            await self._call_register()
        except RegistrationError as error:
            self._metrics.registered(self.plugin.name, accepted=False)
            self._kubelet.check()
            self._log_failure(str(error))
            return False
        self._reason = ""
        self._metrics.registered(self.plugin.name, accepted=True)
        log.info("registered", resource=self.plugin.name, endpoint=self._name)
        return True

    def _log_failure(self, reason: str) -> None:
        """Each reason once: it is tried again every few seconds. A kubelet that is gone has said
        so itself."""
        gone = self._kubelet.listening.value is None
        write = log.debug if gone or reason == self._reason else log.warning
        write("not_registered", resource=self.plugin.name, reason=reason)
        self._reason = self._reason if gone else reason

    async def _call_register(self) -> None:
        """One Register call on a channel of its own: an old channel waits out its backoff."""
        request = pluginapi.RegisterRequest(
            version="v1beta1",
            endpoint=self._name,
            resource_name=self.plugin.name,
            options=OPTIONS,
        )
        async with grpc.aio.insecure_channel(f"unix:{self._kubelet.path}") as channel:
            register = channel.unary_unary(
                "/v1beta1.Registration/Register",
                request_serializer=pluginapi.RegisterRequest.SerializeToString,
                response_deserializer=pluginapi.Empty.FromString,
            )
            try:
                await register(request, timeout=REGISTER_S)
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
                raise RegistrationError(reason) from error

    async def _wait_lost(self, identity: SocketIdentity | None) -> None:
        """Until the stream ended unasked, never came, or another kubelet listens."""
        lost = self.plugin.lost
        other = self._kubelet.listening.until(lambda value: value not in (None, identity))
        waits = [asyncio.ensure_future(w) for w in (lost.wait(), other, self._never_watched())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._kubelet.check()
        same = identity is not None and self._kubelet.listening.value == identity
        write = log.info if same else log.debug
        write("registration_lost", resource=self.plugin.name, stream_ended=lost.is_set())

    async def _never_watched(self) -> None:
        """Return when the kubelet has opened no stream for STREAM_S, never once it has."""
        try:
            async with asyncio.timeout(STREAM_S):
                await self.plugin.streams.until(lambda count: count > 0)
        except TimeoutError:
            return
        await asyncio.Future()

    def _check_place(self) -> None:
        self.problem = _place_problem(self._path)
        if self.problem:
            raise RegistrationError(self.problem)

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[None]:
        self._check_place()
        if is_listening(self._path):
            raise RegistrationError(f"{self._path}: another process listens on it")
        inner, message_bytes = await self._inner(), self.plugin.begin()
        gate = Gate(self._path, inner, message_bytes).open() if inner else nullcontext()
        async with gate, self._grpc(inner or self._path, message_bytes):
            yield

    async def _inner(self) -> Path | None:
        """Where gRPC listens behind a gate. Without such a place it listens itself: its own limits
        are then all that there is, and no resource is lost by it."""
        if self.private is None:
            return None
        find = asyncio.to_thread(inner_socket, self.private, self._path.name)
        try:
            async with asyncio.timeout(PRIVATE_S):
                return await find
        except (OSError, TimeoutError) as error:
            reason = str(error) or f"{self.private} does not answer"
            log.warning("no_gate", resource=self.plugin.name, reason=reason)
            return None

    @asynccontextmanager
    async def _grpc(self, path: Path, message_bytes: int) -> AsyncIterator[None]:
        server = await started(path, [self.plugin.handler()], message_bytes)
        try:
            yield
        finally:
            await self.plugin.end_streams()
            await server.stop(STOP_S)
            remove(path)


def _place_problem(path: Path) -> str:
    """Why our socket cannot be at `path`, empty where it can: whoever can write where our sockets
    are can put his own in their place."""
    try:
        own_directory(path.parent)
    except OSError as error:
        return f"{error.filename or path.parent}: {error.strerror}"
    try:
        remove_irregular(path)
    except OSError as error:
        return f"{path}: cannot be bound ({error.strerror})"
    return ""
