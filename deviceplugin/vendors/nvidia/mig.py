"""MIG instances: their profile names and their capability nodes; nothing about allocation.

Source of the tables: nvml.h, NVML_GPU_INSTANCE_PROFILE_* and NVML_COMPUTE_INSTANCE_PROFILE_*.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

from deviceplugin.errors import DiscoveryError, LibraryError
from deviceplugin.host import Host
from deviceplugin.host.numbers import parse_decimal
from deviceplugin.model import Place
from deviceplugin.vendors.nvidia.codes import (
    FATAL,
    FUNCTION_NOT_FOUND,
    INVALID_ARGUMENT,
    NOT_FOUND,
    NOT_SUPPORTED,
)
from deviceplugin.vendors.nvidia.library import MAX_INSTANCES, Nvml, implausible

MIG_MINORS = "/proc/driver/nvidia-caps/mig-minors"
_HOLE = frozenset({NOT_FOUND, INVALID_ARGUMENT})
_NO_SUCH_PROFILE = frozenset({NOT_SUPPORTED, INVALID_ARGUMENT, NOT_FOUND})

# index of the profile: suffix of the name
GPU_INSTANCE_SUFFIXES: Mapping[int, str] = {
    **dict.fromkeys((0, 1, 2, 3, 4, 5, 6, 9), ""),
    **dict.fromkeys((7, 8), "+me"),
    **dict.fromkeys((10, 11, 12, 17), "+gfx"),
    **dict.fromkeys((13, 14), "-me"),
    **dict.fromkeys((15, 16), "+me.all"),
}
# nvml.h, nvmlDeviceAttributes_t
_ENGINES = (
    ("copy", "CopyEngine"),
    ("decoder", "Decoder"),
    ("encoder", "Encoder"),
    ("jpeg", "Jpeg"),
    ("ofa", "Ofa"),
)
PROFILE_INDICES = 32  # more than any driver has: an index that is unknown to us is still read


class MigInstance(Struct, frozen=True, kw_only=True):
    """A MIG device as NVML reports it; memory in MiB, minors None where the node has none;
    `slices` are those of the GPU instance and of the compute instance, `place` is the driver's id
    of the GPU instance's profile, the memory slice where it starts and how many it has."""

    uuid: str
    index: int
    gpu_instance: int
    compute_instance: int
    profile: str
    memory_mib: int
    multiprocessors: int
    slices: tuple[int, int] | None = None
    place: tuple[int, int, int] | None = None
    engines: tuple[tuple[str, int], ...] = ()


class UnreadInstance(Struct, frozen=True, kw_only=True):
    """A MIG device that NVML has in a slot and does not describe; `uuid` None where not even that
    could be read."""

    slot: int
    uuid: str | None
    error: LibraryError


Instances = tuple[tuple[MigInstance, ...], tuple[UnreadInstance, ...]]


