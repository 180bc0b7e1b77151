"""Physical GPUs: whole, partitioned, or kept for virtual functions."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import PciFunction
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, ResourceName, frozen
from deviceplugin.vendors.amd import faults
from deviceplugin.vendors.amd.found import (
    NAME,
    WHOLE,
    Found,
    found,
    known,
    merged,
    node_attributes,
    size_of,
)
from deviceplugin.vendors.amd.gpus import (
    AMDGPU,
    GIM,
    AmdGpu,
    container_nodes,
    missing_node,
    read_gpu,
)
from deviceplugin.vendors.amd.kfd import KfdNode, Topology
from deviceplugin.vendors.amd.models import is_integrated, product_of
from deviceplugin.vendors.amd.partitions import Divided, read_partitions
from deviceplugin.vendors.amd.settings import Settings

# With VFIO a virtual machine has the whole GPU. That and GIM are somebody's intention.
_INTENDED = frozenset({GIM, "vfio-pci"})


class Physical(Struct, frozen=True, kw_only=True):
    """The physical functions of a node: GPUs under amdgpu with their indices, and the others,
    which are never advertised."""

    gpus: tuple[tuple[int, AmdGpu], ...] = ()
    others: tuple[Device, ...] = ()
    faults: tuple[Fault, ...] = ()

    def places(self) -> Mapping[str, tuple[DeviceID, int | None]]:
        """The device id and the index that each function has or will have, by PCI address."""
        others = {d.pci_address: (d.id, d.index) for d in self.others if d.pci_address}
        return others | {gpu.function.address: (gpu.id, index) for index, gpu in self.gpus}


class WholeReading(Struct, frozen=True, kw_only=True):
    """All that was read of one GPU; `serves` means that virtual functions of it can be allocated,
    so that it cannot itself: they are the same memory."""

    gpu: AmdGpu
    index: int
    own: KfdNode | None
    kfd_nodes: tuple[KfdNode, ...]
    serves: bool


def read_physical(host: Host, functions: Sequence[PciFunction]) -> Physical:
    """What each physical function's own files hold; one that cannot be read costs itself."""
    others: list[Device] = []
    problems: list[Fault] = []
    gpus: list[tuple[int, AmdGpu]] = []
    for index, function in enumerate(functions):
        device = bare_device(function, index)
        if function.driver != AMDGPU:
            others.append(device)
            if function.driver not in _INTENDED:
                problems.append(faults.in_other_hands(device.id, function.driver))
            continue
        try:
            gpus.append((index, read_gpu(host, function)))
        except DiscoveryError as error:
            others.append(device)
            problems.append(faults.unreadable(device.id, error))
    return Physical(gpus=_distinct(gpus), others=tuple(others), faults=tuple(problems))


def find_whole(
    host: Host,
    settings: Settings,
    physical: Physical,
    topology: Topology,
    serving: Collection[str],
) -> Found:
    """Every physical function as a device, its partitions after it, in address order.

    `serving` are the addresses of those whose virtual functions can be given.
    """
    minors = [gpu.nodes.render_minor for _, gpu in physical.gpus]
    parts = []
    for index, gpu in physical.gpus:
        left = _left_for(gpu, topology, minors)
        kfd_nodes = tuple(n for n in left.nodes if n.sits_at(gpu.function.address))
        reading = WholeReading(
            gpu=gpu,
            index=index,
            own=next((n for n in kfd_nodes if n.render_minor == gpu.nodes.render_minor), None),
            kfd_nodes=kfd_nodes,
            serves=gpu.function.address in serving,
        )
        part = _find_one(host, settings, reading, left)
        parts.append(_milder(part) if reading.serves else part)
    quiet = {d.id for d in physical.others if d.pci_address in serving}
    problems = [_milder_fault(f) if f.device in quiet else f for f in physical.faults]
    return merged([*parts, Found(devices=physical.others, faults=tuple(problems))])


def _milder(part: Found) -> Found:
    return replace(part, faults=tuple(_milder_fault(fault) for fault in part.faults))


def _milder_fault(fault: Fault) -> Fault:
    """What a serving GPU itself lacks must not make its functions Unhealthy."""
    return replace(fault, kind=FaultClass.WARN) if fault.kind.withdraws else fault


