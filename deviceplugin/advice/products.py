"""What GPUs can be cut into, by their model and memory, where no driver is asked; pure.

MIG: profiles, counts and places of NVIDIA's MIG user guide. AMD: the compute partitions of its
Instinct guides; memory as if it were divided as compute is, which is the least that a part has.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.provision.planner import plan_gpu
from deviceplugin.provision.section import Layout
from deviceplugin.provision.values import Plan
from deviceplugin.vendor.partitions import Mig, Modes, PartitionedGpu, Profile

GIB = 1 << 30
# Slices of compute, eighths of memory, places, most.
_SEVEN = (
    (1, 1, range(7), 7),
    (1, 2, (0, 2, 4, 6), 4),
    (2, 2, (0, 2, 4), 3),
    (3, 4, (0, 4), 2),
    (4, 4, (0,), 1),
    (7, 8, (0,), 1),
)
# A word of the model and GiB up to which it is meant: gigabytes in the names, by eighths.
_NAMES: Sequence[tuple[str, int, Mapping[int, int]]] = (
    ("a100", 41, {1: 5, 2: 10, 4: 20, 8: 40}),
    ("a100", 81, {1: 10, 2: 20, 4: 40, 8: 80}),
    ("h100", 81, {1: 10, 2: 20, 4: 40, 8: 80}),
    ("h100 nvl", 95, {1: 12, 2: 24, 4: 47, 8: 94}),
    ("h200", 142, {1: 18, 2: 35, 4: 71, 8: 141}),
    ("b200", 186, {1: 23, 2: 45, 4: 90, 8: 180}),
)
_INSTINCT = ("mi300x", "mi325x", "mi350x", "mi355x")
_PARTS = {2: "DPX", 4: "QPX", 8: "CPX"}


class Slot(Struct, frozen=True, kw_only=True, order=True):
    """A partition: its memory, its part of the compute units, and what a pod asks for."""

    memory_bytes: float
    compute: float
    name: str


class Cut(Struct, frozen=True, kw_only=True):
    """A way to cut a GPU that its planner accepts."""

    layout: Layout
    slots: tuple[Slot, ...]


def cuts_of(vendor: str, model: str, memory_bytes: int) -> Sequence[Cut]:
    """The ways to cut such a GPU; those that leave room for one part more are left out."""
    if vendor == "amd":
        return tuple(_of_instinct(model, memory_bytes))
    profiles = _profiles(model, memory_bytes)
    mig = Mig(enabled=True, pending=True, live=True, profiles=profiles)
    gpu = replace(_whole("nvidia", model), mig=mig)
    found = [counts for counts in _counts(profiles) if _accepts(gpu, Layout(mig=counts))]
    full = [one for one in found if not any(_is_below(one, other) for other in found)]
    slots = {profile.name: _slot(profile) for profile in profiles}
    return tuple(
        Cut(
            layout=Layout(mig={name: n for name, n in one.items() if n}),
            slots=tuple(sorted(slots[name] for name, n in one.items() for _ in range(n))),
        )
        for one in full
    )


class Size(Struct, frozen=True, kw_only=True):
    """A MIG profile: its eighths of the memory, its sevenths of the compute units."""

    name: str
    eighths: int
    sevenths: int


def sizes_beside(model: str, profile: str) -> Sequence[Size]:
    """All profiles of the GPU that an instance of this profile was cut from, the smallest first;
    none for one that is not in the table."""
    for word, _, names in _NAMES:
        found = [
            Size(name=f"{sevenths}g.{names[eighths]}gb", eighths=eighths, sevenths=sevenths)
            for sevenths, eighths, _, _ in _SEVEN
        ]
        if word in model.lower() and any(size.name == profile for size in found):
            return sorted(found, key=lambda size: (size.eighths, size.sevenths))
    return ()


def _whole(vendor: str, model: str) -> PartitionedGpu:
    return PartitionedGpu(
        id="GPU", vendor=vendor, product=model, index=0, address="0000:00:00.0", device=""
    )


def _profiles(model: str, memory_bytes: int) -> tuple[Profile, ...]:
    """None for a GPU whose profiles are not in the table."""
    size = memory_bytes / GIB
    fits = [n for word, most, n in _NAMES if word in model.lower() and size <= most]
    if not fits:
        return ()
    return tuple(
        Profile(
            name=f"{slices}g.{fits[0][eighths]}gb",
            id=number,
            size=eighths,
            starts=tuple(starts),
            instances=most,
            memory_bytes=memory_bytes * eighths // 8,
            multiprocessors=slices,
        )
        for number, (slices, eighths, starts, most) in enumerate(_SEVEN)
    )


def _slot(profile: Profile) -> Slot:
    return Slot(
        memory_bytes=profile.memory_bytes or 0,
        compute=(profile.multiprocessors or 0) / 7,
        name=f"nvidia.com/mig-{profile.name}",
    )


def _counts(profiles: Sequence[Profile]) -> Iterator[Mapping[str, int]]:
    """Numbers of each profile that are no more than the slices of memory and compute."""
    for numbers in product(*(range(profile.instances + 1) for profile in profiles)):
        pairs = list(zip(profiles, numbers, strict=True))
        memory = sum(profile.size * n for profile, n in pairs)
        compute = sum((profile.multiprocessors or 0) * n for profile, n in pairs)
        if sum(numbers) > 1 and memory <= 8 and compute <= 7:
            yield {profile.name: n for profile, n in pairs}


def _is_below(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return one != other and all(n <= other[name] for name, n in one.items())


def _accepts(gpu: PartitionedGpu, layout: Layout) -> bool:
    return plan_gpu(gpu, layout, Plan()).state != "refused"


def _of_instinct(model: str, memory_bytes: int) -> Iterator[Cut]:
    if not any(word in model.lower() for word in _INSTINCT):
        return
    modes = Modes(compute="SPX", available=("SPX", *_PARTS.values()), dies=8)
    gpu = replace(_whole("amd", model), modes=modes)
    for parts, mode in _PARTS.items():
        layout = Layout(compute=mode)  # type: ignore[arg-type]  # one of the modes
        slot = Slot(memory_bytes=memory_bytes / parts, compute=1 / parts, name="amd.com/gpu")
        if _accepts(gpu, layout):
            yield Cut(layout=layout, slots=(slot,) * parts)
