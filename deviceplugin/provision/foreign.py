"""Layouts from the files of others as they are: NVIDIA's mig-parted (v1) and AMD's Device Config
Manager; pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from deviceplugin.provision.section import ComputeMode, Count, Layout, MemoryMode, Selector


class MigEntry(Struct, frozen=True, kw_only=True, rename="kebab"):
    """One entry of a configuration of mig-parted."""

    devices: Literal["all"] | tuple[int, ...]
    mig_enabled: bool
    device_filter: str | tuple[str, ...] = ()
    mig_devices: Mapping[str, Count] = field(default_factory=dict)


class MigParted(Struct, frozen=True, kw_only=True, rename="kebab"):
    """The file of mig-parted and of NVIDIA's MIG manager."""

    version: Literal["v1"]
    mig_configs: Mapping[str, tuple[MigEntry, ...]]


class _Ids(Struct, frozen=True, kw_only=True):
    ids: tuple[int, ...] = ()


class DcmShare(Struct, frozen=True, kw_only=True, rename="camel"):
    """So many GPUs of a profile of the Device Config Manager."""

    compute_partition: ComputeMode
    memory_partition: MemoryMode | None = None
    num_gpus_assigned: Annotated[int, Meta(ge=0, le=256)] = field(name="numGPUsAssigned", default=0)


class DcmProfile(Struct, frozen=True, kw_only=True):
    """A profile of the Device Config Manager."""

    profiles: tuple[DcmShare, ...]
    skipped: _Ids = field(name="skippedGPUs", default_factory=_Ids)


class Dcm(Struct, frozen=True, kw_only=True):
    """The file of AMD's Device Config Manager; its systemd services are not ours to stop."""

    profiles: Mapping[str, DcmProfile] = field(name="gpu-config-profiles")
    services: Any = field(name="gpuClientSystemdServices", default=None)  # not used


def is_mig_parted(raw: Mapping[str, Any]) -> bool:
    """Whether a document is of mig-parted."""
    return "mig-configs" in raw


def is_dcm(raw: Mapping[str, Any]) -> bool:
    """Whether a document is of the Device Config Manager."""
    return "gpu-config-profiles" in raw


def mig_layouts(entries: Sequence[MigEntry]) -> tuple[Layout, ...]:
    """The layouts of one named configuration."""
    return tuple(_mig_layout(entry) for entry in entries)


def dcm_layouts(profile: DcmProfile) -> tuple[Layout, ...]:
    """The layouts of one named profile: its shares take the GPUs in order, without the skipped."""
    return tuple(_dcm_layouts(profile))


def _mig_layout(entry: MigEntry) -> Layout:
    filters = entry.device_filter
    device = (filters,) if isinstance(filters, str) else filters
    select = Selector(
        vendor="nvidia",
        device=device or None,
        index=None if entry.devices == "all" else entry.devices,
    )
    if entry.mig_enabled:
        return Layout(select=select, mig=dict(entry.mig_devices))
    return Layout(select=select, none=True)


def _dcm_layouts(profile: DcmProfile) -> Iterator[Layout]:
    number = 0
    for share in profile.profiles:
        chosen: list[int] = []
        while len(chosen) < share.num_gpus_assigned:
            if number not in profile.skipped.ids:
                chosen.append(number)
            number += 1
        yield Layout(
            select=Selector(vendor="amd", index=tuple(chosen)),
            compute=share.compute_partition,
            memory=share.memory_partition,
        )
