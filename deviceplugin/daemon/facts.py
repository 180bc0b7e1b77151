"""What the daemon tells the cluster's scheduler of its GPUs, put together of what its parts know;
pure."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from deviceplugin.kubernetes.facts import GpuFacts, NodeFacts, held_of
from deviceplugin.model import Device, DeviceID, FaultClass, Health, Inventory, ResourceName
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
    offers, parts = _offers(known), _parts(known)
    return NodeFacts(
        gpus=tuple(_gpu(gpu, known, (offers.get(gpu, {}), parts.get(gpu, ()))) for gpu in gpus),
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


def _gpu(gpu: DeviceID, known: Known, given: tuple[dict[str, int], Iterable[Device]]) -> GpuFacts:
    offers, parts = given
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
    )
