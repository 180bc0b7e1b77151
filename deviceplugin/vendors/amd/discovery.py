"""One look at all AMD GPUs of the node, whole and from scratch; only links are kept in between."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError, UnavailableError
from deviceplugin.host import Host
from deviceplugin.host.modules import read_module_version
from deviceplugin.host.pci import DEVICES, PciFunction, read_gpus
from deviceplugin.model import Device, DeviceID, Discovery, Fault
from deviceplugin.vendors.amd import faults
from deviceplugin.vendors.amd.found import NAME, WHOLE, Found, found, merged
from deviceplugin.vendors.amd.gpus import AMDGPU
from deviceplugin.vendors.amd.kfd import Topology, read_topology
from deviceplugin.vendors.amd.links import KnownLinks, with_links
from deviceplugin.vendors.amd.models import VENDOR_ID, product_of
from deviceplugin.vendors.amd.settings import MxgpuSection, Settings
from deviceplugin.vendors.amd.vfio import read_vm_functions
from deviceplugin.vendors.amd.virtual_functions import (
    VFIO,
    VfReading,
    VirtualFunction,
    not_advertised,
    read_container_functions,
    read_virtual_function,
)
from deviceplugin.vendors.amd.whole import Physical, bare_device, find_whole, read_physical


def discover(host: Host, settings: Settings, known: KnownLinks) -> Discovery:
    """All AMD GPUs, partitions and virtual functions, and the faults found on the way.

    Raises UnavailableError on a node without an AMD GPU, DiscoveryError where PCI cannot be read.
    """
    lost: list[Found] = []
    functions = read_gpus(host, VENDOR_ID, lambda *what: lost.append(_lost(*what)))
    if not functions and not lost:
        raise UnavailableError(f"no AMD GPU in {DEVICES}")
    topology = read_topology(host)
    sorted_out, unreadable = _sort_out(host, functions)
    physical = read_physical(host, [part for part in sorted_out if isinstance(part, PciFunction)])
    virtual = _placed([part for part in sorted_out if isinstance(part, VirtualFunction)], physical)
    parts = _read_virtual(host, settings, virtual, topology)
    left = topology.without_nodes([number for number, _ in parts.kfd_nodes])
    whole = find_whole(host, settings, physical, left, _serving(virtual, parts))
    everything = merged([whole, parts, unreadable, *lost])
    return Discovery(
        devices=with_links(everything, known.views(host, everything, topology)),
        faults=(*everything.faults, *_mixture(everything.devices)),
        driver_version=_read_driver_version(host),
    )


def _lost(address: str, error: DiscoveryError) -> Found:
    """A GPU of which only the address is known."""
    device = Device(id=DeviceID(address), vendor=NAME, pci_address=address)
    return found(device, faults.unreadable(device.id, error))


def _sort_out(
    host: Host, functions: Sequence[PciFunction]
) -> tuple[list[PciFunction | VirtualFunction], Found]:
    """Virtual functions and physical ones; where not even that is known, a fault."""
    sorted_out: list[PciFunction | VirtualFunction] = []
    unreadable = []
    for index, function in enumerate(functions):
        try:
            sorted_out.append(read_virtual_function(host, function) or function)
        except DiscoveryError as error:
            device = bare_device(function, index)
            unreadable.append(found(device, faults.unreadable(device.id, error)))
    return sorted_out, merged(unreadable)


def _placed(functions: Iterable[VirtualFunction], physical: Physical) -> list[VirtualFunction]:
    """The virtual functions with their physical function's device, through which its faults reach
    them, and their place in it."""
    places = physical.places()
    placed: list[VirtualFunction] = []
    for vf in functions:
        if vf.in_guest:
            guests = sum(other.in_guest for other in placed)
            placed.append(replace(vf, index=len(places) + guests))
            continue
        parent, number = places.get(vf.physical or "", (None, None))
        known = number is not None and vf.index is not None
        ordinal = f"{number}:{vf.index}" if known else None
        placed.append(replace(vf, parent=parent, ordinal=ordinal))
    return placed


def _serving(functions: Iterable[VirtualFunction], parts: Found) -> frozenset[str]:
    """The physical functions with a virtual function that can be given: it is the same memory."""
    unusable = {fault.device for fault in parts.faults if fault.kind.withdraws}
    usable = {d.id for d in parts.devices if d.resource and d.id not in unusable}
    return frozenset(vf.physical for vf in functions if vf.physical and vf.id in usable)


def _read_virtual(
    host: Host, settings: Settings, virtual: Sequence[VirtualFunction], topology: Topology
) -> Found:
    for_containers = [v for v in virtual if v.function.driver == AMDGPU]
    for_vm = [v for v in virtual if v.function.driver == VFIO]
    others = [v for v in virtual if v.function.driver not in (AMDGPU, VFIO)]
    return merged(
        [
            read_container_functions(host, settings, for_containers, topology),
            read_vm_functions(host, settings.mxgpu, for_vm),
            *(_not_bound(vf, settings.mxgpu) for vf in others),
        ]
    )


def _not_bound(vf: VirtualFunction, section: MxgpuSection) -> Found:
    reading = VfReading(vf=vf, product=product_of(vf.function.device_id))
    return not_advertised(section, reading, faults.not_bound(vf.id, vf.function.driver))


def _mixture(devices: Sequence[Device]) -> Iterator[Fault]:
    """Naming `single` is for nodes whose GPUs are all divided alike: under one name a pod would get
    a GPU or an eighth of one by chance. Reported of each divided GPU."""
    kinds: dict[str, set[DeviceID]] = {}
    for device in devices:
        if device.resource == WHOLE:
            kind = (device.profile or "partitions") if device.parent else "whole"
            kinds.setdefault(kind, set()).add(device.parent or device.id)
    divided = {gpu for kind, gpus in kinds.items() if kind != "whole" for gpu in gpus}
    if len(kinds) > 1:
        text = ", ".join(f"{kind} of {len(kinds[kind])}" for kind in sorted(kinds))
        yield from (faults.not_single(gpu, text) for gpu in sorted(divided))


def _read_driver_version(host: Host) -> str | None:
    """Only drivers built outside the kernel tree have a version (amdgpu by DKMS, gim)."""
    versions = (read_module_version(host, module) for module in ("amdgpu", "gim"))
    return next((version for version in versions if version), None)
