"""SR-IOV virtual functions of a host: for containers by their driver, for machines by VFIO."""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.edits import VFIO_CONTAINER
from deviceplugin.host.pci import read_function
from deviceplugin.host.sriov import read_group_members, read_vfio_nodes, vfio_group_node
from deviceplugin.model import NOTHING, Fault, Isolation, ResourceName
from deviceplugin.vendors.intel import faults
from deviceplugin.vendors.intel import naming as attributes
from deviceplugin.vendors.intel.found import Advertisement, Board, Found, Scan, make_device
from deviceplugin.vendors.intel.gpu import DRM_DRIVERS, VFIO_DRIVERS, IntelGpu
from deviceplugin.vendors.intel.memory import Memory
from deviceplugin.vendors.intel.naming import SliceOffer, drm_name, slice_offer, vfio_name
from deviceplugin.vendors.intel.quota import read_quota

# Drivers that the kernel lets stay in a group given to a guest (Documentation/driver-api/vfio.rst).
_HARMLESS_DRIVERS = VFIO_DRIVERS | {None, "pcieport", "pci-stub"}


class VirtualFunction(Struct, frozen=True, kw_only=True):
    """A virtual function, the physical one it is of, its memory and failed reads."""

    gpu: IntelGpu
    owner: IntelGpu
    memory: Memory | None
    problems: tuple[str, ...]


def read_virtual_function(scan: Scan, board: Board, gpu: IntelGpu) -> VirtualFunction:
    """Measure one virtual function of `board`."""
    reader = scan.reader()
    memory = read_quota(reader, gpu, board)
    return VirtualFunction(gpu=gpu, owner=board.gpu, memory=memory, problems=tuple(reader.problems))


def found_single(scan: Scan, function: VirtualFunction) -> Found:
    """A function that stands for itself: for containers, or of no use as it is bound now."""
    gpu = function.gpu
    if gpu.driver is None:  # counted on the physical function
        return _found(scan, function, Advertisement(), ())
    if gpu.driver not in DRM_DRIVERS:
        return _found(
            scan, function, Advertisement(), (faults.unused_driver(gpu.address, gpu.driver),)
        )
    missing = scan.missing(gpu.nodes)
    problems = (faults.missing_node(gpu.address, missing),) if missing else ()
    if not gpu.nodes:
        problems = (faults.no_drm(gpu.address, gpu.driver),)
    offer = slice_offer(scan.xe, gpu, function.memory)
    name = drm_name(scan.intel, offer.profile, gpu.driver) if offer.profile else None
    nodes = tuple(node for node in gpu.nodes if node not in missing)
    advert = _advertised(scan, offer, name if offer.offered else None, nodes)
    instance = attributes.of_instance(offer.instance)
    return _found(scan, function, advert, problems + offer.faults, instance)


def vfio_units(functions: Sequence[VirtualFunction]) -> tuple[tuple[VirtualFunction, ...], ...]:
    """What can be given away on its own: the functions of an IOMMU group only together."""
    units: dict[str, list[VirtualFunction]] = {}
    for function in sorted(functions, key=_address):
        units.setdefault(function.gpu.iommu_group or function.gpu.address, []).append(function)
    return tuple(tuple(unit) for unit in units.values())


def found_unit(scan: Scan, unit: Sequence[VirtualFunction]) -> tuple[Found, ...]:
    """One unit: its first function stands for all of it, named by its smallest function."""
    least = min(unit, key=_memory_bytes)
    offer = slice_offer(scan.xe, least.gpu, least.memory)
    problems = _vfio_problems(scan, unit)
    addresses = tuple(function.gpu.address for function in unit)
    nodes = dict.fromkeys(n for a in addresses for n in read_vfio_nodes(scan.host, a))
    name = vfio_name(offer.profile) if offer.profile and offer.offered else None
    first, *others = unit
    offered = _found(
        scan,
        first,
        replace(_advertised(scan, offer, name, tuple(nodes)), functions=addresses),
        problems + offer.faults,
        attributes.merged(attributes.of_members(addresses), attributes.of_instance(offer.instance)),
    )
    part = {attributes.ALLOCATED_WITH: first.gpu.address}
    return (offered, *(_found(scan, f, Advertisement(), (), part) for f in others))


def _vfio_problems(scan: Scan, unit: Sequence[VirtualFunction]) -> tuple[Fault, ...]:
    """Why a unit cannot be given to a guest; reported once, on the function that stands for it."""
    address, group = unit[0].gpu.address, unit[0].gpu.iommu_group
    if group is None:
        return (faults.no_iommu(address),)
    if missing := scan.missing((vfio_group_node(group), VFIO_CONTAINER)):
        return (faults.vfio_missing(address, missing),)
    if others := _others_in_use(scan, unit, group):
        return (faults.group_in_use(address, group, others),)
    return ()


def _others_in_use(scan: Scan, unit: Sequence[VirtualFunction], group: str) -> tuple[str, ...]:
    own = {function.gpu.address for function in unit}
    known = {gpu.address for gpu in scan.gpus.values() if gpu.iommu_group == group}
    others = sorted((known | set(read_group_members(scan.host, group))) - own)
    functions = (read_function(scan.host, address) for address in others)
    return tuple(f.address for f in functions if f and f.driver not in _HARMLESS_DRIVERS)


def _advertised(
    scan: Scan, offer: SliceOffer, name: ResourceName | None, nodes: tuple[str, ...]
) -> Advertisement:
    return Advertisement(
        resource=name,
        profile=offer.profile,
        policy=scan.xe.scheduling.policy,
        nodes=nodes,
        least_isolation=Isolation.asked(scan.xe.scheduling.isolation),
    )


def _found(
    scan: Scan,
    function: VirtualFunction,
    advert: Advertisement,
    problems: tuple[Fault, ...],
    extra: Mapping[str, str] = NOTHING,
) -> Found:
    gpu = function.gpu
    described = attributes.merged(
        attributes.common(gpu, function.memory),
        attributes.of_slice(gpu, function.owner),
        attributes.of_links(gpu, scan.links),
        extra,
    )
    if function.problems:
        problems = (*problems, faults.unreadable_source(gpu.address, function.problems))
    device = make_device(gpu, function.memory, advert, described)
    return Found(device=device, faults=problems)


def _address(function: VirtualFunction) -> str:
    return function.gpu.address


def _memory_bytes(function: VirtualFunction) -> int:
    return function.memory.bytes if function.memory else 0
