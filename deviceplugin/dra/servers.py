"""The two sockets of a driver: one on which the kubelet finds it, one on which it is asked.

The kubelet watches its directory of registrations, asks what serves there, and keeps a connection
that it makes again by itself: nothing has to be registered a second time while both sockets stay.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from msgspec import Struct

from deviceplugin.dra.claims import ClaimError, ClaimRef
from deviceplugin.dra.prepare import Claims
from deviceplugin.dra.surroundings import PreparedDevice
from deviceplugin.errors import DevicePluginError, RegistrationError
from deviceplugin.kubelet.limits import MIN_MESSAGE_BYTES
from deviceplugin.kubelet.socket import is_listening, read_identity
from deviceplugin.kubelet.starting import Handler, remove, started
from deviceplugin.names import one_line, short_digest, socket_path_problem
from deviceplugin.pb import dra_health_v1alpha1_pb2 as healthapi
from deviceplugin.pb import dra_v1_pb2 as draapi
from deviceplugin.pb import pluginregistration_v1_pb2 as registration
from deviceplugin.runtime.files import own_directory, remove_irregular

log = structlog.get_logger()

# The first that a kubelet knows is the one that it uses.
SERVICES = (
    "v1.DRAPlugin",
    "v1beta1.DRAPlugin",
    "v1.DRAResourceHealth",
    "v1alpha1.DRAResourceHealth",
)
_DRA = ("k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin", "v1beta1.DRAPlugin")
_HEALTH = ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
SERVING = "dra.sock"
DEADLINE_S = 40.0  # the kubelet waits for 45 s
LOOK_S = 2.0
HealthLists = Callable[[], AsyncIterator[healthapi.NodeWatchResourcesResponse]]


class Sockets(Struct, frozen=True):
    """Where a driver serves and where it is found."""

    serving: Path
    registration: Path


def sockets_of(kubelet_dir: Path, driver: str) -> Sockets:
    """The sockets of a driver, with a digest for a name that makes a path too long.

    Raises RegistrationError where even that does not fit.
    """
    found = kubelet_dir / "plugins_registry" / f"{driver}-reg.sock"
    if socket_path_problem(str(found)):
        found = found.with_name(f"dra-{short_digest(driver)}-reg.sock")
    serving = kubelet_dir / "plugins" / driver / SERVING
    if socket_path_problem(str(serving)):
        serving = kubelet_dir / "plugins" / short_digest(driver) / SERVING
    for path in (found, serving):
        if problem := socket_path_problem(str(path)):
            raise RegistrationError(f"{path}: {problem}")
    return Sockets(serving, found)


class DriverServers:
    """Serves one driver; `registered` is called each time the kubelet has taken it."""

    def __init__(
        self,
        driver: str,
        sockets: Sockets,
        claims: Claims,
        health: HealthLists,
        registered: Callable[[], None],
    ) -> None:
        self._driver, self._sockets, self._claims = driver, sockets, claims
        self._health, self._registered = health, registered
        self.problem = f"driver {driver} is not registered"

    async def run(self) -> None:
        """Serve until cancelled, or until a socket is not ours any more: then it is to be called
        again. Raises RegistrationError where another process serves the driver."""
        paths = (self._sockets.serving, self._sockets.registration)
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(_serving(paths[0], self._handlers()))
                await stack.enter_async_context(_serving(paths[1], [self._registration()]))
                ours = [read_identity(path) for path in paths]
                while [read_identity(path) for path in paths] == ours:  # noqa: ASYNC110  # files
                    await asyncio.sleep(LOOK_S)
        finally:
            self.problem = f"driver {self._driver} is not registered"

    def _handlers(self) -> Iterable[Handler]:
        dra = {
            "NodePrepareResources": _unary(self._prepare, draapi.NodePrepareResourcesRequest),
            "NodeUnprepareResources": _unary(self._unprepare, draapi.NodeUnprepareResourcesRequest),
        }
        watch = grpc.unary_stream_rpc_method_handler(
            self._watch_health,
            request_deserializer=healthapi.NodeWatchResourcesRequest.FromString,
            response_serializer=_serialize,
        )
        yield from (grpc.method_handlers_generic_handler(name, dra) for name in _DRA)
        for name in _HEALTH:
            yield grpc.method_handlers_generic_handler(name, {"NodeWatchResources": watch})

    def _registration(self) -> Handler:
        methods = {
            "GetInfo": _unary(self._info, registration.InfoRequest),
            "NotifyRegistrationStatus": _unary(self._status, registration.RegistrationStatus),
        }
        return grpc.method_handlers_generic_handler("pluginregistration.Registration", methods)

    async def _info(self, _request: object, _context: object) -> registration.PluginInfo:
        return registration.PluginInfo(
            type="DRAPlugin",
            name=self._driver,
            endpoint=str(self._sockets.serving),
            supported_versions=SERVICES,
        )

    async def _status(
        self, status: registration.RegistrationStatus, _context: object
    ) -> registration.RegistrationStatusResponse:
        if status.plugin_registered:
            self.problem = ""
            log.info("dra_registered", driver=self._driver)
            self._registered()
        else:
            reason = one_line(status.error)
            self.problem = f"the kubelet refused driver {self._driver}: {reason}"
            log.warning("dra_not_registered", driver=self._driver, reason=reason)
        return registration.RegistrationStatusResponse()

    async def _prepare(
        self, request: draapi.NodePrepareResourcesRequest, _context: object
    ) -> draapi.NodePrepareResourcesResponse:
        response = draapi.NodePrepareResourcesResponse()
        for claim in request.claims:
            ref = ClaimRef(uid=claim.uid, namespace=claim.namespace, name=claim.name)
            answer = response.claims[claim.uid]
            devices, answer.error = await _answered(ref, self._claims.prepare(ref), ())
            answer.devices.extend(map(_device, devices))
            if answer.error:
                self._claims.refused(ref, answer.error)
        return response

    async def _unprepare(
        self, request: draapi.NodeUnprepareResourcesRequest, _context: object
    ) -> draapi.NodeUnprepareResourcesResponse:
        response = draapi.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            ref = ClaimRef(uid=claim.uid, namespace=claim.namespace, name=claim.name)
            _, error = await _answered(ref, self._claims.unprepare(ref), None)
            response.claims[claim.uid].error = error
        return response

    async def _watch_health(
        self, _request: object, _context: object
    ) -> AsyncIterator[healthapi.NodeWatchResourcesResponse]:
        async for response in self._health():
            yield response


async def _answered(ref: ClaimRef, work: Coroutine[Any, Any, Any], nothing: Any) -> tuple[Any, str]:
    """The result and no text, or `nothing` and one line on why; Any: each call's own.

    Work goes on when the kubelet does not wait for it any more: what is begun comes to its end,
    and the next call finds it done.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.shield(task), ""
    except TimeoutError:
        reason = f"claim {ref.text}: not within {DEADLINE_S:g} s; it is tried again"
    except ClaimError as error:
        reason = str(error)
    except DevicePluginError as error:
        reason = f"claim {ref.text}: {error}"
    log.warning("dra_claim_refused", claim=one_line(ref.text), uid=one_line(ref.uid), reason=reason)
    return nothing, reason


