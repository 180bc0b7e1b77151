"""MIG as claims ask for it: instances where a scheduler wants them, and no others of ours; pure."""

from collections.abc import Collection, Iterator

from deviceplugin.provision.mig import destroying, nobody_on, switching, usable
from deviceplugin.provision.places import span
from deviceplugin.provision.values import Place, Plan, Refused, Waiting
from deviceplugin.vendor.partitions import Instance, Mig, PartitionedGpu, Profile, Step, Verb


def check_on_demand(gpu: PartitionedGpu) -> tuple[Step, ...]:
    """No steps: claims have them made. Raises Refused for a GPU of which none can be."""
    if gpu.mig is None and gpu.modes is not None:
        raise Refused(
            f"on_demand is for MIG: give this {gpu.product} a compute mode; a claim would change"
            " the numbers that pods on other GPUs of the node go by"
        )
    mig = usable(gpu)
    if not (mig.enabled or mig.live):
        raise Refused(
            f"MIG mode is off, and this {gpu.product} enters it only by a reset of the GPU or a"
            " reboot: nvidia-smi -mig 1, then nvidia-smi --gpu-reset"
        )
    return ()


def exact_steps(
    gpu: PartitionedGpu, wanted: Collection[Place], plan: Plan, *, whole: bool
) -> tuple[Step, ...]:
    """The steps to an instance at each of these places, or to a GPU without MIG mode (`whole`).

    Of the others ours go, and those that somebody has stay. Raises Refused or Waiting.
    """
    mig = usable(gpu)
    gone = [one for one in mig.instances if _goes(one, wanted, plan)]
    left = [one for one in mig.instances if one not in gone]
    steps = [destroying(gpu, one) for one in gone]
    missing = sorted(set(wanted) - {(one.profile, one.start) for one in left})
    _check_room(gpu, mig, left, missing, plan)
    if whole and mig.enabled:
        return (*steps, _off(gpu, mig, left, plan))
    if missing and not mig.enabled:
        check_on_demand(gpu)
        nobody_on(gpu)
        steps.append(switching(gpu, on=True))
    makes = (Step(gpu=gpu.id, verb=Verb.CREATE, name=n, number=start) for n, start in missing)
    return (*steps, *makes)


def kept_by(gpu: PartitionedGpu, place: Place, plan: Plan) -> str:
    """Who has the instance at a place."""
    instances = gpu.mig.instances if gpu.mig else ()
    users = [u for one in instances if (one.profile, one.start) == place for u in one.users]
    return plan.held.get(place) or ", ".join(users)


def kept_texts(gpu: PartitionedGpu, wanted: Collection[Place], plan: Plan) -> Iterator[str]:
    """Those of ours that nobody wants, and that somebody has."""
    for profile, start in sorted(plan.made - set(wanted)):
        if holder := kept_by(gpu, (profile, start), plan):
            yield f"{profile} at {start} is held by {holder}"


def _goes(one: Instance, wanted: Collection[Place], plan: Plan) -> bool:
    place = (one.profile, one.start)
    wanted_so = place in wanted and one.whole
    return place in plan.made and not wanted_so and not (plan.held.get(place) or one.users)


def _off(gpu: PartitionedGpu, mig: Mig, left: Collection[Instance], plan: Plan) -> Step:
    for one in left:
        holder = kept_by(gpu, (one.profile, one.start), plan)
        text = f"{one.profile} at {one.start} is there"
        if holder:
            raise Waiting((holder,), f"{text} and held by {holder}")
        raise Refused(f"{text}, made by somebody else: the GPU cannot be had whole")
    if not mig.live:
        raise Refused(f"this {gpu.product} leaves MIG mode only by a reset of the GPU or a reboot")
    nobody_on(gpu)
    return switching(gpu, on=False)


def _check_room(
    gpu: PartitionedGpu,
    mig: Mig,
    left: Collection[Instance],
    missing: Collection[Place],
    plan: Plan,
) -> None:
    """Raises Refused for a place that is none, or where others made something, and Waiting for
    one where somebody has something."""
    profiles = {profile.name: profile for profile in mig.profiles}
    for name, start in missing:
        profile = profiles.get(name)
        if profile is None or start not in profile.starts:
            raise Refused(f"{name} at {start} is no place of this {gpu.product}")
        count = [one.profile for one in left].count(name) + [n for n, _ in missing].count(name)
        if count > profile.instances:
            raise Refused(f"this {gpu.product} has room for {profile.instances} of {name}")
        for one in _beside(left, profile, start):
            place = (one.profile, one.start)
            holder = kept_by(gpu, place, plan)
            text = f"{name} at {start} does not fit beside {one.profile} at {one.start}"
            if holder:
                raise Waiting((holder,), f"{text}, which {holder} has")
            raise Refused(f"{text}, which somebody else made")


def _beside(left: Collection[Instance], profile: Profile, start: int) -> Iterator[Instance]:
    wanted = span(start, profile.size)
    return (one for one in left if not wanted.isdisjoint(span(one.start, one.size)))
