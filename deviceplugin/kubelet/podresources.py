"""Which devices pods hold, from the kubelet's PodResources API (v1 List and Get)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from deviceplugin.model import AdvertisedID, ResourceName
from deviceplugin.pb import podresources_v1_pb2 as podresources
from deviceplugin.resources.ledger import Holder, HoldersUnknownError, Holding, PodResourcesReply
from deviceplugin.resources.usage import claim_name

_TIMEOUT_S = 2.0


# A reply about 50,000 devices passes gRPC's default of 4 MiB.
_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.http2.bdp_probe", 0),  # a network's bandwidth is no matter here
)


_SERVICE = "/v1.PodResourcesLister/"


class PodResources:
    """Asks the API at `socket_path` over one channel, which is made again after every failure.

    Each kubelet makes a new socket: call `forget` when it is another one.
    """

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._channel: grpc.aio.Channel | None = None

    async def read_reply(self) -> PodResourcesReply:
        """What active pods hold; what init containers hold while they run is not in it.

        Raises HoldersUnknownError.
        """
        request = podresources.ListPodResourcesRequest()
        pods = (
            await self._ask("List", request, podresources.ListPodResourcesResponse)
        ).pod_resources
        return PodResourcesReply(
            pods=frozenset((pod.namespace, pod.name) for pod in pods),
            holdings=tuple(_holdings(pods)),
            claims=tuple(_claims(pods)),
        )

    async def read_pod(self, namespace: str, pod: str) -> tuple[Holding, ...]:
        """What one pod holds, nothing where the kubelet has no such active pod.

        Raises HoldersUnknownError, also where Get is not served (before Kubernetes 1.34 by
        default).
        """
        request = podresources.GetPodResourcesRequest(pod_name=pod, pod_namespace=namespace)
        try:
            answer = await self._ask("Get", request, podresources.GetPodResourcesResponse)
        except HoldersUnknownError as error:
            if "not found" in str(error):  # code UNKNOWN: the text is all there is
                return ()
            raise
        return tuple(_holdings([answer.pod_resources]))

    async def read_allocatable(self) -> dict[str, int]:
        """How many ids of each resource the kubelet could give, by what it was told last.

        Raises HoldersUnknownError, also where it does not answer (before Kubernetes 1.23).
        """
        request = podresources.AllocatableResourcesRequest()
        answer = await self._ask(
            "GetAllocatableResources", request, podresources.AllocatableResourcesResponse
        )
        found: dict[str, int] = {}
        for devices in answer.devices:  # one entry for each NUMA node
            name = devices.resource_name
            found[name] = found.get(name, 0) + len(devices.device_ids)
        return found

    async def forget(self) -> None:
        """Close the channel; the next question makes another one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)

    async def _ask(self, method: str, request: Any, answer: Any) -> Any:  # message types vary
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(f"unix:{self._path}", options=_OPTIONS)
        call = self._channel.unary_unary(
            f"{_SERVICE}{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=None,  # gRPC gives None for what it cannot parse
        )
        try:
            return answer.FromString(await call(request, timeout=_TIMEOUT_S))
        except grpc.aio.AioRpcError as error:
            await self.forget()
            text = f"{self._path}: {error.code().name}: {error.details()}"
            raise HoldersUnknownError(text) from error
        except DecodeError as error:
            raise HoldersUnknownError(f"{self._path}: {method}: {error}") from error


def _holdings(pods: Iterable[podresources.PodResources]) -> Iterator[Holding]:
    for pod in pods:
        for container in pod.containers:
            holder = Holder(namespace=pod.namespace, pod=pod.name, container=container.name)
            for devices in container.devices:
                node = next((n.ID for n in devices.topology.nodes), None)
                name = ResourceName(devices.resource_name)
                for advertised in map(AdvertisedID, devices.device_ids):
                    yield Holding(resource=name, id=advertised, numa_node=node, holder=holder)


def _claims(pods: Iterable[podresources.PodResources]) -> Iterator[tuple[ResourceName, Holder]]:
    for pod in pods:
        for container in pod.containers:
            for claim in container.dynamic_resources:
                name = claim_name(claim.claim_namespace, claim.claim_name)
                yield (
                    name,
                    Holder(namespace=pod.namespace, pod=pod.name, container=container.name),
                )
