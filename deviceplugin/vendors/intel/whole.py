"""GPUs that are no host's virtual functions: whole ones, divided ones, and slices in a guest."""

from dataclasses import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.vendors.intel import faults
from deviceplugin.vendors.intel import naming as attributes
from deviceplugin.vendors.intel.found import NAME, Board, Found, Look, Offer, make_device
from deviceplugin.vendors.intel.gpu import DRM_DRIVERS, Gpu
from deviceplugin.vendors.intel.memory import is_exact, is_slice, read_local_memory, read_tiles
from deviceplugin.vendors.intel.naming import Terms, drm_name, monitoring_name, slice_terms


def read_board(look: Look, gpu: Gpu) -> Board:
    """Measure one whole GPU or physical function."""
    reader = look.reader()
    memory = read_local_memory(reader, gpu)
    tiles = read_tiles(reader, gpu)
    return Board(gpu=gpu, memory=memory, tiles=tiles, problems=tuple(reader.problems))


def found_board(look: Look, board: Board) -> Found:
    """The GPU as a device: offered whole, or hidden while it is divided."""
    gpu, problems = board.gpu, _problems(look, board.gpu)
    missing = look.missing(gpu.nodes)
    offer = Offer(nodes=tuple(node for node in gpu.nodes if node not in missing))
    terms = Terms(offered=False)
    if gpu.driver in DRM_DRIVERS and not _is_divided(gpu):
        terms = _terms(look, board)
        offer = _offer(look, gpu, terms, offer)
    if board.problems:
        problems = (*problems, faults.unreadable_source(gpu.address, board.problems))
    described = attributes.merged(
        attributes.common(gpu, board.memory),
        attributes.of_board(gpu, board.tiles, is_slice(gpu, board.memory)),
        attributes.of_links(gpu, look.links),
        attributes.of_instance(terms.instance),
    )
    device = make_device(gpu, board.memory, offer, described)
    return Found(device=device, faults=problems + terms.faults)


def _is_divided(gpu: Gpu) -> bool:
    """While virtual functions are enabled the memory is theirs, whoever uses them."""
    return bool(gpu.enabled_virtual or gpu.virtual)


def _terms(look: Look, board: Board) -> Terms:
    """Inside a virtual machine only a GPU that works tells by its size whether it is a slice."""
    gpu, memory = board.gpu, board.memory
    if is_slice(gpu, memory):
        return slice_terms(look.xe, gpu, memory)
    lame = not gpu.nodes or look.missing(gpu.nodes)
    return Terms(offered=not (gpu.may_be_guest and lame and not is_exact(memory)))


def _offer(look: Look, gpu: Gpu, terms: Terms, base: Offer) -> Offer:
    if not terms.offered or gpu.driver is None:
        return replace(base, profile=terms.profile)
    resource = drm_name(look.intel, terms.profile or "gpu", gpu.driver)
    policy = look.xe.scheduling.policy if terms.profile else None
    return replace(base, resource=resource, profile=terms.profile, policy=policy)


def _problems(look: Look, gpu: Gpu) -> tuple[Fault, ...]:
    if mode := _survivability(look, gpu):
        return (faults.survivability(gpu.address, mode),)
    if gpu.driver not in DRM_DRIVERS:
        fault = faults.undriven_functions if _is_divided(gpu) else faults.unused_driver
        return (fault(gpu.address, gpu.driver),)
    if not gpu.nodes:
        return (faults.no_drm(gpu.address, gpu.driver or "its driver"),)
    # What a divided GPU's own node lacks must not take away functions that have theirs.
    kind = FaultClass.WARN if _is_divided(gpu) else FaultClass.SETUP
    missing = look.missing(gpu.nodes)
    problems = [faults.missing_node(gpu.address, missing, kind)] if missing else []
    return (*problems, *_unbound(look, gpu))


def _survivability(look: Look, gpu: Gpu) -> str | None:
    """The text of xe's file, which exists only in that mode and is for administrators only."""
    path = f"{gpu.path}/survivability_mode"
    if not look.host.exists(path):
        return None
    return look.reader().read_text(path) or "the file is there, its text may not be read"


def _unbound(look: Look, gpu: Gpu) -> tuple[Fault, ...]:
    functions = [look.gpus[address] for address in gpu.virtual if address in look.gpus]
    unbound = sum(function.driver is None for function in functions)
    if not unbound:
        return ()
    return (faults.unbound_functions(gpu.address, unbound, len(gpu.virtual)),)


def read_consumers(look: Look) -> tuple[Device, ...]:
    """One device a consumer, all with the same nodes; none where there are no nodes.

    These ids name a place and no hardware: a monitor holds all GPUs, whichever they are.
    """
    nodes = _read_nodes(look) if look.intel.monitoring else ()
    return tuple(
        Device(
            id=DeviceID(f"{NAME}-monitoring-{number}"),
            vendor=NAME,
            resource=monitoring_name(look.intel),
            nodes=nodes,
            shareable=False,
        )
        for number in range(look.intel.monitoring)
        if nodes
    )


def _read_nodes(look: Look) -> tuple[str, ...]:
    served = [gpu for gpu in look.gpus.values() if gpu.driver in DRM_DRIVERS]
    nodes = {node for gpu in served for node in (*gpu.nodes, *_read_mei_nodes(look.host, gpu))}
    return tuple(sorted(node for node in nodes if look.host.exists(node)))


def _read_mei_nodes(host: Host, gpu: Gpu) -> tuple[str, ...]:
    """The firmware interface of a GPU: `<driver>.mei-<name>.<number>/mei/mei<N>` below it."""
    try:
        parts = [name for name in host.read_names(gpu.path) if ".mei-" in name]
        found = [mei for part in parts for mei in host.read_names(f"{gpu.path}/{part}/mei")]
    except DiscoveryError:
        return ()  # firmware versions are the least that a monitor shows
    return tuple(f"/dev/{mei}" for mei in found)
