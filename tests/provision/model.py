"""Steps on a value: what a GPU is after them, as hardware would have it."""

from collections.abc import Iterable

from msgspec.structs import replace

from deviceplugin.provision.places import span
from deviceplugin.vendor.partitions import Instance, PartitionedGpu, Step, Verb


def after(gpu: PartitionedGpu, steps: Iterable[Step]) -> PartitionedGpu:
    """AssertionError for a step that hardware would refuse."""
    for step in steps:
        gpu = _after(gpu, step)
    return gpu


def _after(gpu: PartitionedGpu, step: Step) -> PartitionedGpu:
    mig = gpu.mig
    assert mig is not None
    assert step.gpu == gpu.id
    if step.verb is Verb.MIG_MODE:
        assert mig.live
        assert (mig.instances, gpu.users) == ((), ())
        return replace(gpu, mig=replace(mig, enabled=bool(step.number)))
    assert mig.enabled
    if step.verb is Verb.DESTROY:
        left = [one for one in mig.instances if (one.profile, one.start) != place_of(step)]
        assert len(left) == len(mig.instances) - 1
        return replace(gpu, mig=replace(mig, instances=tuple(left)))
    profile = next(one for one in mig.profiles if one.name == step.name)
    assert step.number in profile.starts
    made = Instance(profile=profile.name, start=step.number, size=profile.size)
    assert_apart([*mig.instances, made])
    of_it = [one for one in mig.instances if one.profile == profile.name]
    assert len(of_it) < profile.instances
    return replace(gpu, mig=replace(mig, instances=tuple(sorted((*mig.instances, made)))))


def place_of(step: Step) -> tuple[str, int]:
    return step.name, step.number


def assert_apart(instances: Iterable[Instance]) -> None:
    """No slice belongs to two."""
    taken: frozenset[int] = frozenset()
    for one in instances:
        slices = span(one.start, one.size)
        assert taken.isdisjoint(slices), instances
        taken |= slices
