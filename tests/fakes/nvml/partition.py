"""Cuts a GPU into MIG devices by profile name, with the ids and placements a driver would give."""

import re
from collections.abc import Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from tests.fakes.nvml.model import CiProfile, GiProfile, Gpu, MigInstance

_NAME = re.compile(r"(?:(?P<compute>\d)c\.)?(?P<gi>\d+g\.\d+gb.*)")
_FIRST_GI = {7: 0, 4: 1, 3: 1, 2: 3, 1: 7}
_SLICES_OF_A_GPU = 8


class _Instance(Struct):
    """A GPU instance in the making, and the compute instances (slot, profile) put into it."""

    profile: GiProfile
    compute: list[tuple[int, CiProfile]] = field(default_factory=list)
    gi: int = 0
    start: int = 0

    def free_slices(self) -> int:
        return self.profile.slices - sum(ci.slices for _, ci in self.compute)


def with_mig(gpu: Gpu, profiles: Sequence[str | None]) -> Gpu:
    """MIG mode on, cut as the names say (`3g.20gb`, `1c.3g.20gb`); None leaves a hole in the slots.

    Devices of one compute-sliced profile share a GPU instance until it is full. Every cut gives
    new UUIDs, as re-created instances have. ValueError: unknown profile, or no room for it.
    """
    instances = _gather(gpu, profiles)
    _place(gpu, instances)
    _number(instances)
    devices = [_device(gpu, instance, n) for instance in instances for n in _range(instance)]
    return replace(
        gpu,
        mig_current=1,
        mig_pending=1,
        mig=tuple(sorted(devices, key=lambda device: device.slot)),
        mig_generation=gpu.mig_generation + 1,
    )


def without_mig(gpu: Gpu) -> Gpu:
    return replace(gpu, mig_current=0, mig_pending=0, mig=())


def _gather(gpu: Gpu, profiles: Sequence[str | None]) -> list[_Instance]:
    instances: list[_Instance] = []
    for slot, name in enumerate(profiles):
        if name is None:
            continue
        gi, ci = _profiles_named(gpu, name)
        for instance in instances:
            if instance.profile == gi and instance.free_slices() >= ci.slices:
                break
        else:
            instances.append(instance := _Instance(gi))
        instance.compute.append((slot, ci))
    return instances


def _profiles_named(gpu: Gpu, name: str) -> tuple[GiProfile, CiProfile]:
    match = _NAME.fullmatch(name)
    for gi in gpu.gi_profiles:
        for ci in gpu.ci_profiles:
            if match and gi.name == match["gi"] and ci.gi_profile == gi.id and ci.name == name:
                return gi, ci
    offered = ", ".join(gi.name for gi in gpu.gi_profiles)
    raise ValueError(f"GPU {gpu.index} offers no MIG profile {name!r}, only {offered}")


def _place(gpu: Gpu, instances: list[_Instance]) -> None:
    taken: set[int] = set()
    for instance in sorted(instances, key=lambda each: -each.profile.size):
        size = instance.profile.size
        starts = (s for s in instance.profile.starts if taken.isdisjoint(range(s, s + size)))
        start = next(starts, None)
        if start is None or start + size > _SLICES_OF_A_GPU:
            raise ValueError(f"GPU {gpu.index} has no room for {instance.profile.name}")
        taken.update(range(start, start + size))
        instance.start = start


def _number(instances: list[_Instance]) -> None:
    used: set[int] = set()
    for instance in instances:
        first = _FIRST_GI.get(instance.profile.slices, 0)
        instance.gi = next(gi for gi in range(first, 100) if gi not in used)
        used.add(instance.gi)


def _range(instance: _Instance) -> range:
    return range(len(instance.compute))


def _device(gpu: Gpu, instance: _Instance, ci_id: int) -> MigInstance:
    slot, ci = instance.compute[ci_id]
    gi = instance.profile
    return MigInstance(
        slot=slot,
        uuid=mig_uuid(gpu.index, slot, gpu.mig_generation),
        name=f"{gpu.name} MIG {ci.name}",
        gi=instance.gi,
        gi_profile=gi.id,
        start=instance.start,
        size=gi.size,
        ci=ci_id,
        ci_profile=ci.id,
        ci_start=sum(each.slices for _, each in instance.compute[:ci_id]),
        ci_size=ci.slices,
        gi_slices=gi.slices,
        ci_slices=ci.slices,
        sms=ci.sms,
        copy=ci.copy,
        decoder=ci.decoder,
        encoder=ci.encoder,
        jpeg=ci.jpeg,
        ofa=ci.ofa,
        memory_mb=gi.memory_mb,
    )


def mig_uuid(gpu_index: int, slot: int, generation: int = 0) -> str:
    """MIG-31000000-0000-0000-0000-000000000000: GPU 3, slot 1, first cut."""
    if gpu_index < 16:
        return f"MIG-{gpu_index:x}{slot:x}000000-0000-0000-0000-{generation:012x}"
    return f"MIG-{gpu_index:07x}{slot:x}-1111-0000-0000-{generation:012x}"
