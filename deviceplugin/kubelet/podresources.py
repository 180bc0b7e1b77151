"""Which devices pods hold, from the kubelet's PodResources API (v1 List and Get)."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import AdvertisedID, ResourceName
from deviceplugin.pb import podresources_v1_pb2 as podresources

# For each resource the ids that are held, with the NUMA node the kubelet has for them.
Holders = Mapping[ResourceName, Mapping[AdvertisedID, int | None]]

_TIMEOUT_S = 2.0
# A reply about 50,000 devices passes gRPC's default of 4 MiB.
_OPTIONS = (("grpc.max_receive_message_length", 16 * 1024 * 1024),)
_SERVICE = "/v1.PodResourcesLister/"


class HoldersUnknownError(DevicePluginError):
    """The API is not there or does not answer: nobody can say what pods hold."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Holder:
    """The container that holds a device."""

    namespace: str
    pod: str
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A device that a container holds; a device of several NUMA nodes has one for each."""

    resource: ResourceName
    id: AdvertisedID
    numa_node: int | None
    holder: Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All active pods (namespace, name), and what their containers hold."""

    pods: frozenset[tuple[str, str]]
    holdings: tuple[Holding, ...]


async def read_answer(socket_path: Path) -> Answer:
    """What active pods hold; what init containers hold while they run is not in it.

    A channel a call: the socket is made anew with each kubelet. Raises HoldersUnknownError.
    """
    request = podresources.ListPodResourcesRequest()
    async with _calling(socket_path, "List") as call:
        answer = podresources.ListPodResourcesResponse.FromString(
            await call(request, timeout=_TIMEOUT_S)
        )
    return Answer(
        pods=frozenset((pod.namespace, pod.name) for pod in answer.pod_resources),
        holdings=tuple(_holdings(answer.pod_resources)),
    )


async def read_pod(socket_path: Path, namespace: str, pod: str) -> tuple[Holding, ...]:
    """What one pod holds, nothing where the kubelet has no such active pod.

    Raises HoldersUnknownError, also where Get is not served (before Kubernetes 1.34 by default).
    """
    request = podresources.GetPodResourcesRequest(pod_name=pod, pod_namespace=namespace)
    try:
        async with _calling(socket_path, "Get") as call:
            answer = podresources.GetPodResourcesResponse.FromString(
                await call(request, timeout=_TIMEOUT_S)
            )
    except HoldersUnknownError as error:
        if "not found" in str(error):  # code UNKNOWN: the text is all there is
            return ()
        raise
    return tuple(_holdings([answer.pod_resources]))


@asynccontextmanager
async def _calling(socket_path: Path, method: str) -> Any:
    """A call whose answer is bytes, to be parsed inside: gRPC answers None for what it cannot
    parse, and logs a traceback."""
    async with grpc.aio.insecure_channel(f"unix:{socket_path}", options=_OPTIONS) as channel:
        call = channel.unary_unary(
            f"{_SERVICE}{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=None,
        )
        try:
            yield call
        except grpc.aio.AioRpcError as error:
            text = f"{socket_path}: {error.code().name}: {error.details()}"
            raise HoldersUnknownError(text) from error
        except DecodeError as error:
            raise HoldersUnknownError(f"{socket_path}: {method}: {error}") from error


def by_resource(holdings: Iterable[Holding]) -> Holders:
    """The ids of holdings, by resource."""
    held: dict[ResourceName, dict[AdvertisedID, int | None]] = {}
    for holding in holdings:
        held.setdefault(holding.resource, {})[holding.id] = holding.numa_node
    return held


def _holdings(pods: Iterable[podresources.PodResources]) -> Iterator[Holding]:
    for pod in pods:
        for container in pod.containers:
            holder = Holder(namespace=pod.namespace, pod=pod.name, container=container.name)
            for devices in container.devices:
                node = next((n.ID for n in devices.topology.nodes), None)
                name = ResourceName(devices.resource_name)
                for advertised in map(AdvertisedID, devices.device_ids):
                    yield Holding(resource=name, id=advertised, numa_node=node, holder=holder)
