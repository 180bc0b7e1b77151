"""Translation between our values and the v1beta1 messages; the only place that builds them."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from msgspec import Struct

from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Health,
    Preference,
    Resource,
)
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.resources.large import LargeQuestion

PART = 512  # ids
ONE_BYTE = 127  # the largest length that protobuf writes as one byte
LARGE_BYTES = 32 * 1024  # about a thousand ids


class EncodedList(Struct, frozen=True, kw_only=True):
    """A list as it is sent, and its parts with where each ends; `topology` says whether NUMA nodes
    are in it."""

    message: bytes = b""
    parts: tuple[tuple[AdvertisedDevice, ...], ...] = ()
    ends: tuple[int, ...] = ()
    topology: bool = True

    def part(self, number: int, entries: tuple[AdvertisedDevice, ...]) -> memoryview | None:
        """The bytes of the part with this number, None where it has not these entries."""
        if number >= len(self.parts) or self.parts[number] != entries:
            return None
        start = self.ends[number - 1] if number else 0
        return memoryview(self.message)[start : self.ends[number]]


NO_LIST = EncodedList()


def encoded_list(resource: Resource, before: EncodedList = NO_LIST) -> EncodedList:
    """The serialised ListAndWatchResponse of a resource, the same bytes for the same content; what
    it has in common with `before` is taken over.

    Topology is sent for all devices or for none: one device without a NUMA node makes the
    kubelet's topology manager reject pods under strict policies (kubelet, topology_hints.go).
    """
    devices = resource.devices
    topology = None not in {entry.numa_node for entry in devices}
    known = before if before.topology == topology else NO_LIST
    parts = tuple(devices[at : at + PART] for at in range(0, len(devices), PART))
    encoded = [
        known.part(number, part) or _encoded(part, topology=topology)
        for number, part in enumerate(parts)
    ]
    return EncodedList(
        message=b"".join(encoded),  # messages one after the other are one with all their items
        parts=parts,
        ends=tuple(accumulate(map(len, encoded))),
        topology=topology,
    )


def _encoded(entries: Sequence[AdvertisedDevice], *, topology: bool) -> bytes:
    """By hand, in a fifth of the time that generated messages take: an entry is field 1 of the
    response and its ID field 1 of it; what follows is the same for many."""
    ends: dict[tuple[Health, int | None], bytes] = {}
    parts = []
    for entry in entries:
        key = (entry.health, entry.numa_node if topology else None)
        end = ends.get(key) or ends.setdefault(key, _end(*key))
        device_id = entry.id.encode()
        size = 2 + len(device_id) + len(end)
        if size > ONE_BYTE:
            device = pluginapi.Device.FromString(end)
            device.ID = entry.id
            parts.append(pluginapi.ListAndWatchResponse(devices=[device]).SerializeToString())
        else:
            parts.append(b"\n%c\n%c%b%b" % (size, len(device_id), device_id, end))
    return b"".join(parts)


def _end(health: Health, numa_node: int | None) -> bytes:
    """An entry without its ID."""
    device = pluginapi.Device(health=health)
    if numa_node is not None:
        device.topology.nodes.add(ID=numa_node)
    return device.SerializeToString(deterministic=True)


def container_response(edits: ContainerEdits) -> pluginapi.ContainerAllocateResponse:
    """What one container gets; hooks exist in CDI files only."""
    return pluginapi.ContainerAllocateResponse(
        envs=edits.env,
        mounts=[
            pluginapi.Mount(container_path=m.path, host_path=m.host_path, read_only=m.read_only)
            for m in edits.mounts
        ],
        devices=[
            pluginapi.DeviceSpec(
                container_path=n.path, host_path=n.host_path, permissions=n.permissions
            )
            for n in edits.device_nodes
        ],
        annotations=edits.annotations,
        cdi_devices=[pluginapi.CDIDevice(name=name) for name in edits.cdi_devices],
    )


def allocate_response(edits: ContainerEdits) -> bytes:
    """The serialised AllocateResponse for one container, the same bytes for the same content."""
    message = pluginapi.AllocateResponse(container_responses=[container_response(edits)])
    return message.SerializeToString(deterministic=True)


def preferred_response(answers: Iterable[Sequence[AdvertisedID]]) -> bytes:
    """The serialised PreferredAllocationResponse with an answer for each container."""
    response = pluginapi.PreferredAllocationResponse()
    for ids in answers:
        response.container_responses.add(deviceIDs=ids)
    return response.SerializeToString()


def preference(request: pluginapi.ContainerPreferredAllocationRequest) -> Preference:
    """A request as a value; the order of its ids means nothing."""
    return Preference(
        available=frozenset(request.available_deviceIDs),  # type: ignore[arg-type]  # wire
        must_include=frozenset(request.must_include_deviceIDs),  # type: ignore[arg-type]
        size=max(request.allocation_size, 0),
    )


def large_question(
    data: bytes, request: pluginapi.PreferredAllocationRequest
) -> LargeQuestion | None:
    """`request`, whose bytes are `data`, without its ids read; None for what is small, or encoded
    in another order than by field numbers, as the kubelet does it."""
    if len(data) < LARGE_BYTES or len(request.container_requests) != 1:
        return None
    (container,) = request.container_requests
    rest = pluginapi.ContainerPreferredAllocationRequest(
        must_include_deviceIDs=container.must_include_deviceIDs,
        allocation_size=container.allocation_size,
    ).SerializeToString()
    start = _body_at(data)
    if start is None or not data.endswith(rest):
        return None
    return LargeQuestion(
        available=data[start : len(data) - len(rest)],
        count=len(container.available_deviceIDs),
        must_include=frozenset(container.must_include_deviceIDs),  # type: ignore[arg-type]
        size=container.allocation_size,
    )


def _body_at(data: bytes) -> int | None:
    """Where the only container's request begins: after its tag (field 1) and its length, a number
    in groups of seven bits. None where it is not all that there is."""
    length, at = 0, 1
    while at < 6:
        length |= (data[at] & 0x7F) << 7 * (at - 1)
        at += 1
        if data[at - 1] < 0x80:
            break
    return at if data[0] == 0x0A and at + length == len(data) else None
