"""SR-IOV virtual functions of a host: for containers by their driver, for machines by VFIO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deviceplugin.edits import VFIO_CONTAINER
from deviceplugin.host.pci import read_function
from deviceplugin.host.sriov import read_group_members, read_vfio_nodes, vfio_group_node
from deviceplugin.model import NOTHING, Fault, ResourceName
from deviceplugin.vendors.intel import faults
from deviceplugin.vendors.intel import naming as attributes
from deviceplugin.vendors.intel.found import Board, Found, Look, Offer, make_device
from deviceplugin.vendors.intel.gpu import DRM_DRIVERS, VFIO_DRIVERS, Gpu
from deviceplugin.vendors.intel.memory import Memory
from deviceplugin.vendors.intel.naming import Terms, drm_name, slice_terms, vfio_name
from deviceplugin.vendors.intel.quota import read_quota

# Drivers that the kernel lets stay in a group given to a guest (Documentation/driver-api/vfio.rst).
_HARMLESS_DRIVERS = VFIO_DRIVERS | {None, "pcieport", "pci-stub"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualFunction:
    """A virtual function, the physical one it is of, its memory and failed reads."""

    gpu: Gpu
    owner: Gpu
    memory: Memory | None
    problems: tuple[str, ...]


def read_virtual_function(look: Look, board: Board, gpu: Gpu) -> VirtualFunction:
    """Measure one virtual function of `board`."""
    reader = look.reader()
    memory = read_quota(reader, gpu, board)
    return VirtualFunction(gpu=gpu, owner=board.gpu, memory=memory, problems=tuple(reader.problems))


def found_single(look: Look, function: VirtualFunction) -> Found:
    """A function that stands for itself: for containers, or of no use as it is bound now."""
    gpu = function.gpu
    if gpu.driver is None:  # counted on the physical function
        return _found(look, function, Offer(), ())
    if gpu.driver not in DRM_DRIVERS:
        return _found(look, function, Offer(), (faults.unused_driver(gpu.address, gpu.driver),))
    missing = look.missing(gpu.nodes)
    problems = (faults.missing_node(gpu.address, missing),) if missing else ()
    if not gpu.nodes:
        problems = (faults.no_drm(gpu.address, gpu.driver),)
    terms = slice_terms(look.xe, gpu, function.memory)
    name = drm_name(look.intel, terms.profile, gpu.driver) if terms.profile else None
    nodes = tuple(node for node in gpu.nodes if node not in missing)
    offer = _offer(look, terms, name if terms.offered else None, nodes)
    instance = attributes.of_instance(terms.instance)
    return _found(look, function, offer, problems + terms.faults, instance)


def vfio_units(functions: Sequence[VirtualFunction]) -> tuple[tuple[VirtualFunction, ...], ...]:
    """What can be given away on its own: the functions of an IOMMU group only together."""
    units: dict[str, list[VirtualFunction]] = {}
    for function in sorted(functions, key=_address):
        units.setdefault(function.gpu.iommu_group or function.gpu.address, []).append(function)
    return tuple(tuple(unit) for unit in units.values())


def found_unit(look: Look, unit: Sequence[VirtualFunction]) -> tuple[Found, ...]:
    """One unit: its first function stands for all of it, named by its smallest function."""
    least = min(unit, key=_memory_bytes)
    terms = slice_terms(look.xe, least.gpu, least.memory)
    problems = _vfio_problems(look, unit)
    addresses = tuple(function.gpu.address for function in unit)
    nodes = dict.fromkeys(n for a in addresses for n in read_vfio_nodes(look.host, a))
    name = vfio_name(terms.profile) if terms.profile and terms.offered else None
    first, *others = unit
    offered = _found(
        look,
        first,
        replace(_offer(look, terms, name, tuple(nodes)), functions=addresses),
        problems + terms.faults,
        attributes.merged(attributes.of_members(addresses), attributes.of_instance(terms.instance)),
    )
    part = {attributes.ALLOCATED_WITH: first.gpu.address}
    return (offered, *(_found(look, f, Offer(), (), part) for f in others))


def _vfio_problems(look: Look, unit: Sequence[VirtualFunction]) -> tuple[Fault, ...]:
    """Why a unit cannot be given to a guest; told once, on the function that stands for it."""
    address, group = unit[0].gpu.address, unit[0].gpu.iommu_group
    if group is None:
        return (faults.no_iommu(address),)
    if missing := look.missing((vfio_group_node(group), VFIO_CONTAINER)):
        return (faults.vfio_missing(address, missing),)
    if others := _others_in_use(look, unit, group):
        return (faults.group_in_use(address, group, others),)
    return ()


def _others_in_use(look: Look, unit: Sequence[VirtualFunction], group: str) -> tuple[str, ...]:
    own = {function.gpu.address for function in unit}
    known = {gpu.address for gpu in look.gpus.values() if gpu.iommu_group == group}
    others = sorted((known | set(read_group_members(look.host, group))) - own)
    functions = (read_function(look.host, address) for address in others)
    return tuple(f.address for f in functions if f and f.driver not in _HARMLESS_DRIVERS)


def _offer(look: Look, terms: Terms, name: ResourceName | None, nodes: tuple[str, ...]) -> Offer:
    policy = look.xe.scheduling.policy
    return Offer(resource=name, profile=terms.profile, policy=policy, nodes=nodes)


def _found(
    look: Look,
    function: VirtualFunction,
    offer: Offer,
    problems: tuple[Fault, ...],
    extra: Mapping[str, str] = NOTHING,
) -> Found:
    gpu = function.gpu
    described = attributes.merged(
        attributes.common(gpu, function.memory),
        attributes.of_slice(gpu, function.owner),
        attributes.of_links(gpu, look.links),
        extra,
    )
    if function.problems:
        problems = (*problems, faults.unreadable_source(gpu.address, function.problems))
    device = make_device(gpu, function.memory, offer, described)
    return Found(device=device, faults=problems)


def _address(function: VirtualFunction) -> str:
    return function.gpu.address


def _memory_bytes(function: VirtualFunction) -> int:
    return function.memory.bytes if function.memory else 0
