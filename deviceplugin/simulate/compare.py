"""One policy on a trace with times: a cluster as the extender has it, and what came of it; pure."""

import random
from collections.abc import Iterable, Sequence, Set

from msgspec import Struct, structs

from deviceplugin.scheduler.board import CostOf
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.fairness import Fairness, FairShare
from deviceplugin.scheduler.keeping import KEPT_S, Keeping
from deviceplugin.scheduler.objects import Node, Reading
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.withheld import Withheld
from deviceplugin.simulate.coming import Coming, Timed, TraceReading, reading_of
from deviceplugin.simulate.daemons import Daemons, emptied
from deviceplugin.simulate.measure import asked_milli, sizes_of
from deviceplugin.simulate.placing import Placing
from deviceplugin.simulate.timed import Clock, TimedReplay, Wait
from deviceplugin.simulate.timeline import Levels


class Rules(Struct, frozen=True, kw_only=True):
    """What the extender withholds nodes by: shares of namespaces, and nodes kept for pods that wait
    for so long (0: never)."""

    fair: FairShare | None = None
    keep_after_s: float = 0.0

    @property
    def again_s(self) -> Sequence[float]:
        """After how long a pod may get a node though nobody left."""
        found = [self.fair.starving_s + 1] if self.fair else []
        if self.keep_after_s:
            found += [self.keep_after_s + 1, self.keep_after_s + KEPT_S + 2]
        return found


class TimedOutcome(Struct, frozen=True, kw_only=True):
    """What came of a replay. Pods are those that ask for GPUs, but for `pods`. Those that
    `fit_nowhere`, even on empty nodes, count nowhere else. `waits` has the seconds of each in
    ascending order: of one that never got a node until the end. `levels` are
    means from the first arrival to the last, in percent of the GPUs and in pods, `points` the same
    of parts of that time; `seconds` is from the first arrival until nobody is left, None where pods
    never leave."""

    pods: int
    waits: tuple[float, ...]
    waited: int
    never: int
    fit_nowhere: int
    most_waiting: int
    levels: Levels
    points: tuple[tuple[float, Levels], ...]
    seconds: float | None


def ready(trace: Timed) -> Timed:
    """The same with nodes as they are when nobody is there, and as kube-scheduler knows them: what
    a node does not have of what is asked for it has none of."""
    asked = {name: 0 for one in trace.coming for name, _ in one.demand.parts}
    return structs.replace(trace, nodes=[_complete(emptied(node), asked) for node in trace.nodes])


def _complete(node: Node, asked: dict[str, int]) -> Node:
    allocatable = {**asked, **(node.status.allocatable or {})}
    return structs.replace(node, status=structs.replace(node.status, allocatable=allocatable))


def cluster_of(
    trace: Timed, reading: TraceReading, clock: Clock, policy: tuple[CostOf | None, int | None]
) -> Cluster:
    """A cluster with the trace's nodes by name, or with a seed by chance, judged by a rule of cost
    (None: the extender's)."""
    cost_of, seed = policy
    nodes = sorted(trace.nodes, key=lambda node: node.metadata.name)
    if seed is not None:
        random.Random(seed).shuffle(nodes)  # noqa: S311  # repeated by its seed
    cluster = Cluster(reading, clock, cost_of)
    cluster.set_nodes(nodes)
    cluster.set_pods(trace.staying)
    cluster.board.expect(Workload([one.demand for one in trace.coming]))
    return cluster


def replayed(
    trace: Timed, reading: Reading, rules: Rules, policy: tuple[CostOf | None, int | None]
) -> TimedOutcome:
    """Let the pods come and go; the trace is `ready`."""
    clock = Clock(min((one.at for one in trace.coming), default=0.0))
    cluster = cluster_of(trace, reading_of(reading, trace), clock, policy)
    nodes = cluster.board.nodes
    capacity, sizes = sum(n.free_milli for n in nodes.values()), sizes_of(nodes.values())
    placing = Placing(cluster, withheld_of(cluster, rules, clock), Daemons(trace.nodes))
    asking = {one.demand for one in trace.coming if one.demand.asks}
    fitting = {demand for demand in asking if placing.fits_empty(demand)}
    replay = TimedReplay(
        placing,
        clock,
        lambda demand: asked_milli(demand, sizes),
        rules.again_s,
        fitting.__contains__,
    )
    replay.run(trace.coming)
    return _outcome(replay, fitting, capacity)


def withheld_of(cluster: Cluster, rules: Rules, clock: Clock) -> Withheld:
    """As the extender's service makes it."""
    fairness = Fairness(cluster, rules.fair, clock) if rules.fair else None
    keeping = Keeping(cluster, rules.keep_after_s, clock) if rules.keep_after_s else None
    return Withheld(cluster, fairness, keeping)


def _outcome(replay: TimedReplay, fitting: Set[Demand], capacity: int) -> TimedOutcome:
    asking = [wait for wait in replay.waits if wait.one.demand in fitting]
    line = replay.timeline
    return TimedOutcome(
        pods=len(replay.waits),
        waits=tuple(sorted(wait.seconds for wait in asking)),
        waited=sum(bool(wait.node) and wait.seconds > 0 for wait in asking),
        never=sum(not wait.node for wait in asking),
        fit_nowhere=sum(wait.one.demand.asks for wait in replay.waits) - len(asking),
        most_waiting=replay.most,
        levels=_percent(line.means(), capacity),
        points=tuple((at, _percent(levels, capacity)) for at, levels in line.points()),
        seconds=None if _stays(replay.waits) else replay.last - line.start,
    )


def _stays(waits: Iterable[Wait]) -> bool:
    return any(wait.node and _endless(wait.one) for wait in waits)


def _endless(one: Coming) -> bool:
    return one.seconds is None


def _percent(levels: Levels, capacity: int) -> Levels:
    whole = 100 / (capacity or 1)
    return Levels(
        levels.allocated * whole, levels.fragmented * whole, levels.waiting * whole, levels.pods
    )
