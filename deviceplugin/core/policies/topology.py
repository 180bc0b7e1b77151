"""The link model of a node: every physical GPU and the distance of every pair; pure.

Made once for each inventory, so that a call of the kubelet only looks things up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from types import MappingProxyType

from deviceplugin.core.policies.distance import (
    NO_LEVEL,
    SAME_GPU,
    UNKNOWN,
    Distance,
    Place,
    distance,
    pcie_level,
)
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, Inventory, Link

_SEVERITY = {kind: rank for rank, kind in enumerate(FaultClass)}
_NOTHING_KNOWN = Distance(UNKNOWN, "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What only the host tells: where PCI functions sit (by address), and the place to be near.

    `nic` is the place of the NIC of `scheduling.proximity_to`, None where none is configured.
    """

    paths: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    nic: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The physical GPUs in PCI address order, what they are to each other and to their parts.

    `gpu_of` maps every device to its GPU, `pairs` a pair in both orders to its distance,
    `severity` a GPU to the rank of its worst fault (absent: none), `nic_level` to the PCIe level
    of its way to the NIC.
    """

    gpus: tuple[DeviceID, ...] = ()
    gpu_of: Mapping[DeviceID, DeviceID] = field(default_factory=lambda: MappingProxyType({}))
    places: Mapping[DeviceID, Place] = field(default_factory=lambda: MappingProxyType({}))
    pairs: Mapping[tuple[DeviceID, DeviceID], Distance] = field(
        default_factory=lambda: MappingProxyType({})
    )
    devices: Mapping[DeviceID, Device] = field(default_factory=lambda: MappingProxyType({}))
    severity: Mapping[DeviceID, int] = field(default_factory=lambda: MappingProxyType({}))
    nic_level: Mapping[DeviceID, int] = field(default_factory=lambda: MappingProxyType({}))

    def between(self, one: DeviceID, other: DeviceID) -> Distance:
        """The distance of two GPUs; the worst for one that nobody knows."""
        if one == other:
            return Distance(SAME_GPU, "same GPU")
        return self.pairs.get((one, other), _NOTHING_KNOWN)


def topology_of(inventory: Inventory, surroundings: Surroundings) -> Topology:
    """The topology of an inventory on a host."""
    devices = inventory.devices
    gpu_of = {device.id: _whole(device, devices) for device in devices.values()}
    members: dict[DeviceID, list[Device]] = {}
    for device in devices.values():
        members.setdefault(gpu_of[device.id], []).append(device)
    places = {gpu: _place(parts, surroundings.paths) for gpu, parts in members.items()}
    gpus = tuple(sorted(members, key=lambda gpu: (_address(members[gpu]), gpu)))
    nic = surroundings.nic
    return Topology(
        gpus=gpus,
        gpu_of=MappingProxyType(gpu_of),
        places=MappingProxyType(places),
        pairs=MappingProxyType(_pairs(gpus, places, _links(members, gpu_of))),
        devices=devices,
        severity=MappingProxyType(_severities(inventory.faults, gpu_of)),
        nic_level=MappingProxyType(
            {gpu: pcie_level(place, nic) if nic else NO_LEVEL for gpu, place in places.items()}
        ),
    )


def _whole(device: Device, devices: Mapping[DeviceID, Device]) -> DeviceID:
    """The physical GPU, through parts of parts; a chain has no more links than devices."""
    current = device
    for _ in devices:
        if current.parent is None:
            return current.id
        above = devices.get(current.parent)
        if above is None:
            return current.parent
        current = above
    return device.id


def _address(parts: Iterable[Device]) -> str:
    return min((part.pci_address for part in parts if part.pci_address), default="")


def _place(parts: Iterable[Device], paths: Mapping[str, str]) -> Place:
    """The whole's own place, else that of the first part that has one."""
    ordered = sorted(parts, key=lambda part: (part.parent is not None, part.id))
    known_paths = (paths.get(part.pci_address) for part in ordered if part.pci_address)
    nodes = (part.numa_node for part in ordered if part.numa_node is not None)
    return Place(
        path=next((path for path in known_paths if path), None), numa_node=next(nodes, None)
    )


def _links(
    members: Mapping[DeviceID, list[Device]], gpu_of: Mapping[DeviceID, DeviceID]
) -> Mapping[tuple[DeviceID, DeviceID], list[Link]]:
    """All links between two GPUs, of whichever part and end of it tells."""
    found: dict[tuple[DeviceID, DeviceID], list[Link]] = {}
    for gpu, parts in members.items():
        for link in (link for part in parts for link in part.links):
            peer = gpu_of.get(link.peer, link.peer)
            found.setdefault((min(gpu, peer), max(gpu, peer)), []).append(link)
    return found


def _pairs(
    gpus: tuple[DeviceID, ...],
    places: Mapping[DeviceID, Place],
    links: Mapping[tuple[DeviceID, DeviceID], list[Link]],
) -> dict[tuple[DeviceID, DeviceID], Distance]:
    pairs: dict[tuple[DeviceID, DeviceID], Distance] = {}
    for one, other in combinations(gpus, 2):
        known = links.get((min(one, other), max(one, other)), ())
        pairs[one, other] = pairs[other, one] = distance(known, places[one], places[other])
    return pairs


def _severities(
    faults: Mapping[DeviceID, tuple[Fault, ...]], gpu_of: Mapping[DeviceID, DeviceID]
) -> dict[DeviceID, int]:
    worst: dict[DeviceID, int] = {}
    for device, standing in faults.items():
        gpu = gpu_of.get(device, device)
        ranks = [_SEVERITY[fault.kind] for fault in standing]
        worst[gpu] = max([*ranks, worst.get(gpu, -1)])
    return worst
