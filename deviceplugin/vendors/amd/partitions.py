"""Compute partitions of one GPU (MI300 family): which of them live, and what each is.

Partition 0 uses the PCI device's own DRM nodes, the others those of platform devices named
`amdgpu_xcp_N`, or `amdgpu_xcp.N` on the first kernels that had them. Every GPU owns such devices in
every mode, so only KFD shows which are in use: those whose render minor is that of a KFD node.
"""

import re

from msgspec import Struct

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.drm import DrmNodes, read_drm_nodes, render_device, render_node
from deviceplugin.host.kfd import TOPOLOGY
from deviceplugin.model import Device, DeviceID, Fault, ResourceName, frozen
from deviceplugin.vendors.amd import faults
from deviceplugin.vendors.amd.found import (
    WHOLE,
    Found,
    found,
    known,
    merged,
    node_attributes,
    size_of,
)
from deviceplugin.vendors.amd.gpus import (
    PARTITION_COUNTS,
    AmdGpu,
    container_nodes,
    missing_node,
)
from deviceplugin.vendors.amd.kfd import KfdNode, Topology
from deviceplugin.vendors.amd.models import model_of
from deviceplugin.vendors.amd.settings import DOMAIN, Settings

_INHERITED = frozenset({"driver", "unique_id", "compute_partition", "memory_partition"})
_XCP = re.compile(r"amdgpu_xcp[._][0-9]+")


class Divided(Struct, frozen=True, kw_only=True):
    """A GPU whose mode makes partitions of it, the device made of it, and whether the partitions
    are advertised: they are not while virtual functions of the GPU are."""

    gpu: AmdGpu
    parent: Device
    advertised: bool = True


def read_partitions(host: Host, settings: Settings, whole: Divided, topology: Topology) -> Found:
    """The live partitions of a GPU in index order, and a fault of the GPU for missing ones."""
    address = whole.gpu.function.address
    by_number = {n.function: n for n in topology.nodes if n.sits_at(address)}
    nodes = [by_number[number] for number in sorted(by_number)]
    parts = [_read_partition(host, settings, whole, node) for node in nodes]
    if fault := _missing(whole.gpu, whole.parent.id, nodes, topology):
        parts.append(Found(faults=(fault,)))
    return merged(parts)


def partition_profile(gpu: AmdGpu) -> str | None:
    """`cpx_nps4`, None where one of the two modes is unknown."""
    if gpu.compute_mode is None or gpu.memory_mode is None:
        return None
    return f"{gpu.compute_mode}_{gpu.memory_mode}".lower()


def partition_count(gpu: AmdGpu) -> int | None:
    """How many partitions the mode makes, None for CPX on a model that is not listed."""
    model = model_of(gpu.function.device_id)
    dies = model.compute_dies if model else None
    return dies if gpu.compute_mode == "CPX" else PARTITION_COUNTS.get(gpu.compute_mode or "")


def _missing(
    gpu: AmdGpu, parent: DeviceID, nodes: list[KfdNode], topology: Topology
) -> Fault | None:
    if not nodes:
        return faults.without_kfd(parent, topology)
    count = partition_count(gpu)
    live = {node.function for node in nodes}
    gone = [str(number) for number in range(count or 0) if number not in live]
    if not gone:
        return None
    reason = f"{len(live)} of {count} partitions live, without {', '.join(gone)}: "
    if topology.problems:
        return faults.without_kfd(parent, topology, reason)
    return faults.partitions_missing(parent, reason + topology.why_missing)


def _read_partition(host: Host, settings: Settings, whole: Divided, node: KfdNode) -> Found:
    device = DeviceID(f"{whole.parent.id}-p{node.function}")
    try:
        drm = _read_drm(host, whole.gpu, node)
    except DiscoveryError as error:
        return found(_part(whole, node), faults.unreadable(device, error))
    name = _resource(settings, partition_profile(whole.gpu))
    if reason := _unsettled(whole.gpu, name, node):
        return found(_part(whole, node), faults.unsettled(device, reason))
    nodes = container_nodes(host, drm, settings.amd)
    part = _part(whole, node, name if whole.advertised else None, nodes)
    if missing := missing_node(host, drm, in_kfd=True):
        return found(part, faults.missing_node(device, missing), node=node)
    return found(part, node=node)


def _unsettled(gpu: AmdGpu, name: ResourceName | None, node: KfdNode) -> str | None:
    """Why it is unclear what a partition is or how to name it; None where it is clear."""
    if gpu.compute_mode == "CPX" and (node.dies or 1) > 1:
        return f"{TOPOLOGY}/nodes/{node.number}/properties: num_xcc {node.dies} in mode CPX"
    if name is None:
        return f"{gpu.function.path}/current_memory_partition: holds no memory mode"
    return None


def _read_drm(host: Host, gpu: AmdGpu, node: KfdNode) -> DrmNodes:
    """The nodes of the device that owns the render minor, which must be ours or a platform
    device: a minor that another PCI device owns means that KFD and DRM disagree."""
    path = render_device(node.render_minor)
    owner = host.read_link_name(path)
    if owner is None:
        return DrmNodes(render=render_node(node.render_minor))
    if owner != gpu.function.address and not _XCP.fullmatch(owner):
        raise DiscoveryError(f"{path}: is {owner}, expected {gpu.function.address} or amdgpu_xcp")
    return read_drm_nodes(host, path)


def _part(
    whole: Divided,
    node: KfdNode,
    resource: ResourceName | None = None,
    nodes: tuple[str, ...] = (),
) -> Device:
    gpu, parent = whole.gpu, whole.parent
    memory, source = _memory(gpu, node)
    return Device(
        id=DeviceID(f"{parent.id}-p{node.function}"),
        vendor=parent.vendor,
        product=parent.product,
        resource=resource,
        index=node.function,
        parent=parent.id,
        profile=partition_profile(gpu),
        pci_address=parent.pci_address,
        numa_node=parent.numa_node,
        memory_bytes=memory,
        nodes=nodes,
        attributes=frozen(
            {k: v for k, v in parent.attributes.items() if k in _INHERITED}
            | node_attributes(node)
            | known(size_class=size_of(memory), memory_source=source)
        ),
        ordinal=f"{parent.index}:{node.function}",
        driver=parent.driver,
        architecture=node.gfx_version,
    )


def _resource(settings: Settings, profile: str | None) -> ResourceName | None:
    if settings.amd.resource_naming == "single":
        return WHOLE
    return ResourceName(f"{DOMAIN}/{profile}") if profile else None


def _memory(gpu: AmdGpu, node: KfdNode) -> tuple[int | None, str | None]:
    """KFD's own number, else an equal share of the whole."""
    if node.memory_bytes:
        return node.memory_bytes, "kfd"
    count = partition_count(gpu)
    if gpu.memory_bytes is None or not count:
        return None, None
    return gpu.memory_bytes // count, f"mem_info_vram_total/{count}"
