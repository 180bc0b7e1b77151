"""One discovery of a node's Intel GPUs: every function is read again and made a device."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError, UnavailableError
from deviceplugin.host import Host
from deviceplugin.host.modules import read_module_version
from deviceplugin.model import Device, DeviceID, Discovery
from deviceplugin.vendors.intel import faults
from deviceplugin.vendors.intel.edits import BY_PATH_DIRECTORY
from deviceplugin.vendors.intel.found import NAME, Board, Found, Scan
from deviceplugin.vendors.intel.gpu import (
    DRM_DRIVERS,
    VFIO_DRIVERS,
    IntelGpu,
    read_addresses,
    read_gpu,
)
from deviceplugin.vendors.intel.reader import MemoryQuery
from deviceplugin.vendors.intel.settings import IntelSettings, XeSettings
from deviceplugin.vendors.intel.virtual_functions import (
    VirtualFunction,
    found_single,
    found_unit,
    read_virtual_function,
    vfio_units,
)
from deviceplugin.vendors.intel.whole import found_board, read_board, read_consumers


def discover(host: Host, query: MemoryQuery, intel: IntelSettings, xe: XeSettings) -> Discovery:
    """Look at the node once. Raises UnavailableError where it has no Intel GPU at all.

    What cannot be read costs one source or one device; DiscoveryError says that the PCI bus
    itself cannot be listed.
    """
    gpus, lost = _read_gpus(host)
    if not gpus and not lost:
        raise UnavailableError("there is no Intel GPU on the PCI bus")
    links = _read_links(host) if intel.by_path else frozenset()
    scan = Scan(
        host=host, query=query, intel=intel, xe=xe, gpus=MappingProxyType(gpus), links=links
    )
    found = [*lost, *_find(scan)]
    devices = [*(item.device for item in found), *read_consumers(scan)]
    problems = [fault for item in found for fault in item.faults]
    return Discovery(
        devices=tuple(sorted(devices, key=lambda device: device.id)),
        faults=tuple(sorted(problems, key=lambda fault: fault.key)),
        driver_version=_read_driver_version(host),
    )


def _read_gpus(host: Host) -> tuple[dict[str, IntelGpu], list[Found]]:
    gpus: dict[str, IntelGpu] = {}
    lost: list[Found] = []
    for address in read_addresses(host):
        try:
            gpu = read_gpu(host, address)
        except DiscoveryError as error:
            lost.append(_lost(address, str(error)))
            continue
        if gpu is not None:
            gpus[address] = gpu
    return {gpu.address: gpu for gpu in _owned(gpus)}, lost


def _owned(gpus: Mapping[str, IntelGpu]) -> Iterator[IntelGpu]:
    """All functions, the virtual ones with their owner: a new one is on the bus for a moment
    before its own link to the owner is there (pci_iov_add_virtfn), and is not a GPU then."""
    owners = {address: gpu.address for gpu in gpus.values() for address in gpu.virtual}
    for gpu in gpus.values():
        yield gpu if gpu.physical else replace(gpu, physical=owners.get(gpu.address))


def _find(scan: Scan) -> Iterator[Found]:
    boards = [read_board(scan, gpu) for gpu in _whole_gpus(scan)]
    functions = [function for board in boards for function in _read_functions(scan, board)]
    for board in boards:
        yield found_board(scan, board)
    for function in functions:
        if function.gpu.driver not in VFIO_DRIVERS:
            yield found_single(scan, function)
    for unit in vfio_units([f for f in functions if f.gpu.driver in VFIO_DRIVERS]):
        yield from _find_unit(scan, unit)
    yield from _orphans(scan, {function.gpu.address for function in functions})


def _whole_gpus(scan: Scan) -> list[IntelGpu]:
    """A virtual function that is being made has its `virtfn` link before its `physfn` link."""
    links = {(gpu.address, virtual) for gpu in scan.gpus.values() for virtual in gpu.virtual}
    virtual = {address for owner, address in links if address != owner}
    return [g for g in scan.gpus.values() if g.physical is None and g.address not in virtual]


def _read_functions(scan: Scan, board: Board) -> Iterator[VirtualFunction]:
    for address in dict.fromkeys(board.gpu.virtual):
        gpu = scan.gpus.get(address)  # gone since it was listed, or unreadable
        if gpu is not None and gpu.physical in (None, board.gpu.address):
            yield read_virtual_function(scan, board, gpu)


def _find_unit(scan: Scan, unit: Sequence[VirtualFunction]) -> tuple[Found, ...]:
    try:
        return found_unit(scan, unit)
    except DiscoveryError as error:
        return tuple(_lost(function.gpu.address, str(error)) for function in unit)


def _orphans(scan: Scan, known: set[str]) -> Iterator[Found]:
    """Virtual functions whose physical function was not read, so that their share is unknown."""
    for gpu in scan.gpus.values():
        if gpu.physical is not None and gpu.address not in known:
            yield _lost(gpu.address, f"its physical function {gpu.physical} could not be read")


def _lost(address: str, reason: str) -> Found:
    """A device of which nothing but the address is known: seen and faulted, not offered."""
    device = Device(id=DeviceID(address), vendor=NAME, pci_address=address)
    return Found(device=device, faults=(faults.unreadable_device(address, reason),))


def _read_links(host: Host) -> frozenset[str]:
    try:
        return frozenset(host.read_names(BY_PATH_DIRECTORY))
    except DiscoveryError:
        return frozenset()  # a convenience for programs, never worth a device


def _read_driver_version(host: Host) -> str | None:
    """The versions of drivers that have one: those outside the kernel's own tree."""
    versions = ((driver, read_module_version(host, driver)) for driver in sorted(DRM_DRIVERS))
    return ", ".join(f"{driver} {version}" for driver, version in versions if version) or None
