"""What a device's slice says of it, under the names that its vendor's own DRA driver has; pure.

Expressions of claims and DeviceClasses select by these names. What is not known is left out.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct

from deviceplugin.dra.limits import Value, parse_version
from deviceplugin.model import Device, DeviceID, Health, LinkKind

STANDARD = "resource.kubernetes.io"
# The engines of a MIG instance by NVML's words, and what the slice calls them.
ENGINES = {
    "copy": "copyEngines",
    "decoder": "decoders",
    "encoder": "encoders",
    "jpeg": "jpegEngines",
    "ofa": "ofaEngines",
}
# What is known of an instance before it is made.
CAPACITIES = frozenset({"memory", "multiprocessors", *ENGINES.values()})
Facts = dict[str, Value | None]


class Seen(Struct, frozen=True, kw_only=True):
    """What is known beside the device: its driver's version, the root of its PCI tree, its
    group of linked GPUs, its health."""

    driver_version: str | None = None
    pcie_root: str | None = None
    link_group: str | None = None
    health: Health = Health.HEALTHY


def attributes_of(device: Device, seen: Seen) -> Mapping[str, Value]:
    """The attributes of a device, by its vendor's names and the standard ones."""
    facts = _OF_VENDOR.get(device.vendor, _of_other)(device, seen)
    facts |= {
        "linkGroup": seen.link_group if device.parent is None else None,
        f"{STANDARD}/pciBusID": device.pci_address,
        f"{STANDARD}/pcieRoot": seen.pcie_root,
        f"{STANDARD}/numaNode": device.numa_node,
    }
    return {key: value for key, value in sorted(facts.items()) if value is not None}


def link_groups(devices: Mapping[DeviceID, Device]) -> Mapping[DeviceID, str]:
    """Of each whole GPU the group of those that it reaches over links of their own (NVLink, XGMI,
    Xe Link), named by one of them; a GPU without links is a group of its own.

    DRA has no relation between devices: GPUs of one group have one value, which a claim's
    `matchAttribute` compares.
    """
    groups = {one.id: one.id for one in devices.values() if one.parent is None}
    for device in (devices[one] for one in sorted(groups)):
        for link in device.links:
            ours, theirs = groups[device.id], groups.get(link.peer)
            if theirs is not None and theirs != ours and link.kind != LinkKind.PCIE:
                first = min(ours, theirs)
                groups = {k: first if g in (ours, theirs) else g for k, g in groups.items()}
    return groups


def capacity_of(device: Device) -> Mapping[str, int]:
    """The capacities of a device, in bytes and numbers."""
    found = {
        "memory": device.memory_bytes,
        "multiprocessors": _number(device, "nvidia", "multiprocessors"),
        "computeUnits": _number(device, "amd", "compute_units"),
        "millicores": 1000 if device.vendor == "intel" else None,
        **{key: _number(device, "nvidia", f"{word}_engines") for word, key in ENGINES.items()},
        **_memory_slices(device),
    }
    return {key: number for key, number in found.items() if number is not None}


def _memory_slices(device: Device) -> Mapping[str, int]:
    """The slices of its GPU's memory that a MIG instance has: two with one in common cannot be of
    one GPU."""
    start, size = (_number(device, "nvidia", f"placement_{word}") for word in ("start", "size"))
    if start is None or size is None:
        return {}
    return {f"memorySlice{number}": 1 for number in range(start, start + size)}


def _of_nvidia(device: Device, seen: Seen) -> Facts:
    capability = device.attributes.get("compute_capability")
    return {
        "type": "gpu" if device.parent is None else "mig",
        "uuid": device.id,
        "parentUUID": device.parent,
        "profile": None if device.parent is None else device.profile,
        "productName": device.product,
        "architecture": device.architecture,
        "cudaComputeCapability": _version(capability),
        "driverVersion": _version(seen.driver_version),
    }


def _of_amd(device: Device, seen: Seen) -> Facts:
    compute, memory = (
        device.attributes.get(name) for name in ("compute_partition", "memory_partition")
    )
    return {
        "type": "amdgpu" if device.parent is None else "amdgpu-partition",
        "pciAddr": device.pci_address if device.parent is None else None,
        "parentPciAddr": None if device.parent is None else device.pci_address,
        "productName": device.product,
        "partitionProfile": f"{compute}_{memory}".lower() if compute and memory else None,
        "driverVersion": _version(seen.driver_version),
    }


def _of_intel(device: Device, seen: Seen) -> Facts:
    return {
        "type": "gpu" if device.parent is None else "vf",
        "model": device.product,
        "driver": device.driver or device.attributes.get("driver"),
        "pciId": device.attributes.get("device_id"),
        "pciAddress": device.pci_address,
        "health": str(seen.health),
    }


def _of_other(device: Device, seen: Seen) -> Facts:
    return {
        "type": device.noun,
        "uuid": device.id,
        "parentUUID": device.parent,
        "profile": device.profile,
        "productName": device.product,
        "driverVersion": _version(seen.driver_version),
    }


_OF_VENDOR: Mapping[str, Callable[[Device, Seen], Facts]] = {
    "nvidia": _of_nvidia,
    "amd": _of_amd,
    "intel": _of_intel,
}


def _version(text: str | None) -> Value | None:
    return parse_version(text) if text else None


def _number(device: Device, vendor: str, name: str) -> int | None:
    text = device.attributes.get(name, "") if device.vendor == vendor else ""
    return int(text) if text.isascii() and text.isdecimal() else None
