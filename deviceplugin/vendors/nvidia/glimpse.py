"""What of NVML's answers changes while its driver stays loaded: the GPUs and their MIG layout.

A GPU's name, minor, address, architecture and capability do not; ECC and virtualization mode change
with a reset, after which a uevent or the regular look reads them.
"""

from collections.abc import Hashable
from typing import Any

from deviceplugin.vendors.nvidia.discovery import MAX_GPUS
from deviceplugin.vendors.nvidia.gpus import read_handle
from deviceplugin.vendors.nvidia.library import Nvml
from deviceplugin.vendors.nvidia.partitions import MAX_INSTANCES, read_instance_handle

Glimpse = tuple[Hashable, ...]


def read_glimpse(nvml: Nvml) -> Glimpse:
    """A value that differs where the GPUs or their instances do; LibraryError for a lost GPU."""
    count = nvml.count("nvmlDeviceGetCount", MAX_GPUS)
    return tuple(_read_gpu(nvml, read_handle(nvml, index)) for index in range(count))


def _read_gpu(nvml: Nvml, handle: Any) -> Hashable:
    """The memory is asked because the GPU itself answers: the library knows UUIDs by heart."""
    memory = nvml.ask("nvmlDeviceGetMemoryInfo", handle)
    mig = nvml.ask("nvmlDeviceGetMigMode", handle)
    instances: Glimpse = ()
    if mig and mig[0]:
        slots = nvml.count("nvmlDeviceGetMaxMigDeviceCount", MAX_INSTANCES, handle)
        instances = tuple(_read_instance(nvml, handle, slot) for slot in range(slots))
    return (nvml.uuid(handle), memory and memory.total, mig and tuple(mig), instances)


def _read_instance(nvml: Nvml, gpu: Any, slot: int) -> Hashable:
    """Its UUID comes from the numbers of its parts, its attributes from its profile."""
    handle = read_instance_handle(nvml, gpu, slot)
    if handle is None:
        return None
    found = nvml.call("nvmlDeviceGetAttributes_v2", handle)
    slices = (found.gpuInstanceSliceCount, found.computeInstanceSliceCount)
    return (nvml.uuid(handle), slices, found.memorySizeMB)
