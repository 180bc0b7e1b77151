"""vGPUs in a guest: a part of a GPU that looks like a whole one, named for what it is; pure."""

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from deviceplugin.model import ContainerEdits, Device, ResourceName, frozen
from deviceplugin.names import size_class
from deviceplugin.vendors.nvidia.gpus import NvidiaGpu
from deviceplugin.vendors.nvidia.settings import VgpuProfile, VgpuSection

VGPU = ResourceName("nvidia.com/vgpu")
# nvml.h, nvmlGpuVirtualizationMode_t
GUEST_VGPU, HOST_VGPU = 2, 3
# `GRID T4-8Q`, `NVIDIA A40-48Q`, `NVIDIA RTX6000-Ada-24Q`, `GRID T4-2B4`, and on MIG instances
# `GRID A100D-7-40C` and `NVIDIA H100-1-10CME`: type, then memory and series.
_VENDOR = re.compile(r"(?:GRID|NVIDIA) ")
_TYPE = re.compile(rf"{_VENDOR.pattern}([A-Za-z0-9 -]+-\d+[ABCQ](?:\d|[A-Z]+)?)")
_PROFILE, _MEMORY = "vgpu_profile", "vgpu_memory"
PROFILE_VARIABLE, MEMORY_VARIABLE = "NVIDIA_VGPU_PROFILE", "NVIDIA_VGPU_MEMORY"


def type_of(product: str | None) -> str | None:
    """The vGPU type in a guest's product name, `T4-8Q` of `GRID T4-8Q`, None for a real GPU."""
    match = _TYPE.fullmatch(product or "")
    return match[1] if match else None


class GuestVgpu(Struct, frozen=True, kw_only=True):
    """What a guest's vGPU is called; a container gets `attributes` in variables."""

    profile: str
    attributes: Mapping[str, str]


def guest_vgpu(gpu: NvidiaGpu, section: VgpuSection) -> GuestVgpu | None:
    """What a GPU is as a guest's vGPU; None for a real GPU, and where the section is disabled."""
    kind = type_of(gpu.product)
    guest = gpu.virtualization == GUEST_VGPU or kind is not None
    if not guest or not section.enabled:
        return None
    pinned = _pinned(gpu.memory_bytes, section)
    name = pinned.name if pinned else kind or _VENDOR.sub("", gpu.product or "", 1) or "vGPU"
    memory = pinned.memory if pinned else _memory_text(gpu.memory_bytes)
    told = {_PROFILE: name} | ({_MEMORY: memory} if memory else {})
    return GuestVgpu(profile=name, attributes=frozen(told))


def _pinned(memory_bytes: int | None, section: VgpuSection) -> VgpuProfile | None:
    """The profile of about this memory: the driver keeps some of what the type promises."""
    if memory_bytes is None:
        return None
    wanted = size_class(memory_bytes)
    return next((p for p in section.profiles if size_class(p.memory_bytes) == wanted), None)


def _memory_text(memory_bytes: int | None) -> str | None:
    if memory_bytes is None:
        return None
    if memory_bytes < 1 << 30:
        return f"{memory_bytes >> 20}MiB"
    return f"{(memory_bytes + (1 << 29)) >> 30}GiB"


def guest_edits(devices: Sequence[Device]) -> ContainerEdits:
    """The variables of a guest's vGPUs, values of several with commas between."""
    env = {
        variable: ",".join(d.attributes[key] for d in devices if key in d.attributes)
        for variable, key in ((PROFILE_VARIABLE, _PROFILE), (MEMORY_VARIABLE, _MEMORY))
    }
    return ContainerEdits(env=frozen({key: value for key, value in env.items() if value}))
