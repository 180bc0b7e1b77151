"""Which pods have to go for another: by the facts, where kube-scheduler knows counts alone; pure.

kube-scheduler proposes victims that make the counts right. Where they hold other GPUs than those
that the pod can use, others of a lower priority take their place.
"""

from collections.abc import Collection, Mapping

from deviceplugin.scheduler.about import NOTHING, About, are_linked, nearest
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.room import NodeState
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.wire import MetaVictims, Uid

MAX_EXCHANGED = 50  # nodes on which other victims are looked for: kube-scheduler needs one node


def victims(
    cluster: Cluster, pod: Pod, demand: Demand, proposed: Mapping[str, MetaVictims]
) -> Mapping[str, MetaVictims]:
    """The nodes where the pod has room once the victims are gone: those that were proposed, or
    others where they do not suffice. A node that is not known is left as it was proposed."""
    found, exchanged = {}, 0
    for name, those in proposed.items():
        uids = [one.uid for one in those.pods or []]
        if not cluster.misfit(name, demand, uids):
            found[name] = those
        elif exchanged < MAX_EXCHANGED:
            exchanged += 1
            if others := _others(cluster, pod, demand, (name, uids)):
                found[name] = MetaVictims([Uid(uid) for uid in others], those.violations)
    return found


def _others(
    cluster: Cluster, pod: Pod, demand: Demand, proposed: tuple[str, Collection[str]]
) -> list[str]:
    """As few as possible of the proposed pods and of those with GPUs and a lower priority, the
    least important ones; none if not even all of them are enough."""
    name, uids = proposed
    there = [found for key in cluster.held_on(name) if (found := cluster.pod(key)) is not None]
    may_stay = [one for one in there if _is_lower(one, pod) and cluster.asks_gpus(one)]
    going = {*uids, *(one.key for one in may_stay)}
    if cluster.misfit(name, demand, going):
        return []
    for one in sorted(may_stay, key=_by_importance):
        if not cluster.misfit(name, demand, going - {one.key}):
            going.discard(one.key)
    return sorted(going)


def _is_lower(one: Pod, pod: Pod) -> bool:
    return (one.spec.priority or 0) < (pod.spec.priority or 0)


def _by_importance(one: Pod) -> tuple[int, str, str]:
    """The most important first: a higher priority, then an earlier start, as kube-scheduler has
    it."""
    return -(one.spec.priority or 0), one.status.start_time or "~", one.key


def is_hopeless(node: NodeState, demand: Demand) -> bool:
    """Whether the demand would not even fit if no pod were on the node."""
    if not demand.gpus:
        return False
    about = node.about or About()
    if demand.models and node.model not in demand.models:
        return True
    gpus = [
        at
        for at in range(len(node.free))
        if at not in node.reserved
        if (at >= len(about.gpus) or about.gpus[at].healthy) and about.suits(at, demand.wants)
    ]
    if len(gpus) < demand.gpus:
        return True
    if demand.wants == NOTHING:
        return False
    wants = demand.wants
    if wants.capability and about.capability is not None and about.capability < wants.capability:
        return True
    return wants.linked and not are_linked(about, nearest(about, gpus, demand.gpus))
