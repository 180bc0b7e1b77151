"""Translation between our values and the v1beta1 messages; the only place that builds them."""

from deviceplugin.model import ContainerEdits, Preference, Resource
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi


def list_message(resource: Resource) -> bytes:
    """The serialised ListAndWatchResponse of a resource, the same bytes for the same content.

    Topology is sent for all devices or for none: one device without a NUMA node makes the
    kubelet's topology manager reject pods under strict policies (kubelet, topology_hints.go).
    """
    topology = all(entry.numa_node is not None for entry in resource.devices)
    message = pluginapi.ListAndWatchResponse()
    for entry in resource.devices:
        device = message.devices.add(ID=entry.id, health=entry.health)
        if topology:
            device.topology.nodes.add(ID=entry.numa_node)
    return message.SerializeToString(deterministic=True)


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


def preference(request: pluginapi.ContainerPreferredAllocationRequest) -> Preference:
    """A request as a value; the order of its ids means nothing."""
    return Preference(
        available=frozenset(request.available_deviceIDs),  # type: ignore[arg-type]  # wire
        must_include=frozenset(request.must_include_deviceIDs),  # type: ignore[arg-type]
        size=max(request.allocation_size, 0),
    )