def profile_name(
    *, total_bytes: int, memory_mib: int, slices: tuple[int, int], suffix: str = ""
) -> str:
    """The name NVIDIA gives a profile: `1g.5gb`, `1c.3g.20gb`, `1g.5gb+me`.

    `slices` are those of the GPU instance and of the compute instance. Memory is rounded up to
    eighths of the GPU and half up to whole GB, in integers: Python's round() is half to even
    and would call the 3g.71gb of an H200 3g.70gb.
    """
    eighths = -(-8 * memory_mib * (1 << 20) // total_bytes)
    gib = -(-total_bytes // (1 << 30))
    gpu, compute = slices
    part = f"{compute}c." if compute != gpu else ""
    return f"{part}{gpu}g.{(eighths * gib + 4) // 8}gb{suffix}"


def resource_suffix(profile: str) -> str:
    """What a resource name says of a profile: `1g.5gb+me` is `mig-1g.5gb.me`."""
    return "mig-" + profile.replace("+", ".")


def read_instances(nvml: Nvml, gpu: Any, total_bytes: int | None) -> Instances:
    """All MIG devices of a GPU, and those that cannot be read; slots without one are skipped.

    Raises LibraryError where none can be read, and for what no GPU can be: profiles are named by
    shares of its memory.
    """
    slots = nvml.count("nvmlDeviceGetMaxMigDeviceCount", MAX_INSTANCES, gpu)
    if slots and not total_bytes:
        raise implausible("nvmlDeviceGetMemoryInfo", "no memory for a GPU in MIG mode")
    found = [_read_slot(nvml, gpu, index, total_bytes or 0) for index in range(slots)]
    instances = tuple(one for one in found if isinstance(one, MigInstance))
    unread = tuple(one for one in found if isinstance(one, UnreadInstance))
    if unread and not instances:  # it is the GPU then, or a right that we lack
        raise unread[0].error
    return instances, unread


def _read_slot(
    nvml: Nvml, gpu: Any, index: int, total_bytes: int
) -> MigInstance | UnreadInstance | None:
    """One that fails costs itself alone; raises LibraryError where the GPU fails."""
    uuid = None
    try:
        handle = read_instance_handle(nvml, gpu, index)
        if handle is None:
            return None
        uuid = nvml.uuid(handle)
        return _read_instance(nvml, gpu, (index, handle, uuid), total_bytes)
    except LibraryError as error:
        if error.code in FATAL:
            raise
        return UnreadInstance(slot=index, uuid=uuid, error=error)


def read_instance_handle(nvml: Nvml, gpu: Any, index: int) -> Any | None:
    """The handle of the MIG device in a slot, None for a hole; raises LibraryError."""
    try:
        return nvml.call("nvmlDeviceGetMigDeviceHandleByIndex", gpu, index)
    except LibraryError as error:
        if error.code in _HOLE:
            return None
        raise


def _read_instance(
    nvml: Nvml, gpu: Any, slot: tuple[int, Any, str], total_bytes: int
) -> MigInstance:
    index, device, uuid = slot
    attributes = nvml.call("nvmlDeviceGetAttributes_v2", device)
    gpu_instance = nvml.call("nvmlDeviceGetGpuInstanceId", device)
    slices = (attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount)
    if not (0 < slices[1] <= slices[0] and 0 < attributes.memorySizeMB << 20 <= total_bytes):
        text = f"{slices} slices and {attributes.memorySizeMB} MiB of {total_bytes} bytes"
        raise implausible("nvmlDeviceGetAttributes_v2", text)
    handle = nvml.call("nvmlDeviceGetGpuInstanceById", gpu, gpu_instance)
    placed = nvml.call("nvmlGpuInstanceGetInfo", handle)
    memory_mib, suffix = attributes.memorySizeMB, _suffix(nvml, gpu, placed.profileId)
    return MigInstance(
        uuid=uuid,
        index=index,
        gpu_instance=gpu_instance,
        compute_instance=nvml.call("nvmlDeviceGetComputeInstanceId", device),
        profile=profile_name(
            total_bytes=total_bytes, memory_mib=memory_mib, slices=slices, suffix=suffix
        ),
        memory_mib=memory_mib,
        multiprocessors=attributes.multiprocessorCount,
        slices=slices,
        place=_place(placed),
        engines=tuple((name, getattr(attributes, f"shared{key}Count")) for name, key in _ENGINES),
    )


def place_of(instance: MigInstance, total_bytes: int | None) -> Place | None:
    """Where an instance is on its GPU; None where the driver does not say, or for a part of one.

    The places of a profile follow from its sizes: it starts at multiples of its memory slices,
    where its compute slices are not beyond those of the GPU, which are as many as those of memory,
    but seven of eight (NVIDIA, MIG user guide, supported profiles).
    """
    if instance.place is None or instance.slices is None or not total_bytes:
        return None
    (_, start, size), (compute, own) = instance.place, instance.slices
    if own != compute or size < 1 or not instance.memory_mib:
        return None
    slices = round(size * (total_bytes >> 20) / instance.memory_mib)
    most = 7 if slices == 8 else slices
    starts = tuple(at for at in range(0, slices, size) if at + compute <= most)
    if start not in starts:
        return None
    return Place(slices=slices, start=start, size=size, starts=starts)


def _place(info: Any) -> tuple[int, int, int] | None:
    """None where a recording of an older look has no place."""
    placement = getattr(info, "placement", None)
    if placement is None:
        return None
    return int(info.profileId), int(placement.start), int(placement.size)


def _suffix(nvml: Nvml, gpu: Any, wanted: int) -> str:
    """`+me`, `+gfx`, … of the instance's profile, found by the driver's profile id.

    A profile that is not in our table has its name from the driver, or no suffix at all.
    """
    for index in range(PROFILE_INDICES):
        info = profile_info(nvml, gpu, index)
        if info is not None and info.id == wanted:
            return suffix_at(index, info)
    return ""


def suffix_at(index: int, info: Any) -> str:
    """The suffix of the profile that NVML has at this index."""
    if index in GPU_INSTANCE_SUFFIXES:
        return GPU_INSTANCE_SUFFIXES[index]
    return suffix_of(_profile_text(info))


def profile_info(nvml: Nvml, gpu: Any, index: int) -> Any:
    """What NVML tells of the profile at an index, None where it has none; raises LibraryError."""
    try:
        return nvml.call("nvmlDeviceGetGpuInstanceProfileInfo", gpu, index)
    except LibraryError as error:
        if error.code == FUNCTION_NOT_FOUND:  # before R470: no names in the answer
            return nvml.ask("nvmlDeviceGetGpuInstanceProfileInfo", gpu, index, 1)
        if error.code in _NO_SUCH_PROFILE:
            return None
        raise


def _profile_text(info: Any) -> str:
    name = getattr(info, "name", b"")
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def suffix_of(name: str) -> str:
    """What follows the memory in a driver's own profile name, `MIG 1g.5gb+me` has `+me`."""
    match = re.search(r"\d+gb([-+][a-z0-9.+-]+)$", name.strip())
    return match[1] if match else ""


@lru_cache(maxsize=1)  # thousands of lines that never change, read at each discovery
def parse_mig_minors(text: str) -> Mapping[str, int]:
    """`gpu0/gi1/access 12` lines as {"gpu0/gi1/access": 12}; other lines are skipped."""
    pairs = (line.split() for line in text.splitlines())
    found = {pair[0]: parse_decimal(pair[1]) for pair in pairs if len(pair) == 2}
    return {key: minor for key, minor in found.items() if minor is not None}


def read_mig_minors(host: Host) -> Mapping[str, int]:
    """The minors of all capability nodes; none where the file is absent or unreadable."""
    try:
        return parse_mig_minors(host.read_text(MIG_MINORS) or "")
    except DiscoveryError:
        return {}


def capability_nodes(
    minors: Mapping[str, int], gpu_minor: int, instance: MigInstance
) -> tuple[str, ...]:
    """The two nodes that open a MIG device, of its GPU instance and of its compute instance.

    The file is keyed by the GPU's device minor, not by its NVML index; empty where it has no
    entry for them.
    """
    parent = f"gpu{gpu_minor}/gi{instance.gpu_instance}"
    keys = (f"{parent}/access", f"{parent}/ci{instance.compute_instance}/access")
    if any(key not in minors for key in keys):
        return ()
    return tuple(f"/dev/nvidia-caps/nvidia-cap{minors[key]}" for key in keys)
