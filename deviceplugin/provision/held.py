"""Who holds what of a GPU: what pods hold, as the daemon says, beside what hardware shows; pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from deviceplugin.provision.values import Held, Place
from deviceplugin.vendor.partitions import TURNS, Instance, PartitionedGpu, Step, Verb

Places = Mapping[str, Mapping[Place, str]]


def with_held(
    gpus: Sequence[PartitionedGpu], held: Sequence[Held]
) -> tuple[tuple[PartitionedGpu, ...], Places]:
    """The GPUs with those that hold them as a whole, and by GPU the holders of MIG instances.

    What is held and is no instance that is known by its id keeps all of its GPU.
    """
    found, places = [], {}
    for gpu in gpus:
        own = [one for one in held if one.gpu in (gpu.id, gpu.address)]
        found.append(_with_users(gpu, own))
        places[gpu.id] = dict(_places(gpu, own))
    return tuple(found), places


def holders_of(gpu: PartitionedGpu, places: Mapping[Place, str], step: Step) -> tuple[str, ...]:
    """Who has what the step would take away."""
    if step.verb is Verb.CREATE or step.verb in TURNS:
        return ()
    if step.verb is Verb.DESTROY:
        instances = gpu.mig.instances if gpu.mig else ()
        users = [
            u for one in instances if _place(one) == (step.name, step.number) for u in one.users
        ]
        holder = places.get((step.name, step.number))
        return (*users, *((holder,) if holder else ()))
    if step.verb in (Verb.FUNCTIONS, Verb.QUOTA, Verb.AUTOPROBE, Verb.DRIVER):
        return gpu.functions.held if gpu.functions else ()
    beside = gpu.modes.beside if step.verb is Verb.MEMORY and gpu.modes else ()
    return (*gpu.users, *beside)


def touched(gpu: PartitionedGpu, steps: Iterable[Step]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The ids of the devices that the steps take away, and the GPUs that they take with all of
    their parts."""
    steps = tuple(steps)
    if any(step.verb not in (Verb.CREATE, Verb.DESTROY, *TURNS) for step in steps):
        return (), names_of(gpu, steps)
    gone = {(step.name, step.number) for step in steps if step.verb is Verb.DESTROY}
    instances = [one for one in (gpu.mig.instances if gpu.mig else ()) if _place(one) in gone]
    if any(one.whole and not one.devices for one in instances):
        return (), names_of(gpu, steps)
    return tuple(device for one in instances for device in one.devices), frozenset()


def names_of(gpu: PartitionedGpu, steps: Iterable[Step]) -> frozenset[str]:
    """By which the GPUs of the steps are known."""
    return frozenset({gpu.id, gpu.address}).union(*(step.gpus for step in steps))


def _place(one: Instance) -> Place:
    return one.profile, one.start


def _places(gpu: PartitionedGpu, held: Sequence[Held]) -> Iterator[tuple[Place, str]]:
    for instance in gpu.mig.instances if gpu.mig else ():
        for one in held:
            if one.device in instance.devices or not _is_known(gpu, one):
                yield _place(instance), one.holder


def _is_known(gpu: PartitionedGpu, one: Held) -> bool:
    instances = gpu.mig.instances if gpu.mig else ()
    return one.device == gpu.id or any(one.device in found.devices for found in instances)


def _with_users(gpu: PartitionedGpu, held: Sequence[Held]) -> PartitionedGpu:
    names = tuple(dict.fromkeys(one.holder for one in held))
    functions = gpu.functions
    if functions is not None:
        functions = replace(functions, held=(*functions.held, *names))
    return replace(gpu, users=(*gpu.users, *names), functions=functions)
