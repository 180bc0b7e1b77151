"""What a pod holds of a node, and which of its GPUs; pure."""

from collections.abc import Collection, Container

from msgspec import Struct, structs

from deviceplugin.kubernetes.facts import GpuFacts, NodeFacts, pod_hash
from deviceplugin.scheduler.asking import AskingError
from deviceplugin.scheduler.asks import ClaimAsk
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.objects import Pod, Reading
from deviceplugin.scheduler.room import NodeState


class Held(Struct):
    """What a pod holds: a demand on a node; `until` is set for an assumption, and `group` for one
    that was made for a whole group. `claims` are the names of the demand's claims."""

    node: str
    demand: Demand
    chosen: tuple[int, ...] = ()
    until: float | None = None
    pod: Pod | None = None
    group: str = ""
    claims: tuple[str, ...] = ()


def pending(held: Held, allocated: Container[str]) -> tuple[ClaimAsk, ...]:
    """What those of its claims ask for that have no devices yet."""
    pairs = zip(held.claims, held.demand.claims, strict=True)
    return tuple(ask for name, ask in pairs if name not in allocated)


def beside(held: Held, allocated: Container[str]) -> Demand:
    """The demand without GPUs that kube-scheduler has given by a claim of its own making."""
    made = held.pod.claim_of_resources if held.pod else ""
    if made and made in allocated:
        return structs.replace(held.demand, gpus=0)
    return held.demand


def counts_of(reading: Reading, pod: Pod) -> Demand:
    """What it asks for without what it wants beyond counts, whatever its annotations say. Raises
    ValueError for a quantity that is none."""
    plain = structs.replace(pod, metadata=structs.replace(pod.metadata, annotations=None))
    return reading.demand_of(plain)


def held_by(reading: Reading, pod: Pod) -> Demand:
    """What a pod holds that has a node: with annotations that say nothing its counts."""
    try:
        return reading.demand_of(pod)
    except AskingError:
        return counts_of(reading, pod)


def told_of(held: Held, facts: NodeFacts | None, state: NodeState) -> tuple[int, ...]:
    """The GPUs that the daemon or the kubelet says the pod has, if they are as many as it asked."""
    if held.pod is None or facts is None or not held.demand.gpus:
        return ()
    meta, ids = held.pod.metadata, held.pod.ids
    told = facts.held.get(pod_hash(meta.namespace, meta.name), ())
    if not told:
        told = tuple(index for index, gpu in enumerate(facts.gpus) if gpu.id in ids)
    return told if len(told) == held.demand.gpus and max(told) < len(state.free) else ()


def is_given(gpu: GpuFacts, resources: Collection[str]) -> bool:
    """Whether pods can get it by one of the resources."""
    return gpu.healthy and any(name in resources for name in gpu.offers)


def still(state: NodeState, held: Held) -> tuple[int, ...]:
    """The GPUs that it had, if they are there and have room."""
    fits = all(
        index < len(state.free) and state.free[index] >= held.demand.gpu_milli
        for index in held.chosen
    )
    return held.chosen if fits else ()
