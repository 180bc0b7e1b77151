"""The kubelet's PodResources v1 service over the stub's state, with knobs to make it fail."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
from msgspec import Struct, field

from deviceplugin.pb import podresources_v1_pb2 as podapi
from deviceplugin.testing.admission import Admissions
from deviceplugin.testing.devicemanager import DeviceManager
from deviceplugin.testing.pods import Kind, Pod
from deviceplugin.testing.stalesocket import Handler


class PodResourcesKnobs(Struct, kw_only=True):
    """How the service misbehaves: seconds before each answer; RESOURCE_EXHAUSTED to every call.

    `claims` are what the containers of a pod ("namespace/name") use besides their devices:
    namespace and name of each.
    """

    delay_s: float = 0.0
    exhausted: bool = False
    claims: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)


class PodResourcesService:
    """List, Get and GetAllocatableResources; one ContainerDevices per device and NUMA node."""

    def __init__(
        self, manager: DeviceManager, admissions: Admissions, knobs: PodResourcesKnobs
    ) -> None:
        self.calls = 0
        self.lists_at_s: list[float] = []
        self._manager = manager
        self._admissions = admissions
        self._knobs = knobs

    def handler(self) -> Handler:
        """The gRPC service to add to a server."""
        methods: dict[str, tuple[Any, Any]] = {  # Any: each its own message types
            "List": (self._list, podapi.ListPodResourcesRequest),
            "Get": (self._one, podapi.GetPodResourcesRequest),
            "GetAllocatableResources": (self._allocatable, podapi.AllocatableResourcesRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                behaviour,
                request_deserializer=request.FromString,
                response_serializer=_serialize,
            )
            for name, (behaviour, request) in methods.items()
        }
        return grpc.method_handlers_generic_handler("v1.PodResourcesLister", handlers)

    # Any: the handlers' context type is generic over request and response, used for abort only
    async def _list(
        self, _request: podapi.ListPodResourcesRequest, context: Any
    ) -> podapi.ListPodResourcesResponse:
        self.lists_at_s.append(self._manager.clock())
        await self._misbehave(context)
        self._admissions.drop_inactive()
        pods = (self._admissions.pods[key] for key in sorted(self._admissions.listed))
        return podapi.ListPodResourcesResponse(pod_resources=map(self._pod, pods))

    async def _one(
        self, request: podapi.GetPodResourcesRequest, context: Any
    ) -> podapi.GetPodResourcesResponse:
        await self._misbehave(context)
        key = f"{request.pod_namespace}/{request.pod_name}"
        if key not in self._admissions.listed:
            text = f"pod {request.pod_name} in namespace {request.pod_namespace} not found"
            await context.abort(grpc.StatusCode.UNKNOWN, text)
        return podapi.GetPodResourcesResponse(pod_resources=self._pod(self._admissions.pods[key]))

    async def _allocatable(
        self, _request: podapi.AllocatableResourcesRequest, context: Any
    ) -> podapi.AllocatableResourcesResponse:
        await self._misbehave(context)
        return podapi.AllocatableResourcesResponse(devices=self._healthy())

    async def _misbehave(self, context: Any) -> None:
        self.calls += 1
        if self._knobs.delay_s:
            await asyncio.sleep(self._knobs.delay_s)
        if self._knobs.exhausted:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected by rate limit")

    def _pod(self, pod: Pod) -> podapi.PodResources:
        claims = [
            podapi.DynamicResource(claim_namespace=namespace, claim_name=name)
            for namespace, name in self._knobs.claims.get(pod.key, ())
        ]
        containers = [
            podapi.ContainerResources(
                name=name, devices=self._held(pod.key, name), dynamic_resources=claims
            )
            for kind, name, _ in pod.steps()
            if kind is not Kind.INIT
        ]
        return podapi.PodResources(name=pod.name, namespace=pod.namespace, containers=containers)

    def _held(self, pod: str, container: str) -> Iterator[podapi.ContainerDevices]:
        holdings = sorted(self._manager.holders_of(pod, container), key=lambda pair: pair[0])
        for resource, holding in holdings:
            for device, node in holding.devices:
                yield _entry(resource, device, node)

    def _healthy(self) -> Iterator[podapi.ContainerDevices]:
        for resource, ids in sorted(self._manager.healthy.items()):
            for name in sorted(ids):
                yield from _entries(
                    resource, name, self._manager.devices[resource][name].numa_nodes
                )


def _entries(
    resource: str, device: str, nodes: Iterable[int] | None
) -> Iterator[podapi.ContainerDevices]:
    """One entry per node; an empty TopologyInfo hides the device, an unset one does not."""
    for node in (None,) if nodes is None else nodes:
        yield _entry(resource, device, node)


def _entry(resource: str, device: str, node: int | None) -> podapi.ContainerDevices:
    entry = podapi.ContainerDevices(resource_name=resource, device_ids=[device])
    if node is not None:
        entry.topology.nodes.add(ID=node)
    return entry


def _serialize(message: Any) -> bytes:  # Any: protobuf messages share no typed base here
    data: bytes = message.SerializeToString()
    return data
