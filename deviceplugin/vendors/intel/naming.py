"""Names of Intel's resources, profiles and attributes; pure."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from deviceplugin.model import Fault, ResourceName, frozen
from deviceplugin.names import size_class
from deviceplugin.vendors.intel import faults
from deviceplugin.vendors.intel.gpu import IntelGpu
from deviceplugin.vendors.intel.memory import Memory
from deviceplugin.vendors.intel.settings import (
    DOMAIN,
    VFIO_SUFFIX,
    IntelSettings,
    XeInstance,
    XeSettings,
)

# The domain of Intel's own device plugin.
_DRIVER_DOMAIN = "gpu.intel.com"


def drm_name(settings: IntelSettings, profile: str, driver: str) -> ResourceName:
    """The resource of a GPU or slice that `driver` serves; `profile` is `gpu` for a whole one.

    Intel's own plugin calls all of these by the driver, whole or not: so does that option.
    """
    if settings.resource_naming == "driver":
        return ResourceName(f"{_DRIVER_DOMAIN}/{driver}")
    return ResourceName(f"{DOMAIN}/{profile}")


def vfio_name(profile: str) -> ResourceName:
    """The resource of a slice for virtual machines, never mixed with those for containers."""
    return ResourceName(f"{DOMAIN}/{profile}{VFIO_SUFFIX}")


def monitoring_name(settings: IntelSettings) -> ResourceName:
    """The resource that gives every node of every Intel GPU."""
    if settings.resource_naming == "driver":
        return ResourceName(f"{_DRIVER_DOMAIN}/monitoring")
    return ResourceName(f"{DOMAIN}/gpu-monitoring")


_INTEGRATED_PROFILE = "gpu-vf"


class SliceOffer(Struct, frozen=True, kw_only=True):
    """A slice's profile and pinned instance; `offered` is whether it is advertised at all."""

    offered: bool
    profile: str | None = None
    instance: XeInstance | None = None
    faults: tuple[Fault, ...] = ()


def slice_offer(xe: XeSettings, gpu: IntelGpu, memory: Memory | None) -> SliceOffer:
    """The name of a slice: as pinned, else by its size, or a common one if it has no memory.

    A list of instances is also the list of what is offered.
    """
    instance = xe.instance_of(memory.bytes) if memory else None
    profile = instance.name if instance else _profile(gpu, memory)
    if not xe.enabled:
        return SliceOffer(offered=False, profile=profile, instance=instance)
    if profile is None:
        return SliceOffer(offered=False, faults=(faults.unknown_size(gpu.address),))
    if xe.instances and instance is None:
        refusal = faults.not_listed(gpu.address, profile)
        return SliceOffer(offered=False, profile=profile, faults=(refusal,))
    return SliceOffer(offered=True, profile=profile, instance=instance)


def _profile(gpu: IntelGpu, memory: Memory | None) -> str | None:
    if memory is not None:
        return f"xe-{size_class(memory.bytes)}"
    return _INTEGRATED_PROFILE if gpu.integrated else None


ALLOCATED_WITH = "allocated_with"


BY_PATH = "by_path"


COMPUTE_UNITS = "compute_units"


MEMBERS = "vfio_functions"


SLICE_MEMORY = "slice_memory"


def common(gpu: IntelGpu, memory: Memory | None) -> dict[str, str]:
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


def of_board(gpu: IntelGpu, tiles: int | None, guest: bool) -> dict[str, str]:
    """How a whole GPU is built and divided; `guest` marks a slice inside a virtual machine."""
    facts: dict[str, str | None] = {
        "function": "virtual in a guest" if guest else None,
        "tiles": str(tiles) if tiles else None,
        "virtual_functions": str(gpu.enabled_virtual) if gpu.total_virtual else None,
        "virtual_functions_possible": str(gpu.total_virtual) if gpu.total_virtual else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def of_slice(gpu: IntelGpu, owner: IntelGpu) -> dict[str, str]:
    """Where a virtual function belongs; the index counts from 1 as the drivers do."""
    index = owner.virtual.index(gpu.address) + 1
    return {"physical_function": owner.address, "vf_index": str(index)}


def of_links(gpu: IntelGpu, links: frozenset[str]) -> dict[str, str]:
    """udev's names of this GPU in /dev/dri/by-path: exactly the card's and the render node's.

    Others that begin alike, such as a simple-framebuffer's, are of no use and may lead nowhere.
    """
    names = (f"pci-{gpu.address}-card", f"pci-{gpu.address}-render")
    present = [name for name in names if name in links]
    return {BY_PATH: ",".join(present)} if present else {}


def of_instance(instance: XeInstance | None) -> dict[str, str]:
    """What a pinned slice's container gets in variables, as the list spells it."""
    if instance is None:
        return {}
    units = {COMPUTE_UNITS: instance.compute_units, "execution_units": instance.execution_units}
    known = {key: str(value) for key, value in units.items() if value is not None}
    return {SLICE_MEMORY: instance.memory, **known}


def of_members(addresses: Iterable[str]) -> dict[str, str]:
    """The functions that a guest gets with one allocation: all of an IOMMU group."""
    return {MEMBERS: ",".join(addresses)}


def merged(*parts: Mapping[str, str]) -> Mapping[str, str]:
    """Several parts as one frozen mapping."""
    return frozen({key: value for part in parts for key, value in part.items()})
