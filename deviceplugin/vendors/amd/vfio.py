"""MxGPU virtual functions under vfio-pci: for virtual machines, one unit for each IOMMU group."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from deviceplugin.edits import VFIO_CONTAINER
from deviceplugin.errors import DiscoveryError, LibraryError
from deviceplugin.host import Host
from deviceplugin.host.pci import DEVICES
from deviceplugin.host.sriov import (
    read_group_members,
    read_iommu_group,
    read_vfio_nodes,
    vfio_group_node,
)
from deviceplugin.model import DeviceID, Fault, FaultClass
from deviceplugin.vendors.amd import faults
from deviceplugin.vendors.amd.found import Found, merged
from deviceplugin.vendors.amd.frame_buffers import (
    FrameBuffer,
    read_frame_buffer,
    read_frame_buffers,
)
from deviceplugin.vendors.amd.gpus import read_product
from deviceplugin.vendors.amd.settings import MxgpuSection
from deviceplugin.vendors.amd.virtual_functions import (
    VfReading,
    VirtualFunction,
    advertised,
    not_advertised,
)

_BRIDGE_CLASS = 0x06
Members = Sequence[tuple[VfReading, FrameBuffer]]


def read_vm_functions(
    host: Host, section: MxgpuSection, functions: Sequence[VirtualFunction]
) -> Found:
    """The VFs under vfio-pci as units: those of one IOMMU group can be given away only together."""
    told = _read_told(host, functions)
    units: dict[str, list[tuple[VfReading, FrameBuffer]]] = {}
    alone: list[Found] = []
    for vf in functions:
        reading = VfReading(vf=vf, product=read_product(host, vf.function), functions=(vf.id,))
        try:
            buffer = told.get(vf.id) or read_frame_buffer(host, vf.id, vf.physical)
            group = read_iommu_group(host, vf.id)
        except DiscoveryError as error:
            alone.append(not_advertised(section, reading, faults.unreadable(vf.id, error)))
            continue
        if buffer is None:
            alone.append(not_advertised(section, reading, faults.size_unknown(vf.id)))
        elif group is None:
            problem = faults.no_iommu_group(vf.id, f"{DEVICES}/{vf.id}")
            alone.append(advertised(section, replace(reading, buffer=buffer), problem))
        else:
            units.setdefault(group, []).append((reading, buffer))
    return merged([*(_read_unit(host, section, g, units[g]) for g in units), *alone])


def _read_told(host: Host, functions: Sequence[VirtualFunction]) -> Mapping[str, FrameBuffer]:
    """What amdsmi reports; if the library fails, the next source answers."""
    try:
        sizes = read_frame_buffers(host, [vf.function.address for vf in functions])
    except LibraryError:
        return {}
    return {a: FrameBuffer(memory_bytes=size, source="amdsmi") for a, size in sizes.items()}


def _read_unit(host: Host, section: MxgpuSection, group: str, members: Members) -> Found:
    """The unit of an IOMMU group under its first function's id, named by the smallest function:
    what a virtual machine is promised, each of its functions keeps."""
    first, _ = members[0]
    addresses = [member.vf.id for member, _ in members]
    nodes = (node for address in addresses for node in read_vfio_nodes(host, address))
    unit = replace(
        first,
        buffer=min((buffer for _, buffer in members), key=_bytes),
        memory_bytes=sum(buffer.memory_bytes for _, buffer in members),
        nodes=tuple(dict.fromkeys(nodes)),
        iommu_group=group,
        functions=tuple(addresses),
    )
    problem = next(_unit_problems(host, group, first.vf.id, set(addresses)), None)
    if problem is None:
        return advertised(section, unit)
    # A group that cannot be read may hold anything; one of which something is missing is known.
    seen = problem.kind is FaultClass.SETUP
    return (advertised if seen else not_advertised)(section, unit, problem)


def _unit_problems(
    host: Host, group: str, device: DeviceID, ours: set[DeviceID]
) -> Iterator[Fault]:
    """Why a guest could not be given the group: what VFIO refuses, or what would go missing."""
    for path in (VFIO_CONTAINER, vfio_group_node(group)):
        if not host.exists(path):
            yield faults.vfio_node_missing(device, path)
    try:
        members = read_group_members(host, group)
    except DiscoveryError as error:
        yield faults.unreadable(device, error)
        return
    foreign = [m for m in members if m not in ours and not _is_bridge(host, m)]
    if foreign:
        what = f"group {group} also has {', '.join(foreign)}"
        yield faults.group_in_use(device, what)


def _is_bridge(host: Host, address: str) -> bool:
    try:
        return (host.read_int(f"{DEVICES}/{address}/class") or 0) >> 16 == _BRIDGE_CLASS
    except DiscoveryError:
        return False


def _bytes(buffer: FrameBuffer) -> int:
    return buffer.memory_bytes
