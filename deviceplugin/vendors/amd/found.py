"""What the parts of AMD discovery hand to each other; pure."""

from collections.abc import Iterable

from msgspec import Struct

from deviceplugin.model import Device, DeviceID, Fault, ResourceName
from deviceplugin.names import size_class
from deviceplugin.vendors.amd.kfd import KfdNode
from deviceplugin.vendors.amd.settings import DOMAIN

NAME = "amd"
WHOLE = ResourceName(f"{DOMAIN}/gpu")


class Found(Struct, frozen=True, kw_only=True):
    """Devices, the faults found with them, and the KFD node number behind each device."""

    devices: tuple[Device, ...] = ()
    faults: tuple[Fault, ...] = ()
    kfd_nodes: tuple[tuple[int, DeviceID], ...] = ()


def merged(parts: Iterable[Found]) -> Found:
    """All that was found as one, in its order."""
    parts = tuple(parts)
    return Found(
        devices=tuple(device for part in parts for device in part.devices),
        faults=tuple(fault for part in parts for fault in part.faults),
        kfd_nodes=tuple(pair for part in parts for pair in part.kfd_nodes),
    )


def found(device: Device, *faults: Fault, node: KfdNode | None = None) -> Found:
    """One device with its faults and, where it has one, its KFD node."""
    numbers = ((node.number, device.id),) if node else ()
    return Found(devices=(device,), faults=faults, kfd_nodes=numbers)


def size_of(memory_bytes: int | None) -> str | None:
    """The size class of a memory, None where it is unknown."""
    return size_class(memory_bytes) if memory_bytes else None


def known(**attributes: str | int | None) -> dict[str, str]:
    """Attributes without the unknown ones: an absent attribute, never an empty one."""
    return {key: str(value) for key, value in attributes.items() if value not in (None, "")}


def node_attributes(node: KfdNode | None) -> dict[str, str]:
    """What only KFD knows of a GPU or a partition."""
    if node is None:
        return {}
    return known(
        gfx_version=node.gfx_version, compute_units=node.compute_units, xgmi_hive=node.hive
    )
