"""What is told about an Intel device beside the model's own fields; pure.

Written here at discovery and read only by `edits`, so that their spelling has one home.
"""

from collections.abc import Iterable, Mapping

from deviceplugin.model import Device, frozen
from deviceplugin.vendors.intel.gpu import Gpu
from deviceplugin.vendors.intel.memory import Memory
from deviceplugin.vendors.intel.settings import XeInstance

ALLOCATED_WITH = "allocated_with"
BY_PATH = "by_path"
COMPUTE_UNITS = "compute_units"
MEMBERS = "vfio_functions"
SLICE_MEMORY = "slice_memory"


def common(gpu: Gpu, memory: Memory | None) -> dict[str, str]:
    """Driver, ids and nodes of a function, and which source its memory is from."""
    facts: dict[str, str | None] = {
        "card": gpu.drm.card,
        "device_id": f"0x{gpu.function.device_id:04x}",
        "driver": gpu.driver,
        "iommu_group": gpu.iommu_group,
        "memory_source": memory.source if memory else None,
        "render": gpu.drm.render,
    }
    return {key: value for key, value in facts.items() if value is not None}


def of_board(gpu: Gpu, tiles: int | None, guest: bool) -> dict[str, str]:
    """How a whole GPU is built and divided; `guest` marks a slice inside a virtual machine."""
    facts: dict[str, str | None] = {
        "function": "virtual in a guest" if guest else None,
        "tiles": str(tiles) if tiles else None,
        "virtual_functions": str(gpu.enabled_virtual) if gpu.total_virtual else None,
        "virtual_functions_possible": str(gpu.total_virtual) if gpu.total_virtual else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def of_slice(gpu: Gpu, owner: Gpu) -> dict[str, str]:
    """Where a virtual function belongs; the index counts from 1 as the drivers do."""
    index = owner.virtual.index(gpu.address) + 1
    return {"physical_function": owner.address, "vf_index": str(index)}


def of_links(gpu: Gpu, links: frozenset[str]) -> dict[str, str]:
    """udev's names of this GPU in /dev/dri/by-path: exactly the card's and the render node's.

    Others that begin alike, such as a simple-framebuffer's, are of no use and may lead nowhere.
    """
    names = (f"pci-{gpu.address}-card", f"pci-{gpu.address}-render")
    present = [name for name in names if name in links]
    return {BY_PATH: ",".join(present)} if present else {}


def of_instance(instance: XeInstance | None) -> dict[str, str]:
    """What a pinned slice's container is told, as the list spells it."""
    if instance is None:
        return {}
    units = {COMPUTE_UNITS: instance.compute_units, "execution_units": instance.execution_units}
    known = {key: str(value) for key, value in units.items() if value is not None}
    return {SLICE_MEMORY: instance.memory, **known}


def of_members(addresses: Iterable[str]) -> dict[str, str]:
    """The functions that a guest gets with one allocation: all of an IOMMU group."""
    return {MEMBERS: ",".join(addresses)}


def members(device: Device) -> tuple[str, ...]:
    """The functions of a device for virtual machines, none for any other device."""
    text = device.attributes.get(MEMBERS)
    return tuple(text.split(",")) if text else ()


def merged(*parts: Mapping[str, str]) -> Mapping[str, str]:
    """Several parts as one frozen mapping."""
    return frozen({key: value for part in parts for key, value in part.items()})
