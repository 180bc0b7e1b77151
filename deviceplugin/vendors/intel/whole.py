"""GPUs other than a host's virtual functions: whole ones, divided ones, and slices in a guest."""

from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, Isolation
from deviceplugin.vendors.intel import faults
from deviceplugin.vendors.intel import naming as attributes
from deviceplugin.vendors.intel.found import NAME, Advertisement, Board, Found, Scan, make_device
from deviceplugin.vendors.intel.gpu import DRM_DRIVERS, VFIO_DRIVERS, IntelGpu
from deviceplugin.vendors.intel.memory import is_exact, is_slice, read_local_memory, read_tiles
from deviceplugin.vendors.intel.naming import SliceOffer, drm_name, monitoring_name, slice_offer


def read_board(scan: Scan, gpu: IntelGpu) -> Board:
    """Measure one whole GPU or physical function."""
    reader = scan.reader()
    memory = read_local_memory(reader, gpu)
    tiles = read_tiles(reader, gpu)
    return Board(gpu=gpu, memory=memory, tiles=tiles, problems=tuple(reader.problems))


def found_board(scan: Scan, board: Board) -> Found:
    """The GPU as a device: offered whole, or hidden while it is divided."""
    gpu, problems = board.gpu, _problems(scan, board.gpu)
    missing = scan.missing(gpu.nodes)
    advert = Advertisement(nodes=tuple(node for node in gpu.nodes if node not in missing))
    offer = SliceOffer(offered=False)
    if gpu.driver in DRM_DRIVERS and not _is_divided(gpu):
        offer = _slice_offer(scan, board)
        advert = _advertised(scan, gpu, offer, advert)
    if board.problems:
        problems = (*problems, faults.unreadable_source(gpu.address, board.problems))
    described = attributes.merged(
        attributes.common(gpu, board.memory),
        attributes.of_board(gpu, board.tiles, is_slice(gpu, board.memory)),
        attributes.of_links(gpu, scan.links),
        attributes.of_instance(offer.instance),
    )
    device = make_device(gpu, board.memory, advert, described)
    return Found(device=device, faults=problems + offer.faults)


def _is_divided(gpu: IntelGpu) -> bool:
    """While virtual functions are enabled the memory is theirs, whoever uses them."""
    return bool(gpu.enabled_virtual or gpu.virtual)


def _slice_offer(scan: Scan, board: Board) -> SliceOffer:
    """Inside a virtual machine only the size of a working GPU shows whether it is a slice."""
    gpu, memory = board.gpu, board.memory
    if is_slice(gpu, memory):
        return slice_offer(scan.xe, gpu, memory)
    lame = not gpu.nodes or scan.missing(gpu.nodes)
    return SliceOffer(offered=not (gpu.may_be_guest and lame and not is_exact(memory)))


def _advertised(scan: Scan, gpu: IntelGpu, offer: SliceOffer, base: Advertisement) -> Advertisement:
    if not offer.offered or gpu.driver is None:
        return replace(base, profile=offer.profile)
    resource = drm_name(scan.intel, offer.profile or "gpu", gpu.driver)
    if not offer.profile:
        return replace(base, resource=resource)
    return replace(
        base,
        resource=resource,
        profile=offer.profile,
        policy=scan.xe.scheduling.policy,
        least_isolation=Isolation.asked(scan.xe.scheduling.isolation),
    )


def _problems(scan: Scan, gpu: IntelGpu) -> tuple[Fault, ...]:
    if mode := _survivability(scan, gpu):
        return (faults.survivability(gpu.address, mode),)
    if gpu.driver in VFIO_DRIVERS and not _is_divided(gpu):
        return ()  # a virtual machine has it, as somebody wants
    if gpu.driver not in DRM_DRIVERS:
        fault = faults.undriven_functions if _is_divided(gpu) else faults.unused_driver
        return (fault(gpu.address, gpu.driver),)
    if not gpu.nodes:
        return (faults.no_drm(gpu.address, gpu.driver or "its driver"),)
    # What a divided GPU's own node lacks must not make functions Unhealthy that have theirs.
    kind = FaultClass.WARN if _is_divided(gpu) else FaultClass.SETUP
    missing = scan.missing(gpu.nodes)
    problems = [faults.missing_node(gpu.address, missing, kind)] if missing else []
    return (*problems, *_unbound(scan, gpu))


def _survivability(scan: Scan, gpu: IntelGpu) -> str | None:
    """The text of xe's file, which exists only in that mode and is for administrators only."""
    path = f"{gpu.path}/survivability_mode"
    if not scan.host.exists(path):
        return None
    return scan.reader().read_text(path) or "the file is there, its text may not be read"


def _unbound(scan: Scan, gpu: IntelGpu) -> tuple[Fault, ...]:
    functions = [scan.gpus[address] for address in gpu.virtual if address in scan.gpus]
    unbound = sum(function.driver is None for function in functions)
    if not unbound:
        return ()
    return (faults.unbound_functions(gpu.address, unbound, len(gpu.virtual)),)


def read_consumers(scan: Scan) -> tuple[Device, ...]:
    """One device a consumer, all with the same nodes; none where there are no nodes.

    These ids name a place and no hardware: a monitor holds all GPUs, whichever they are.
    """
    nodes = _read_nodes(scan) if scan.intel.monitoring else ()
    return tuple(
        Device(
            id=DeviceID(f"{NAME}-monitoring-{number}"),
            vendor=NAME,
            resource=monitoring_name(scan.intel),
            nodes=nodes,
            shareable=False,
        )
        for number in range(scan.intel.monitoring)
        if nodes
    )


def _read_nodes(scan: Scan) -> tuple[str, ...]:
    served = [gpu for gpu in scan.gpus.values() if gpu.driver in DRM_DRIVERS]
    nodes = {node for gpu in served for node in (*gpu.nodes, *_read_mei_nodes(scan.host, gpu))}
    return tuple(sorted(node for node in nodes if scan.host.exists(node)))


def _read_mei_nodes(host: Host, gpu: IntelGpu) -> tuple[str, ...]:
    """The firmware interface of a GPU: `<driver>.mei-<name>.<number>/mei/mei<N>` below it."""
    try:
        parts = [name for name in host.read_names(gpu.path) if ".mei-" in name]
        found = [mei for part in parts for mei in host.read_names(f"{gpu.path}/{part}/mei")]
    except DiscoveryError:
        return ()  # firmware versions are the least that a monitor shows
    return tuple(f"/dev/{mei}" for mei in found)
