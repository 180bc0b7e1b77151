"""MxGPU virtual functions (VFs): everything that is read of one, and the Device made of it.

Under amdgpu a VF is for containers; `vfio.py` has those that virtual machines get.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import PciFunction
from deviceplugin.host.sriov import read_physical_function, read_virtual_functions
from deviceplugin.model import Device, DeviceID, Fault, Isolation, ResourceName, frozen
from deviceplugin.names import size_class
from deviceplugin.vendors.amd import faults
from deviceplugin.vendors.amd.found import NAME, WHOLE, Found, found, known, merged, node_attributes
from deviceplugin.vendors.amd.frame_buffers import FrameBuffer, read_frame_buffer
from deviceplugin.vendors.amd.gpus import (
    AmdGpu,
    container_nodes,
    missing_node,
    read_gpu,
    read_product,
    read_render_minor,
)
from deviceplugin.vendors.amd.kfd import KfdNode, Topology
from deviceplugin.vendors.amd.models import VIRTUAL_FUNCTIONS, model_of
from deviceplugin.vendors.amd.partitions import Divided, read_partitions
from deviceplugin.vendors.amd.settings import (
    DOMAIN,
    VFIO_SUFFIX,
    MxgpuInstance,
    MxgpuSection,
    Settings,
)

VFIO = "vfio-pci"
_WHOLE_SHARE = 0.7


class VirtualFunction(Struct, frozen=True, kw_only=True):
    """A VF and, on its host, the physical function (PF) it is a part of.

    `physical` is the PF's address, `parent` the device made of it, `ordinal` the place of the VF
    ("0:3": the fourth VF of GPU 0). In a guest `index` counts it as the GPU that it is there.
    """

    function: PciFunction
    physical: str | None = None
    index: int | None = None
    parent: DeviceID | None = None
    ordinal: str | None = None

    @property
    def in_guest(self) -> bool:
        """Whether this is the guest: its host shows the physical function."""
        return self.physical is None

    @property
    def id(self) -> DeviceID:
        """Its PCI address, which no reboot changes while the same number of VFs is enabled."""
        return DeviceID(self.function.address)


class VfReading(Struct, frozen=True, kw_only=True):
    """All that was read of a VF, or of several that a virtual machine gets together.

    `is_whole` is true in a guest whose VF is a whole GPU, as clouds give them out.

    `buffer` names the size (of several the smallest), `memory_bytes` is the sum; `functions` are
    the addresses that a virtual machine gets, none for a container's VF.
    """

    vf: VirtualFunction
    product: str | None = None
    buffer: FrameBuffer | None = None
    memory_bytes: int | None = None
    nodes: tuple[str, ...] = ()
    node: KfdNode | None = None
    iommu_group: str | None = None
    functions: tuple[str, ...] = ()
    is_whole: bool = False


def read_virtual_function(host: Host, function: PciFunction) -> VirtualFunction | None:
    """The VF that a PCI function is, None for a physical one.

    On a host `physfn` shows it; a guest sees a plain function, and only its PCI id shows it.
    """
    physical = read_physical_function(host, function.address)
    if physical is None:
        is_virtual = function.device_id in VIRTUAL_FUNCTIONS
        return VirtualFunction(function=function) if is_virtual else None
    siblings = read_virtual_functions(host, physical)
    index = siblings.index(function.address) if function.address in siblings else None
    return VirtualFunction(function=function, physical=physical, index=index)


def instance_of(section: MxgpuSection, memory_bytes: int) -> MxgpuInstance | None:
    """The listed instance of the same size class."""
    size = size_class(memory_bytes)
    return next((i for i in section.instances if size_class(i.memory_bytes) == size), None)


def resource_of(section: MxgpuSection, reading: VfReading) -> ResourceName | None:
    """The resource that a VF is offered under; None where its size is unknown or not offered."""
    if reading.buffer is None or not section.enabled:
        return None
    if reading.is_whole and not section.instances and section.guest_naming == "gpu":
        return WHOLE
    suffix = VFIO_SUFFIX if reading.vf.function.driver == VFIO else ""
    if not section.instances:
        return ResourceName(f"{DOMAIN}/mxgpu-{size_class(reading.buffer.memory_bytes)}{suffix}")
    instance = instance_of(section, reading.buffer.memory_bytes)
    return ResourceName(f"{DOMAIN}/{instance.name}{suffix}") if instance else None


def vf_device(
    section: MxgpuSection, reading: VfReading, resource: ResourceName | None = None
) -> Device:
    """The device of a reading, not advertised unless `resource` names it."""
    vf, buffer = reading.vf, reading.buffer
    function = vf.function
    return Device(
        id=vf.id,
        vendor=NAME,
        product=reading.product,
        resource=resource,
        index=vf.index,
        parent=vf.parent,
        profile=f"mxgpu-{size_class(buffer.memory_bytes)}" if buffer else None,
        pci_address=function.address,
        numa_node=function.numa_node,
        memory_bytes=reading.memory_bytes or (buffer.memory_bytes if buffer else None),
        policy=section.scheduling.policy,
        nodes=reading.nodes,
        attributes=frozen(_attributes(section, reading)),
        ordinal=vf.ordinal,
        driver=function.driver,
        shareable=function.driver != VFIO,
        architecture=reading.node.gfx_version if reading.node else None,
        functions=reading.functions,
        least_isolation=Isolation.asked(section.scheduling.isolation),
    )


def _attributes(section: MxgpuSection, reading: VfReading) -> Mapping[str, str]:
    vf, buffer = reading.vf, reading.buffer
    instance = instance_of(section, buffer.memory_bytes) if buffer else None
    return node_attributes(reading.node) | known(
        driver=vf.function.driver,
        physical_function=vf.physical,
        vf_index=None if vf.in_guest else vf.index,
        size_class=size_class(buffer.memory_bytes) if buffer else None,
        memory_source=buffer.source if buffer else None,
        instance_compute_units=instance.compute_units if instance else None,
        instance_rocm_cores=instance.rocm_cores if instance else None,
        iommu_group=reading.iommu_group,
        functions=",".join(reading.functions) if reading.iommu_group else None,
    )


def not_advertised(section: MxgpuSection, reading: VfReading, *problems: Fault) -> Found:
    """A VF that is seen and given to nobody, and why."""
    return found(vf_device(section, reading), *problems)


def advertised(section: MxgpuSection, reading: VfReading, *problems: Fault) -> Found:
    """A VF under the resource of its size; with a fault where only the list of instances
    leaves it out."""
    device = vf_device(section, reading, resource_of(section, reading))
    if device.resource is None and section.enabled and not problems:
        return found(device, faults.not_listed(device.id, device.profile or "its size"))
    return found(device, *problems, node=reading.node)


def read_container_functions(
    host: Host, settings: Settings, functions: Sequence[VirtualFunction], topology: Topology
) -> Found:
    """The VFs under amdgpu, in a guest or on their host; each usable by containers."""
    minors = {vf.id: read_render_minor(host, vf.function) for vf in functions}
    parts = []
    for vf in functions:
        # Two functions of one slot are two GPUs to a guest, not partitions of each other.
        others = {minor for other, minor in minors.items() if other != vf.id}
        numbers = [n.number for n in topology.nodes if n.render_minor in others]
        parts.append(_read_one(host, settings, vf, topology.without_nodes(numbers)))
    return merged(parts)


def _read_one(host: Host, settings: Settings, vf: VirtualFunction, topology: Topology) -> Found:
    section, product = settings.mxgpu, read_product(host, vf.function)
    bare = VfReading(vf=vf, product=product)
    try:
        gpu = read_gpu(host, vf.function)
        node = _kfd_node(topology, gpu)
        buffer = _read_memory(host, vf, gpu, node)
    except DiscoveryError as error:
        return not_advertised(section, bare, faults.unreadable(vf.id, error))
    if buffer is None:
        return not_advertised(section, bare, faults.size_unknown(vf.id))
    is_whole = vf.in_guest and _is_whole(vf, buffer)
    reading = replace(bare, buffer=buffer, node=node, is_whole=is_whole)
    parts = _nodes_of(topology, vf) if vf.in_guest else ()
    if (is_whole and gpu.is_partitioned) or len(parts) > 1:
        return _divided(host, settings, reading, gpu, topology)
    return _undivided(host, settings, reading, gpu, topology)


def _undivided(
    host: Host, settings: Settings, reading: VfReading, gpu: AmdGpu, topology: Topology
) -> Found:
    section, device = settings.mxgpu, reading.vf.id
    reading = replace(reading, nodes=container_nodes(host, gpu.nodes, settings.amd))
    in_kfd = reading.node is not None or bool(topology.problems)
    if missing := missing_node(host, gpu.nodes, in_kfd=in_kfd):
        return advertised(section, reading, faults.missing_node(device, missing))
    if reading.node is None and resource_of(section, reading) is not None:
        return advertised(section, reading, faults.without_kfd(device, topology))
    return advertised(section, reading)


def _divided(
    host: Host, settings: Settings, reading: VfReading, gpu: AmdGpu, topology: Topology
) -> Found:
    """A guest's function in a partition mode: its partitions are offered, as those of a GPU."""
    section, vf = settings.mxgpu, reading.vf
    whole = vf_device(section, replace(reading, node=None))
    if not gpu.is_partitioned:
        path = f"{gpu.function.path}/current_compute_partition"
        shown = f"KFD has {len(_nodes_of(topology, vf))} nodes"
        reason = gpu.mode_problem or f"{path}: says {gpu.compute_mode or 'nothing'}, {shown}"
        return found(whole, faults.unsettled(vf.id, reason))
    divided = Divided(gpu=gpu, parent=whole, advertised=section.enabled)
    return merged([found(whole), read_partitions(host, settings, divided, topology)])


