"""What the parts of AMD discovery hand to each other; pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from deviceplugin.model import Device, DeviceID, Fault, ResourceName
from deviceplugin.names import size_class
from deviceplugin.vendors.amd.kfd import KfdNode
from deviceplugin.vendors.amd.settings import DOMAIN

NAME = "amd"
WHOLE = ResourceName(f"{DOMAIN}/gpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Devices, the faults found with them, and the KFD node number behind each device."""

    devices: tuple[Device, ...] = ()
    faults: tuple[Fault, ...] = ()
    kfd_nodes: tuple[tuple[int, DeviceID], ...] = ()


def merged(findings: Iterable[Finding]) -> Finding:
    """All findings as one, in their order."""
    findings = tuple(findings)
    return Finding(
        devices=tuple(device for f in findings for device in f.devices),
        faults=tuple(fault for f in findings for fault in f.faults),
        kfd_nodes=tuple(pair for f in findings for pair in f.kfd_nodes),
    )


def offered(device: Device, *faults: Fault, node: KfdNode | None = None) -> Finding:
    """A device under its resource's name; a fault that takes it away has it listed Unhealthy."""
    numbers = ((node.number, device.id),) if node else ()
    return Finding(devices=(device,), faults=faults, kfd_nodes=numbers)


def withheld(device: Device, *faults: Fault) -> Finding:
    """A device that has no resource's name, and why: not its own, or one that cannot be told."""
    return Finding(devices=(replace(device, resource=None),), faults=faults)


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
