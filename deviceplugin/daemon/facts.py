"""What the daemon tells the cluster's scheduler of its GPUs, put together of what its parts know;
pure."""

from collections.abc import Iterable, Mapping

from msgspec import Struct, field, structs

from deviceplugin.kubernetes.facts import GpuFacts, NodeFacts, PartFacts, held_of
from deviceplugin.model import (
    AdvertisedDevice,
    Device,
    DeviceID,
    FaultClass,
    Health,
    Inventory,
    Isolation,
    Place,
    Resource,
    ResourceName,
)
from deviceplugin.placement.topology import NO_LEVEL, UNKNOWN, Topology
from deviceplugin.resources.plan import Resources
from deviceplugin.telemetry.model import TelemetryView

Held = Iterable[tuple[tuple[str, str, str], ResourceName, DeviceID]]
_COMPUTE = "compute"


class Known(Struct, frozen=True, kw_only=True):
    """What is known of the node at one moment."""

    inventory: Inventory
    topology: Topology
    listed: Resources
    held: Held
    view: TelemetryView | None


def node_facts(known: Known) -> NodeFacts | None:
    """The facts; None where no GPU is known."""
    gpus = known.topology.gpus
    if not gpus:
        return None
    at = {gpu: position for position, gpu in enumerate(gpus)}
    position = {part: at[gpu] for part, gpu in known.topology.gpu_of.items() if gpu in at}
    offers, parts, listing = _offers(known), _parts(known), _listing(known)
    return NodeFacts(
        gpus=tuple(
            _gpu(gpu, known, (offers.get(gpu, {}), parts.get(gpu, ()), listing)) for gpu in gpus
        ),
        links=tuple(
            (a, b, known.topology.between(one, other).cost)
            for a, one in enumerate(gpus)
            for b, other in enumerate(gpus[a + 1 :], a + 1)
            if known.topology.between(one, other).cost < UNKNOWN
        ),
        held=held_of(known.held, position),
    )


def _offers(known: Known) -> Mapping[DeviceID, dict[str, int]]:
    """How many Healthy ids of each resource a GPU gives."""
    found: dict[DeviceID, dict[str, int]] = {}
    for name, resource in sorted(known.listed.items()):
        for entry in resource.devices:
            if entry.health is Health.HEALTHY:
                gpu = known.topology.gpu_of.get(entry.device, entry.device)
                counts = found.setdefault(gpu, {})
                counts[name] = counts.get(name, 0) + 1
    return found


def _parts(known: Known) -> Mapping[DeviceID, list[Device]]:
    found: dict[DeviceID, list[Device]] = {}
    for device in known.inventory.devices.values():
        gpu = known.topology.gpu_of.get(device.id, device.id)
        found.setdefault(gpu, []).append(device)
    return found


class _Cut(Struct, frozen=True, kw_only=True):
    slices: int | None = None
    even: bool = False
    parts: dict[str, PartFacts] = field(default_factory=dict)


class _Listing(Struct, frozen=True):
    """The resource of each device of which one id is all of it, and its state."""

    of: Mapping[DeviceID, tuple[ResourceName, str]]


def _cut(parts: Iterable[Device], listing: _Listing) -> _Cut:
    """The parts of a GPU by resource; nothing where it is not known where they are, or where one id
    is not one part."""
    cut = sorted((one for one in parts if one.parent), key=lambda one: (one.index or 0, one.id))
    even = all(one.place is None for one in cut)
    if not cut or (even and len({one.profile for one in cut}) > 1):
        return _Cut()
    count = len(cut)
    evenly = (
        Place(slices=count, start=at, size=1, starts=tuple(range(count))) for at in range(count)
    )
    placed = [(one, one.place or (next(evenly) if even else None)) for one in cut]
    found: dict[str, PartFacts] = {}
    for device, place in placed:
        if place is None or device.id not in listing.of:
            return _Cut()
        name, state = listing.of[device.id]
        one = found.get(name) or PartFacts(place.size, place.starts)
        found[name] = structs.replace(
            one, **{state: (*getattr(one, state), place.start)}, **_least(one, device)
        )
    slices = max(place.slices for _, place in placed if place)
    return _Cut(slices=slices, even=even, parts=dict(sorted(found.items())))


def _least(one: PartFacts, device: Device) -> Mapping[str, object]:
    """Memory and isolation of the parts so far and of this one: of each the least."""
    had = Isolation(one.isolation) if one.isolation else device.isolation
    memory_mib = None if device.memory_bytes is None else device.memory_bytes >> 20
    known = [mib for mib in (one.memory_mib, memory_mib) if mib is not None]
    return {
        "memory_mib": min(known, default=None),
        "isolation": min(had, device.isolation, key=lambda one: one.strength).value,
    }


def _listing(known: Known) -> _Listing:
    held = {device for _, _, device in known.held}

    def state(entry: AdvertisedDevice) -> str:
        healthy = entry.health is Health.HEALTHY
        return "held" if entry.device in held else "free" if healthy else "ill"

    return _Listing(
        {
            entry.device: (name, state(entry))
            for name, resource in known.listed.items()
            if _whole(resource)
            for entry in resource.devices
        }
    )


def _whole(resource: Resource) -> bool:
    return all(one.replica is None and one.share is None for one in resource.devices)


def _gpu(
    gpu: DeviceID, known: Known, given: tuple[dict[str, int], Iterable[Device], _Listing]
) -> GpuFacts:
    offers, parts, listing = given
    topology, device = known.topology, known.inventory.devices.get(gpu)
    faults = known.inventory.faults_of(device) if device else ()
    level = topology.nic_level.get(gpu, NO_LEVEL)
    isolations = [part.isolation for part in parts if part.resource]
    place = topology.places.get(gpu)
    seen = known.view.devices.get(gpu) if known.view else None
    load = seen.value("utilization_ratio", engine=_COMPUTE) if seen else None
    celsius = seen.value("temperature_celsius") if seen else None
    memory = device.memory_bytes if device else None
    return GpuFacts(
        id=gpu,
        memory_mib=None if memory is None else memory >> 20,
        healthy=bool(offers),
        warned=any(fault.kind is FaultClass.WARN for fault in faults),
        numa_node=place.numa_node if place else None,
        nic_level=None if level == NO_LEVEL else level,
        load=None if load is None else round(10 * load),
        celsius=None if celsius is None else 10 * round(celsius / 10),
        isolation=min(isolations, key=lambda i: i.strength).value if isolations else None,
        offers=offers,
        **structs.asdict(_cut(parts, listing)),
    )
