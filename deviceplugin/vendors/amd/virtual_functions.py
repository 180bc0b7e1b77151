"""MxGPU virtual functions: for containers under amdgpu, for virtual machines under vfio-pci."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import PciFunction
from deviceplugin.host.sriov import read_physical_function, read_virtual_functions
from deviceplugin.model import Device, DeviceID, Fault, ResourceName, frozen
from deviceplugin.names import size_class
from deviceplugin.vendors.amd import faults
from deviceplugin.vendors.amd.found import (
    NAME,
    Finding,
    known,
    merged,
    node_attributes,
    offered,
    withheld,
)
from deviceplugin.vendors.amd.frame_buffers import FrameBuffer, read_frame_buffer
from deviceplugin.vendors.amd.gpus import (
    Gpu,
    container_nodes,
    missing_render_node,
    read_gpu,
    read_product,
)
from deviceplugin.vendors.amd.kfd import KfdNode, Topology
from deviceplugin.vendors.amd.models import VIRTUAL_FUNCTIONS
from deviceplugin.vendors.amd.settings import DOMAIN, MxgpuInstance, MxgpuSection, Settings

VFIO = "vfio-pci"


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualFunction:
    """A VF and, on its host, the physical function it is a part of."""

    function: PciFunction
    physical: str | None = None
    index: int | None = None


def read_virtual_function(host: Host, function: PciFunction) -> VirtualFunction | None:
    """The VF that a PCI function is, None for a physical one.

    On a host `physfn` tells; a guest sees a plain function, which only its PCI id gives away.
    """
    physical = read_physical_function(host, function.address)
    if physical is None:
        is_virtual = function.device_id in VIRTUAL_FUNCTIONS
        return VirtualFunction(function=function) if is_virtual else None
    siblings = read_virtual_functions(host, physical)
    index = siblings.index(function.address) if function.address in siblings else None
    return VirtualFunction(function=function, physical=physical, index=index)


def resource_of(section: MxgpuSection, memory_bytes: int, suffix: str = "") -> ResourceName | None:
    """The resource of a VF of that memory; None where the section's list leaves it out."""
    if not section.enabled:
        return None
    if not section.instances:
        return ResourceName(f"{DOMAIN}/mxgpu-{size_class(memory_bytes)}{suffix}")
    instance = instance_of(section, memory_bytes)
    return ResourceName(f"{DOMAIN}/{instance.name}{suffix}") if instance else None


def instance_of(section: MxgpuSection, memory_bytes: int) -> MxgpuInstance | None:
    """The listed instance of the same size class."""
    size = size_class(memory_bytes)
    return next((i for i in section.instances if size_class(i.memory_bytes) == size), None)


def described(vf: VirtualFunction, section: MxgpuSection, product: str | None) -> Device:
    """The device without what depends on its memory and driver."""
    return Device(
        id=DeviceID(vf.function.address),
        vendor=NAME,
        product=product,
        index=vf.index,
        pci_address=vf.function.address,
        numa_node=vf.function.numa_node,
        policy=section.scheduling.policy,
        attributes=frozen(
            known(driver=vf.function.driver, physical_function=vf.physical, vf_index=vf.index)
        ),
    )


def sized(device: Device, section: MxgpuSection, buffer: FrameBuffer, suffix: str = "") -> Device:
    """The device with its memory and what follows from it: resource, profile, attributes."""
    size = size_class(buffer.memory_bytes)
    instance = instance_of(section, buffer.memory_bytes)
    extra = known(
        size_class=size,
        memory_source=buffer.source,
        instance_compute_units=instance.compute_units if instance else None,
        instance_rocm_cores=instance.rocm_cores if instance else None,
    )
    return replace(
        device,
        resource=resource_of(section, buffer.memory_bytes, suffix),
        profile=f"mxgpu-{size}",
        memory_bytes=buffer.memory_bytes,
        attributes=frozen(dict(device.attributes) | extra),
    )


def checked(section: MxgpuSection, device: Device, node: KfdNode | None = None) -> Finding:
    """A sized VF as a finding: with a fault where the list, not a switch, leaves it out."""
    if device.resource is None and section.enabled:
        return withheld(device, faults.not_listed(device.id, device.profile or "its size"))
    return offered(device, node=node)


def read_container_functions(
    host: Host, settings: Settings, functions: Sequence[VirtualFunction], topology: Topology
) -> Finding:
    """The VFs under amdgpu, in a guest or on their host; each usable by containers."""
    return merged(_read_one(host, settings, vf, topology) for vf in functions)


def _read_one(host: Host, settings: Settings, vf: VirtualFunction, topology: Topology) -> Finding:
    device = described(vf, settings.mxgpu, read_product(host, vf.function))
    try:
        gpu = read_gpu(host, vf.function)
        node = _kfd_node(topology, gpu)
        buffer = _read_memory(host, vf, gpu, node)
    except DiscoveryError as error:
        return withheld(device, faults.unreadable(device.id, error))
    if buffer is None:
        return withheld(device, unknown_size(device))
    device = replace(device, nodes=container_nodes(host, gpu.nodes, settings.amd))
    device = _with(sized(device, settings.mxgpu, buffer), node_attributes(node))
    if missing := missing_render_node(host, gpu.nodes):
        return offered(device, faults.missing_node(device.id, missing), node=node)
    return merged([checked(settings.mxgpu, device, node), _kfd_finding(device, node, topology)])


def _kfd_finding(device: Device, node: KfdNode | None, topology: Topology) -> Finding:
    if node is not None or device.resource is None:
        return Finding()
    return Finding(faults=(faults.without_kfd(device.id, topology.why_missing),))


def _with(device: Device, attributes: Mapping[str, str]) -> Device:
    return replace(device, attributes=frozen(dict(device.attributes) | dict(attributes)))


def _kfd_node(topology: Topology, gpu: Gpu) -> KfdNode | None:
    at = (n for n in topology.nodes if n.sits_at(gpu.function.address))
    return next((n for n in at if n.render_minor == gpu.nodes.render_minor), None)


def _read_memory(
    host: Host, vf: VirtualFunction, gpu: Gpu, node: KfdNode | None
) -> FrameBuffer | None:
    if gpu.memory_bytes:
        return FrameBuffer(memory_bytes=gpu.memory_bytes, source="mem_info_vram_total")
    if node and node.memory_bytes:
        return FrameBuffer(memory_bytes=node.memory_bytes, source="kfd")
    return read_frame_buffer(host, vf.function.address, vf.physical)


def unknown_size(device: Device) -> Fault:
    """No source tells how much memory a VF has, so it has no size class."""
    return faults.not_usable(
        device.id,
        f"no source tells the frame buffer of {device.id}",
        "install the extra deviceplugin[amd], or tell us the PCI id of its physical function",
    )
