"""The kubelet's DRA side for tests: it finds drivers by their sockets and asks them over gRPC."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
from msgspec import Struct

from deviceplugin.pb import dra_health_v1alpha1_pb2 as healthapi
from deviceplugin.pb import dra_v1_pb2 as draapi
from deviceplugin.pb import pluginregistration_v1_pb2 as registration

# The versions that a kubelet of each minor release speaks, and what they are called on the wire.
KNOWN: Mapping[str, str] = {
    "v1.DRAPlugin": "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin",
    "v1beta1.DRAPlugin": "v1beta1.DRAPlugin",
}
TIMEOUT_S = 45.0


class RefusedError(Exception):
    """The kubelet would not take this driver, or this answer."""


class ClaimName(Struct, frozen=True, kw_only=True):
    """A claim as the kubelet names it."""

    uid: str
    name: str
    namespace: str = "default"


class Driver:
    """A registered driver, over one connection that gRPC makes again by itself."""

    def __init__(self, info: registration.PluginInfo, service: str) -> None:
        self.name, self.service, self.endpoint = info.name, service, info.endpoint
        self.services = tuple(info.supported_versions)
        self._channel = grpc.aio.insecure_channel(f"unix:{info.endpoint}")

    async def prepare(self, *claims: ClaimName) -> Mapping[str, Sequence[draapi.Device]]:
        """The devices by uid; RefusedError with the text for a pod that would not start."""
        request = draapi.NodePrepareResourcesRequest(claims=map(_claim, claims))
        answer: draapi.NodePrepareResourcesResponse = await self._call(
            "NodePrepareResources", request, draapi.NodePrepareResourcesResponse
        )
        _check(claims, answer.claims)
        return {uid: list(one.devices) for uid, one in answer.claims.items()}

    async def unprepare(self, *claims: ClaimName) -> None:
        """RefusedError for a pod that would stay Terminating."""
        request = draapi.NodeUnprepareResourcesRequest(claims=map(_claim, claims))
        answer: draapi.NodeUnprepareResourcesResponse = await self._call(
            "NodeUnprepareResources", request, draapi.NodeUnprepareResourcesResponse
        )
        _check(claims, answer.claims)

    async def health(
        self, service: str = "v1alpha1.DRAResourceHealth"
    ) -> AsyncGenerator[healthapi.NodeWatchResourcesResponse, None]:
        """Each list of the stream."""
        call = self._channel.unary_stream(
            f"/{service}/NodeWatchResources",
            request_serializer=healthapi.NodeWatchResourcesRequest.SerializeToString,
            response_deserializer=healthapi.NodeWatchResourcesResponse.FromString,
        )
        async for response in call(healthapi.NodeWatchResourcesRequest()):
            yield response

    async def close(self) -> None:
        """Let the connection go."""
        await self._channel.close(None)

    async def _call(self, method: str, request: Any, answer: Any) -> Any:  # message types vary
        call = self._channel.unary_unary(
            f"/{self.service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return await call(request, timeout=TIMEOUT_S, wait_for_ready=True)


class DraKubelet:
    """Registers what it finds below `kubelet_dir`; `known` are the services that it speaks."""

    def __init__(self, kubelet_dir: Path, known: Mapping[str, str] = KNOWN) -> None:
        self.registry, self._known = kubelet_dir / "plugins_registry", known

    def sockets(self) -> list[Path]:
        """The registration sockets that are there."""
        return sorted(self.registry.glob("*.sock")) if self.registry.is_dir() else []

    @asynccontextmanager
    async def driver(self, socket: Path) -> AsyncIterator[Driver]:
        """Register the driver of a socket as a kubelet does that starts; RefusedError."""
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            info: registration.PluginInfo = await _ask(
                channel, "GetInfo", registration.InfoRequest(), registration.PluginInfo
            )
            reason = self._problem(info)
            status = registration.RegistrationStatus(plugin_registered=not reason, error=reason)
            answer = registration.RegistrationStatusResponse
            await _ask(channel, "NotifyRegistrationStatus", status, answer)
            if reason:
                raise RefusedError(reason)
        first = next(version for version in info.supported_versions if version in self._known)
        driver = Driver(info, self._known[first])
        try:
            yield driver
        finally:
            await driver.close()

    def _problem(self, info: registration.PluginInfo) -> str:
        if info.type != "DRAPlugin":
            return f"no handler is registered for type {info.type!r}"
        if not info.name or not Path(info.endpoint).is_absolute():
            return f"driver {info.name!r} has no absolute endpoint"
        if not set(info.supported_versions) & self._known.keys():
            return f"none of {list(info.supported_versions)} is a service that is known"
        return ""


async def _ask(channel: grpc.aio.Channel, method: str, request: Any, answer: Any) -> Any:
    call = channel.unary_unary(
        f"/pluginregistration.Registration/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    return await call(request, timeout=TIMEOUT_S)


def _claim(claim: ClaimName) -> draapi.Claim:
    return draapi.Claim(uid=claim.uid, namespace=claim.namespace, name=claim.name)


def _check(claims: Sequence[ClaimName], answers: Mapping[str, Any]) -> None:
    """The kubelet takes answers for exactly the claims that it asked about."""
    asked = {claim.uid for claim in claims}
    if asked != set(answers):
        raise RefusedError(f"asked about {sorted(asked)}, answered {sorted(answers)}")
    errors = [one.error for one in answers.values() if one.error]
    if errors:
        raise RefusedError("; ".join(errors))
