"""How far two GPUs are from each other, as a cost; pure.

A cost is an integer, lower is better, and costs of pairs add up to the cost of a set. A pair of
which nothing is known costs the most: an absent reading must not look like a good link.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from deviceplugin.model import Link, LinkKind

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
_FABRICS = (LinkKind.NVLINK, LinkKind.XGMI, LinkKind.XELINK)
# KFD weights of XGMI are 13 to 41 (a hop is 15); more hops stay better than any PCIe.
_MAX_WEIGHT = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a PCI function sits; `path` is its directory under /sys/devices, None if unknown."""

    path: str | None = None
    numa_node: int | None = None


@dataclass(frozen=True, slots=True)
class Distance:
    """The cost of a pair and the words for it."""

    cost: int
    relation: str


def distance(links: Iterable[Link], one: Place, other: Place) -> Distance:
    """The best of the links and the places of a pair.

    A fabric link is better than any PCIe path. The PCIe level is a small part of its cost, so
    that behind an NVSwitch, where all links are alike, GPUs near to each other come first.
    """
    links = tuple(links)
    level = min(pcie_level(one, other), *map(_link_level, links), NO_LEVEL)
    fabric = min((link for link in links if link.kind in _FABRICS), key=_fabric_cost, default=None)
    if fabric is not None:
        return Distance(100 * _fabric_cost(fabric) + level // 10, _fabric_name(fabric))
    if level == NO_LEVEL:
        return Distance(UNKNOWN, LEVEL_NAMES[NO_LEVEL])
    return Distance(100 * (200 + 4 * level), LEVEL_NAMES[level])


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
    if link.kind is not LinkKind.PCIE or link.weight is None:
        return NO_LEVEL
    return min(-(-link.weight // 10) * 10, SYSTEM)


def _fabric_cost(link: Link) -> int:
    if link.weight is not None:
        return min(link.weight, _MAX_WEIGHT)
    return 10 + 90 // max(link.width, 1)


def _fabric_name(link: Link) -> str:
    if link.weight is not None:
        return f"{link.kind} weight {link.weight}"
    return f"{link.kind} ×{link.width}"
