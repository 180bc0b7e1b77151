"""MIG: from the instances that are there to those that are wanted; pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

from msgspec import Struct

from deviceplugin.provision.places import places_for, span
from deviceplugin.provision.values import Plan, Refused, Waiting
from deviceplugin.vendor.partitions import Instance, Mig, PartitionedGpu, Profile, Step, Verb


class Stock(Struct, frozen=True, kw_only=True):
    """What must stay, and what of ours may stay, of one GPU's instances."""

    fixed: tuple[Instance, ...]
    free: tuple[Instance, ...]
    foreign: bool


def mig_steps(gpu: PartitionedGpu, wanted: Mapping[str, int], plan: Plan) -> tuple[Step, ...]:
    """The steps to these instances and no others; raises Refused or Waiting.

    An instance that is there and wanted stays, if the others fit beside it.
    """
    mig = usable(gpu)
    profiles = {profile.name: profile for profile in mig.profiles}
    _check_profiles(gpu, profiles, wanted)
    stock = _stock(gpu, mig, wanted, plan)
    counts = Counter({name: count for name, count in wanted.items() if count})
    missing = counts - Counter(one.profile for one in stock.fixed)
    for kept in _keepable(stock.free, missing):
        rest = missing - Counter(one.profile for one in kept)
        standing = (*stock.fixed, *kept)
        taken = frozenset[int]().union(*(span(one.start, one.size) for one in standing))
        used = [one.profile for one in standing]
        places = places_for([profiles[name] for name in rest.elements()], taken, mig.profiles, used)
        if places is not None:
            gone = [one for one in stock.free if one not in kept]
            return _steps(gpu, mig, gone, [(profile.name, start) for profile, start in places])
    raise _no_room(gpu, mig, stock, wanted)


def mig_off(gpu: PartitionedGpu, plan: Plan) -> tuple[Step, ...]:
    """The steps to a whole GPU; raises Refused or Waiting."""
    mig = gpu.mig
    if mig is None or not (mig.enabled or mig.pending):
        return ()
    usable(gpu)
    stock = _stock(gpu, mig, {}, plan)
    if not mig.live:
        raise Refused(
            f"MIG mode is on, and this {gpu.product} leaves it only by a reset of the GPU or a"
            " reboot"
        )
    nobody_on(gpu)
    return (*(destroying(gpu, one) for one in stock.free), switching(gpu, on=False))


def usable(gpu: PartitionedGpu) -> Mig:
    """Its MIG; raises Refused where it has none, or none that can be changed."""
    if gpu.mig is None:
        raise Refused(f"this {gpu.product} has no MIG")
    if gpu.mig.fixed:
        raise Refused(gpu.mig.fixed)
    return gpu.mig


def _check_profiles(
    gpu: PartitionedGpu, profiles: Mapping[str, Profile], wanted: Mapping[str, int]
) -> None:
    for name, count in wanted.items():
        if name not in profiles:
            known = ", ".join(profiles) or "none that the driver names"
            raise Refused(f"{name} is no profile of this {gpu.product}; it has {known}")
        if count and not profiles[name].starts:
            raise Refused(
                f"the driver names the places of {name} with MIG mode on alone: turn it on first,"
                " with mig: {}"
            )
        most = profiles[name].instances
        if count > most:
            raise Refused(f"{count} of {name} do not fit: this {gpu.product} has room for {most}")


def _stock(gpu: PartitionedGpu, mig: Mig, wanted: Mapping[str, int], plan: Plan) -> Stock:
    """Raises Refused for an instance of others that is in the way, Waiting for one that is held."""
    fixed, free, spare, foreign = [], [], Counter(wanted), False
    for one in sorted(mig.instances, key=lambda one: one.start):
        place = (one.profile, one.start)
        held = plan.held.get(place) or ", ".join(one.users)
        mine = plan.adopt or place in plan.made
        if mine and not held:
            free.append(one)
            continue
        if spare[one.profile] > 0 and one.whole:
            spare[one.profile] -= 1
            fixed.append(one)
            foreign |= not mine
        elif held:
            raise Waiting((held,), f"{one.profile} at {one.start} is held by {held}")
        else:
            raise Refused(
                f"{one.profile} at {one.start} was made by somebody else and is not wanted:"
                " destroy it, or let it be destroyed with adopt: true"
            )
    return Stock(fixed=tuple(fixed), free=tuple(free), foreign=foreign)


def _keepable(free: Sequence[Instance], missing: Counter[str]) -> Iterator[tuple[Instance, ...]]:
    """Those of ours that may stay: all that are wanted first, then ever fewer."""
    left = Counter(missing)
    good = []
    for one in free:
        if one.whole and left[one.profile] > 0:
            left[one.profile] -= 1
            good.append(one)
    for count in range(len(good), -1, -1):
        yield from combinations(good, count)


def _steps(
    gpu: PartitionedGpu,
    mig: Mig,
    gone: Collection[Instance],
    places: Sequence[tuple[str, int]],
) -> tuple[Step, ...]:
    steps = [destroying(gpu, one) for one in gone]
    if not mig.enabled:
        if not mig.live:
            raise Refused(
                f"MIG mode is off, and this {gpu.product} enters it only by a reset of the GPU or a"
                " reboot: nvidia-smi -mig 1, then nvidia-smi --gpu-reset"
            )
        nobody_on(gpu)
        steps.append(switching(gpu, on=True))
    made = [Step(gpu=gpu.id, verb=Verb.CREATE, name=name, number=start) for name, start in places]
    return (*steps, *made)


def nobody_on(gpu: PartitionedGpu) -> None:
    """Raises Waiting for a GPU that somebody has: its mode would not change."""
    if gpu.users:
        raise Waiting(gpu.users, f"the GPU is in use by {', '.join(gpu.users)}")


def destroying(gpu: PartitionedGpu, one: Instance) -> Step:
    """The step that takes an instance away."""
    return Step(gpu=gpu.id, verb=Verb.DESTROY, name=one.profile, number=one.start)


def switching(gpu: PartitionedGpu, *, on: bool) -> Step:
    """The step that turns MIG mode on or off."""
    return Step(gpu=gpu.id, verb=Verb.MIG_MODE, number=int(on), was_number=int(not on))


def _no_room(
    gpu: PartitionedGpu, mig: Mig, stock: Stock, wanted: Mapping[str, int]
) -> Refused | Waiting:
    text = " + ".join(f"{count}×{name}" for name, count in wanted.items() if count)
    profiles = {profile.name: profile for profile in mig.profiles}
    every = [profiles[name] for name, count in wanted.items() for _ in range(count)]
    if places_for(every, frozenset(), mig.profiles) is None:
        return Refused(f"{text} do not fit on this {gpu.product}: no placement has room for all")
    places = ", ".join(f"{one.profile} at {one.start}" for one in stock.fixed)
    if stock.foreign:
        return Refused(f"{text} do not fit beside {places}, which others made: see adopt")
    return Waiting((), f"{text} do not fit beside {places}, which stay as long as they are held")