def _device(device: PreparedDevice) -> draapi.Device:
    return draapi.Device(
        request_names=[device.request.partition("/")[0]],
        pool_name=device.pool,
        device_name=device.name,
        cdi_device_ids=[device.cdi_id],
        share_id=device.share_id,
    )


@asynccontextmanager
async def _serving(path: Path, handlers: Iterable[Handler]) -> AsyncIterator[None]:
    """A server on the socket, which nobody else listens on; removed at the end."""
    _make_place(path)
    if is_listening(path):
        raise RegistrationError(f"{path}: another process serves this driver on the node")
    server = await started(path, handlers, MIN_MESSAGE_BYTES)
    own = read_identity(path)
    try:
        yield
    finally:
        await server.stop(None)
        if read_identity(path) == own:
            remove(path)


def _make_place(path: Path) -> None:
    """The directory of registrations is the kubelet's, that of a driver is ours."""
    try:
        if path.name == SERVING:
            own_directory(path.parent)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        remove_irregular(path)
    except OSError as error:
        raise RegistrationError(f"{error.filename or path}: {error.strerror}") from error


def _unary(behaviour: Callable[..., Awaitable[Any]], request: Any) -> Any:  # message types vary
    return grpc.unary_unary_rpc_method_handler(
        behaviour, request_deserializer=request.FromString, response_serializer=_serialize
    )


def _serialize(message: Any) -> bytes:  # Any: protobuf messages share no typed base here
    data: bytes = message.SerializeToString()
    return data