def _is_whole(vf: VirtualFunction, buffer: FrameBuffer) -> bool:
    """Half a GPU is the largest fraction; of a whole one the host keeps a few percent."""
    model = model_of(vf.function.device_id)
    total = model.memory_gib if model else None
    return total is not None and buffer.memory_bytes > (total << 30) * _WHOLE_SHARE


def _nodes_of(topology: Topology, vf: VirtualFunction) -> tuple[KfdNode, ...]:
    return tuple(n for n in topology.nodes if n.sits_at(vf.function.address))


def _kfd_node(topology: Topology, gpu: AmdGpu) -> KfdNode | None:
    at = (n for n in topology.nodes if n.sits_at(gpu.function.address))
    return next((n for n in at if n.render_minor == gpu.nodes.render_minor), None)


def _read_memory(
    host: Host, vf: VirtualFunction, gpu: AmdGpu, node: KfdNode | None
) -> FrameBuffer | None:
    if gpu.memory_problem and not vf.in_guest:
        raise DiscoveryError(gpu.memory_problem)  # the size is its name
    if gpu.memory_bytes:
        return FrameBuffer(memory_bytes=gpu.memory_bytes, source="mem_info_vram_total")
    if node and node.memory_bytes:
        return FrameBuffer(memory_bytes=node.memory_bytes, source="kfd")
    return read_frame_buffer(host, vf.function.address, vf.physical)
