"""Compute modes: from the mode that is there to the one that is wanted; pure.

The memory modes that a compute mode can have stand in the kernel's
drivers/gpu/drm/amd/amdgpu/aqua_vanjaram.c.
"""

from collections.abc import Mapping
from types import MappingProxyType

from deviceplugin.provision.values import Refused, Waiting
from deviceplugin.vendor.partitions import PartitionedGpu, Step, Verb

MEMORY_MODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "SPX": ("NPS1",),
        "DPX": ("NPS1", "NPS2"),
        "TPX": ("NPS1", "NPS4"),
        "QPX": ("NPS1", "NPS4"),
        "CPX": ("NPS1", "NPS2", "NPS4"),
    }
)
WHOLE = "SPX"


def mode_steps(gpu: PartitionedGpu, compute: str | None, memory: str | None) -> tuple[Step, ...]:
    """The steps to this compute mode; raises Refused or Waiting."""
    modes = gpu.modes
    if modes is None:
        raise Refused(f"this {gpu.product} has no compute modes")
    if memory is not None and modes.memory is not None and memory != modes.memory:
        raise Refused(
            f"the memory mode is {modes.memory}: {memory} is set for all GPUs of the node at once,"
            " by amd-smi set --memory-partition, with the driver loaded again"
        )
    if compute is None or compute == modes.compute:
        return ()
    if modes.memory is not None and modes.memory not in MEMORY_MODES[compute]:
        allowed = " or ".join(MEMORY_MODES[compute])
        raise Refused(f"{compute} needs the memory mode {allowed}, and it is {modes.memory}")
    if compute not in modes.available:
        known = ", ".join(modes.available) or "none"
        raise Refused(f"{compute} is no mode of this {gpu.product} now; the driver offers {known}")
    if gpu.users:
        raise Waiting(gpu.users, f"the GPU is in use by {', '.join(gpu.users)}")
    return (Step(gpu=gpu.id, verb=Verb.COMPUTE, name=compute, was_name=modes.compute),)
