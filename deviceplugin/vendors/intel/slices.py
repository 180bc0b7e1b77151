"""What a slice of a GPU may be offered as, for containers, on a host or inside a guest; pure."""

from dataclasses import dataclass

from deviceplugin.core.sizes import size_class
from deviceplugin.model import Fault
from deviceplugin.vendors.intel import faults
from deviceplugin.vendors.intel.gpu import Gpu
from deviceplugin.vendors.intel.memory import Memory
from deviceplugin.vendors.intel.settings import XeInstance, XeSettings

_INTEGRATED_PROFILE = "gpu-vf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A slice's profile and pinned instance; `offered` tells whether it is given out at all."""

    offered: bool
    profile: str | None = None
    instance: XeInstance | None = None
    faults: tuple[Fault, ...] = ()


def slice_terms(xe: XeSettings, gpu: Gpu, memory: Memory | None) -> Terms:
    """The name of a slice: as pinned, else by its size, or a common one if it has no memory.

    A list of instances is also the list of what is offered.
    """
    instance = xe.instance_of(memory.bytes) if memory else None
    profile = instance.name if instance else _profile(gpu, memory)
    if not xe.enabled:
        return Terms(offered=False, profile=profile, instance=instance)
    if profile is None:
        return Terms(offered=False, faults=(faults.unknown_size(gpu.address),))
    if xe.instances and instance is None:
        refusal = faults.not_listed(gpu.address, profile)
        return Terms(offered=False, profile=profile, faults=(refusal,))
    return Terms(offered=True, profile=profile, instance=instance)


def _profile(gpu: Gpu, memory: Memory | None) -> str | None:
    if memory is not None:
        return f"xe-{size_class(memory.bytes)}"
    return _INTEGRATED_PROFILE if gpu.integrated else None
