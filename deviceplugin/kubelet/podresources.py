"""Which devices pods hold, from the kubelet's PodResources API (v1 List)."""

from collections.abc import Mapping
from pathlib import Path

import grpc
import grpc.aio

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import AdvertisedID, ResourceName
from deviceplugin.pb import podresources_v1_pb2 as podresources

# For each resource the ids that are held, with the NUMA node the kubelet has for them.
Holders = Mapping[ResourceName, Mapping[AdvertisedID, int | None]]

_TIMEOUT_S = 2.0
# A reply about 50,000 devices passes gRPC's default of 4 MiB.
_OPTIONS = (("grpc.max_receive_message_length", 16 * 1024 * 1024),)


class HoldersUnknownError(DevicePluginError):
    """The API is not there or does not answer: nobody can say what pods hold."""


async def read_holders(socket_path: Path) -> Holders:
    """The ids that active pods hold, by resource; running init containers are not in it.

    A channel a call: the socket is made anew with each kubelet. Raises HoldersUnknownError.
    """
    async with grpc.aio.insecure_channel(f"unix:{socket_path}", options=_OPTIONS) as channel:
        call = channel.unary_unary(
            "/v1.PodResourcesLister/List",
            request_serializer=podresources.ListPodResourcesRequest.SerializeToString,
            response_deserializer=podresources.ListPodResourcesResponse.FromString,
        )
        try:
            answer = await call(podresources.ListPodResourcesRequest(), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise HoldersUnknownError(f"{socket_path}: {error.code().name}") from error
    return held_ids(answer)


def held_ids(answer: podresources.ListPodResourcesResponse) -> Holders:
    """The ids in a List answer; a device of several NUMA nodes is in it once for each."""
    held: dict[ResourceName, dict[AdvertisedID, int | None]] = {}
    for pod in answer.pod_resources:
        for container in pod.containers:
            for devices in container.devices:
                node = next((n.ID for n in devices.topology.nodes), None)
                ids = held.setdefault(ResourceName(devices.resource_name), {})
                ids.update((AdvertisedID(device_id), node) for device_id in devices.device_ids)
    return held