def _left_for(gpu: AmdGpu, topology: Topology, minors: Sequence[int | None]) -> Topology:
    """The topology without other GPUs' own nodes: a guest may see two GPUs as two functions of
    one slot, where `location_id` alone would make them partitions of each other."""
    others = set(minors) - {gpu.nodes.render_minor}
    return topology.without_nodes([n.number for n in topology.nodes if n.render_minor in others])


def _distinct(gpus: Sequence[tuple[int, AmdGpu]]) -> tuple[tuple[int, AmdGpu], ...]:
    """An id that two GPUs claim identifies neither of them."""
    seen = Counter(gpu.unique_id for _, gpu in gpus)
    return tuple((i, g if seen[g.unique_id] == 1 else replace(g, unique_id=None)) for i, g in gpus)


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
        driver=function.driver,
    )


def _find_one(host: Host, settings: Settings, reading: WholeReading, topology: Topology) -> Found:
    gpu, serves = reading.gpu, reading.serves
    if gpu.is_partitioned:
        parent = _whole_device(reading)
        divided = Divided(gpu=gpu, parent=parent, advertised=not serves)
        parts = read_partitions(host, settings, divided, topology)
        return merged([found(parent, *_memory_faults(gpu)), parts])
    nodes = container_nodes(host, gpu.nodes, settings.amd)
    lesser = _memory_faults(gpu)
    if reading.own is None:
        lesser = (*lesser, faults.without_kfd(gpu.id, topology))
    if reason := _unsettled(gpu, reading.kfd_nodes):
        return found(_whole_device(reading, nodes=nodes), faults.unsettled(gpu.id, reason))
    device = _whole_device(reading, None if serves else WHOLE, nodes)
    in_kfd = reading.own is not None or bool(topology.problems)
    if missing := missing_node(host, gpu.nodes, in_kfd=in_kfd):
        lesser = (faults.missing_node(gpu.id, missing),)
    return found(device, *lesser, node=reading.own)


def _memory_faults(gpu: AmdGpu) -> tuple[Fault, ...]:
    """A memory that cannot be read costs no GPU."""
    reason = gpu.memory_problem
    return (faults.value_unreadable(gpu.id, reason),) if reason else ()


def _unsettled(gpu: AmdGpu, kfd_nodes: Sequence[KfdNode]) -> str | None:
    """Why it is unclear whether the GPU is whole; None where it is."""
    if gpu.mode_problem is not None or len(kfd_nodes) <= 1:
        return gpu.mode_problem
    path = f"{gpu.function.path}/current_compute_partition"
    return f"{path}: says {gpu.compute_mode or 'nothing'}, KFD has {len(kfd_nodes)} nodes"


def _whole_device(
    reading: WholeReading, resource: ResourceName | None = None, nodes: tuple[str, ...] = ()
) -> Device:
    gpu, own, function = reading.gpu, reading.own, reading.gpu.function
    memory = gpu.memory_bytes or (own.memory_bytes if own else None)
    shown = None if gpu.is_partitioned else own  # a partition's facts are not the GPU's
    return Device(
        id=gpu.id,
        vendor=NAME,
        product=gpu.product,
        resource=resource,
        index=reading.index,
        pci_address=function.address,
        numa_node=function.numa_node,
        memory_bytes=memory,
        nodes=nodes,
        attributes=frozen(node_attributes(shown) | _attributes(gpu, own, memory)),
        driver=function.driver,
        architecture=shown.gfx_version if shown else None,
    )


def _attributes(gpu: AmdGpu, own: KfdNode | None, memory: int | None) -> dict[str, str]:
    shared = _shared_bytes(gpu, own, memory)
    return known(
        xgmi_hive=own.hive if own else None,
        driver=gpu.function.driver,
        unique_id=gpu.unique_id,
        size_class=None if shared else size_of(memory),
        shared_memory_bytes=shared,
        compute_partition=gpu.compute_mode,
        memory_partition=gpu.memory_mode,
        memory_source=_memory_source(gpu, own),
    )


def _shared_bytes(gpu: AmdGpu, own: KfdNode | None, memory: int | None) -> int | None:
    """The host's memory that an integrated GPU works in; its own part says little of its size."""
    shared = gpu.shared_bytes
    if not is_integrated(gpu.function.device_id, own.gfx_version if own else None):
        return None
    return shared if shared and shared > (memory or 0) else None


def _memory_source(gpu: AmdGpu, own: KfdNode | None) -> str | None:
    if gpu.memory_bytes:
        return "mem_info_vram_total"
    return "kfd" if own and own.memory_bytes else None
