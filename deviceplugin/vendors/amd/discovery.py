"""One look at all AMD GPUs of the node, whole and from scratch; only links are kept in between."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deviceplugin.errors import DiscoveryError, UnavailableError
from deviceplugin.host import Host
from deviceplugin.host.modules import read_module_version
from deviceplugin.host.pci import DEVICES, PciFunction, read_gpus
from deviceplugin.model import Device, DeviceID, Discovery, FaultClass
from deviceplugin.vendors.amd import faults
from deviceplugin.vendors.amd.found import NAME, Finding, merged, withheld
from deviceplugin.vendors.amd.gpus import AMDGPU
from deviceplugin.vendors.amd.kfd import Topology, read_topology
from deviceplugin.vendors.amd.links import KnownLinks, with_links
from deviceplugin.vendors.amd.models import VENDOR_ID, product_of
from deviceplugin.vendors.amd.settings import MxgpuSection, Settings
from deviceplugin.vendors.amd.vfio import read_vm_functions
from deviceplugin.vendors.amd.virtual_functions import (
    VFIO,
    VirtualFunction,
    described,
    read_container_functions,
    read_virtual_function,
)
from deviceplugin.vendors.amd.whole import bare_device, read_physical


def discover(host: Host, settings: Settings, known: KnownLinks) -> Discovery:
    """All AMD GPUs, partitions and virtual functions, and the faults found on the way.

    Raises UnavailableError on a node without an AMD GPU, DiscoveryError where PCI cannot be read.
    """
    lost: list[Finding] = []
    functions = read_gpus(host, VENDOR_ID, lambda *what: lost.append(_lost(*what)))
    if not functions and not lost:
        raise UnavailableError(f"no AMD GPU in {DEVICES}")
    topology = read_topology(host)
    sorted_out, unreadable = _sort_out(host, functions)
    virtual = [part for part in sorted_out if isinstance(part, VirtualFunction)]
    physical = [part for part in sorted_out if isinstance(part, PciFunction)]
    parts = _read_virtual(host, settings, virtual, topology)
    taken = [number for number, _ in parts.kfd_nodes]
    whole = read_physical(host, settings, physical, topology.without_nodes(taken))
    found = merged([_hidden(whole, parts), _with_parents(parts, whole), unreadable, *lost])
    return Discovery(
        devices=with_links(found, known.views(host, found, topology)),
        faults=found.faults,
        driver_version=_read_driver_version(host),
    )


def _lost(address: str, error: DiscoveryError) -> Finding:
    """A GPU of which only the address is known."""
    device = Device(id=DeviceID(address), vendor=NAME, pci_address=address)
    return withheld(device, faults.unreadable(device.id, error))


def _sort_out(
    host: Host, functions: Sequence[PciFunction]
) -> tuple[list[PciFunction | VirtualFunction], Finding]:
    """Virtual functions told from physical ones; one of which even that is unknown is a fault."""
    told: list[PciFunction | VirtualFunction] = []
    unreadable = []
    for index, function in enumerate(functions):
        try:
            told.append(read_virtual_function(host, function) or function)
        except DiscoveryError as error:
            device = bare_device(function, index)
            unreadable.append(withheld(device, faults.unreadable(device.id, error)))
    return told, merged(unreadable)


def _read_virtual(
    host: Host, settings: Settings, virtual: Sequence[VirtualFunction], topology: Topology
) -> Finding:
    for_containers = [v for v in virtual if v.function.driver == AMDGPU]
    for_machines = [v for v in virtual if v.function.driver == VFIO]
    others = [v for v in virtual if v.function.driver not in (AMDGPU, VFIO)]
    return merged(
        [
            read_container_functions(host, settings, for_containers, topology),
            read_vm_functions(host, settings.mxgpu, for_machines),
            *(_not_bound(v, settings.mxgpu) for v in others),
        ]
    )


def _not_bound(vf: VirtualFunction, section: MxgpuSection) -> Finding:
    device = described(vf, section, product_of(vf.function.device_id))
    return withheld(device, faults.not_bound(device.id, vf.function.driver))


def _hidden(whole: Finding, parts: Finding) -> Finding:
    """A physical function is not offered while one of its virtual functions can be given: it is the
    same memory."""
    unusable = {f.device for f in parts.faults if f.kind.withdraws}
    usable = (d for d in parts.devices if d.resource and d.id not in unusable)
    serving = {d.attributes.get("physical_function") for d in usable}
    hidden = {d.id for d in whole.devices if d.pci_address in serving}
    devices = (replace(d, resource=None) if d.id in hidden else d for d in whole.devices)
    # What its own node lacks must not take away functions that have theirs.
    told = (replace(f, kind=_milder(f.kind)) if f.device in hidden else f for f in whole.faults)
    return replace(whole, devices=tuple(devices), faults=tuple(told))


def _milder(kind: FaultClass) -> FaultClass:
    return FaultClass.WARN if kind is FaultClass.SETUP else kind


def _with_parents(parts: Finding, whole: Finding) -> Finding:
    """A fault of the physical function reaches its virtual functions through their parent."""
    ids = {d.pci_address: d.id for d in whole.devices if d.parent is None}
    return replace(parts, devices=tuple(_with_parent(d, ids) for d in parts.devices))


def _with_parent(device: Device, ids: Mapping[str | None, DeviceID]) -> Device:
    physical = device.attributes.get("physical_function")
    return replace(device, parent=ids.get(physical)) if physical else device


def _read_driver_version(host: Host) -> str | None:
    """Only drivers built outside the kernel tree tell a version (amdgpu by DKMS, gim)."""
    versions = (read_module_version(host, module) for module in ("amdgpu", "gim"))
    return next((version for version in versions if version), None)
