"""Physical GPUs: whole, partitioned, or kept for virtual functions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import PciFunction
from deviceplugin.model import Device, DeviceID, frozen
from deviceplugin.vendors.amd import faults
from deviceplugin.vendors.amd.found import (
    NAME,
    WHOLE,
    Finding,
    known,
    merged,
    node_attributes,
    offered,
    size_of,
    withheld,
)
from deviceplugin.vendors.amd.gpus import (
    AMDGPU,
    Gpu,
    container_nodes,
    missing_render_node,
    read_gpu,
)
from deviceplugin.vendors.amd.kfd import KfdNode, Topology
from deviceplugin.vendors.amd.models import product_of
from deviceplugin.vendors.amd.partitions import read_partitions
from deviceplugin.vendors.amd.settings import Settings


def read_physical(
    host: Host, settings: Settings, functions: Sequence[PciFunction], topology: Topology
) -> Finding:
    """Every physical function as a device, its partitions after it, in address order."""
    others: list[Finding] = []
    gpus: list[tuple[int, Gpu]] = []
    for index, function in enumerate(functions):
        if function.driver != AMDGPU:
            others.append(_without_amdgpu(function, index))
            continue
        try:
            gpus.append((index, read_gpu(host, function)))
        except DiscoveryError as error:
            device = bare_device(function, index)
            others.append(withheld(device, faults.unreadable(device.id, error)))
    minors = [gpu.nodes.render_minor for _, gpu in gpus]
    found = [
        _read_one(host, settings, numbered, _left_for(numbered[1], topology, minors))
        for numbered in _distinct(gpus)
    ]
    return merged([*found, *others])


def _left_for(gpu: Gpu, topology: Topology, minors: Sequence[int | None]) -> Topology:
    """The topology without other GPUs' own nodes: a guest may see two GPUs as two functions of
    one slot, where `location_id` alone would make them partitions of each other."""
    others = set(minors) - {gpu.nodes.render_minor}
    return topology.without_nodes([n.number for n in topology.nodes if n.render_minor in others])


def _distinct(gpus: Sequence[tuple[int, Gpu]]) -> list[tuple[int, Gpu]]:
    """An id that two GPUs claim identifies neither of them."""
    seen = Counter(gpu.unique_id for _, gpu in gpus)
    return [(i, g if seen[g.unique_id] == 1 else replace(g, unique_id=None)) for i, g in gpus]


def bare_device(function: PciFunction, index: int) -> Device:
    """A function that is known by its address alone, and not offered."""
    return Device(
        id=DeviceID(function.address),
        vendor=NAME,
        product=product_of(function.device_id),
        index=index,
        pci_address=function.address,
        numa_node=function.numa_node,
        attributes=frozen(known(driver=function.driver)),
    )


def _without_amdgpu(function: PciFunction, index: int) -> Finding:
    """A GPU under another driver (gim, vfio-pci) is somebody's intention, an unbound one may not
    be."""
    device = bare_device(function, index)
    if function.driver is None:
        return withheld(device, faults.not_bound(device.id, None))
    return withheld(device)


def _read_one(
    host: Host, settings: Settings, numbered: tuple[int, Gpu], topology: Topology
) -> Finding:
    index, gpu = numbered
    kfd_nodes = tuple(n for n in topology.nodes if n.sits_at(gpu.function.address))
    own = next((n for n in kfd_nodes if n.render_minor == gpu.nodes.render_minor), None)
    nodes = container_nodes(host, gpu.nodes, settings.amd)
    device = replace(_described(gpu, own, index), nodes=nodes)
    if gpu.is_partitioned:
        parent = withheld(replace(device, nodes=()))
        return merged([parent, read_partitions(host, settings, (gpu, device), topology)])
    if reason := _unsettled(gpu, kfd_nodes):
        return withheld(device, faults.unsettled(device.id, reason))
    return _offer_whole(host, gpu, (device, own), topology)


def _offer_whole(
    host: Host, gpu: Gpu, found: tuple[Device, KfdNode | None], topology: Topology
) -> Finding:
    device, own = found
    if missing := missing_render_node(host, gpu.nodes):
        return offered(device, faults.missing_node(device.id, missing), node=own)
    if own is None:
        return offered(device, faults.without_kfd(device.id, topology.why_missing))
    return offered(device, node=own)


def _unsettled(gpu: Gpu, kfd_nodes: Sequence[KfdNode]) -> str | None:
    """Why it cannot be told whether the GPU is whole; None where it is."""
    if gpu.mode_problem is not None or len(kfd_nodes) <= 1:
        return gpu.mode_problem
    path = f"{gpu.function.path}/current_compute_partition"
    return f"{path}: says {gpu.compute_mode or 'nothing'}, KFD has {len(kfd_nodes)} nodes"


def _described(gpu: Gpu, own: KfdNode | None, index: int) -> Device:
    function = gpu.function
    memory = gpu.memory_bytes or (own.memory_bytes if own else None)
    attributes = {} if gpu.is_partitioned else node_attributes(own)
    attributes |= known(
        xgmi_hive=own.hive if own else None,
        driver=function.driver,
        unique_id=gpu.unique_id,
        size_class=size_of(memory),
        compute_partition=gpu.compute_mode,
        memory_partition=gpu.memory_mode,
        memory_source=_memory_source(gpu, own),
    )
    return Device(
        id=gpu.id,
        vendor=NAME,
        product=gpu.product,
        resource=WHOLE,
        index=index,
        pci_address=function.address,
        numa_node=function.numa_node,
        memory_bytes=memory,
        attributes=frozen(attributes),
    )


def _memory_source(gpu: Gpu, own: KfdNode | None) -> str | None:
    if gpu.memory_bytes:
        return "mem_info_vram_total"
    return "kfd" if own and own.memory_bytes else None
