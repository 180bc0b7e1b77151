"""Where GPUs are and what lies between two of them; pure."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.model import Device, DeviceID, Fault, FaultClass, Inventory, Link, LinkKind

SAME_GPU = 0


UNKNOWN = 100_000


# Levels of PCIe distance, nvml.h NVML_TOPOLOGY_*.
BOARD, SWITCH, SWITCHES, HOST_BRIDGE, NUMA_NODE, SYSTEM = 0, 10, 20, 30, 40, 50


NO_LEVEL = 60


LEVEL_NAMES = {
    BOARD: "same board",
    SWITCH: "same PCIe switch",
    SWITCHES: "PCIe switches",
    HOST_BRIDGE: "same host bridge",
    NUMA_NODE: "same NUMA node",
    SYSTEM: "across sockets",
    NO_LEVEL: "unknown",
}


_KNOWN = frozenset(LinkKind)


# KFD weights of XGMI are 13 to 41 (a hop is 15); more hops stay better than any PCIe.
_MAX_WEIGHT = 150


# The scale of `Link.cost`: a pair costs a hundred times as much, and UNKNOWN is its end.
_MAX_COST = 1000


class Place(Struct, frozen=True, kw_only=True):
    """Where a PCI function sits; `path` is its directory under /sys/devices, None if unknown."""

    path: str | None = None
    numa_node: int | None = None


class Distance(Struct, frozen=True):
    """The cost of a pair and the words for it."""

    cost: int
    relation: str


def distance(links: Iterable[Link], one: Place, other: Place) -> Distance:
    """The best of the links and the places of a pair.

    A link of a known fabric is better than any PCIe path; one of another kind where its cost says
    so. The PCIe level is a small part of a link's cost, so that behind an NVSwitch, where all
    links are alike, GPUs near to each other come first.
    """
    links = tuple(links)
    level = min(pcie_level(one, other), *map(_link_level, links), NO_LEVEL)
    fabrics = (link for link in links if link.kind != LinkKind.PCIE)
    fabric = min(fabrics, key=_fabric_cost, default=None)
    known = level != NO_LEVEL
    by_pcie = Distance(100 * (200 + 4 * level) if known else UNKNOWN, LEVEL_NAMES[level])
    if fabric is None:
        return by_pcie
    by_fabric = Distance(100 * _fabric_cost(fabric) + level // 10, _fabric_name(fabric))
    return min(by_fabric, by_pcie, key=_cost)


def pcie_level(one: Place, other: Place) -> int:
    """The nearest common ancestor in the PCI tree, else what the NUMA nodes tell."""
    by_path = _path_level(one.path, other.path)
    if by_path is not None:
        return by_path
    if one.numa_node is None or other.numa_node is None:
        return NO_LEVEL
    return NUMA_NODE if one.numa_node == other.numa_node else SYSTEM


def _path_level(one: str | None, other: str | None) -> int | None:
    """A level from two paths such as pci0000:16/0000:16:01.0/0000:17:00.0/… below /sys/devices.

    Each step is a bridge; a switch is its upstream port and one downstream port for each device,
    so two steps from where the paths part are one switch. None where the paths part at the host
    bridge: whether that is one socket only the NUMA nodes tell.
    """
    if one is None or other is None:
        return None
    ones, others = _steps(one), _steps(other)
    shared = 0
    for a, b in zip(ones, others, strict=False):
        if a != b:
            break
        shared += 1
    if shared == 0:
        return None
    if shared == 1:
        return HOST_BRIDGE
    rest = max(len(ones), len(others)) - shared
    return BOARD if rest <= 1 else SWITCH if rest == 2 else SWITCHES


def _steps(path: str) -> list[str]:
    return path.removeprefix("/sys/devices/").strip("/").split("/")


def _link_level(link: Link) -> int:
    """NVML's level; KFD's weight of a PCIe path is 40 within a socket and more beyond it."""
    if link.kind != LinkKind.PCIE or link.weight is None:
        return NO_LEVEL
    return min(-(-link.weight // 10) * 10, SYSTEM)


def _fabric_cost(link: Link) -> int:
    """A weight has a meaning that we know for the known kinds alone."""
    known = link.kind in _KNOWN
    if link.cost is not None and not known:
        return min(max(link.cost, 1), _MAX_COST)
    if link.weight is not None and known:
        return min(link.weight, _MAX_WEIGHT)
    return 10 + 90 // max(link.width, 1)


def _cost(distance: Distance) -> int:
    return distance.cost


def _fabric_name(link: Link) -> str:
    if link.weight is not None and link.kind in _KNOWN:
        return f"{link.kind} weight {link.weight}"
    return f"{link.kind} ×{link.width}"


_SEVERITY = {kind: rank for rank, kind in enumerate(FaultClass)}


_NOTHING_KNOWN = Distance(UNKNOWN, "unknown")


class PciTopology(Struct, frozen=True, kw_only=True):
    """What only the host tells: where PCI functions sit (by address), and the place to be near.

    `nic` is the place of the NIC of `scheduling.proximity_to`, None where none is configured.
    """

    paths: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    nic: Place | None = None


class Topology(Struct, frozen=True, kw_only=True):
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


def topology_of(inventory: Inventory, pci: PciTopology) -> Topology:
    """The topology of an inventory on a host."""
    devices = inventory.devices
    gpu_of = {device.id: _whole(device, devices) for device in devices.values()}
    members: dict[DeviceID, list[Device]] = {}
    for device in devices.values():
        members.setdefault(gpu_of[device.id], []).append(device)
    places = {gpu: _place(parts, pci.paths) for gpu, parts in members.items()}
    gpus = tuple(sorted(members, key=lambda gpu: (_address(members[gpu]), gpu)))
    nic = pci.nic
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
