"""Pods that come, run and go, and more or fewer of them; pure."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Struct, structs

from deviceplugin.scheduler.asking import GROUP
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.objects import Node, Pod, Reading

Order = tuple[int, float, str]


class Coming(Struct, frozen=True, kw_only=True):
    """A pod that comes `at` Unix seconds and leaves so many `seconds` after it got a node; None:
    never."""

    at: float
    pod: Pod
    demand: Demand
    seconds: float | None = None

    @property
    def order(self) -> Order:
        """Its place among those that wait, as kube-scheduler has it: by priority, then by time."""
        return -(self.pod.spec.priority or 0), self.at, self.pod.key

    @property
    def group(self) -> str:
        """The group of the pod, empty if it is in none."""
        name = self.pod.annotations.get(GROUP)
        return f"{self.pod.metadata.namespace}/{name}" if name else ""


class Timed(Struct, frozen=True, kw_only=True):
    """A trace with times: the nodes as if nobody were there, pods that stay where they are, as
    those of DaemonSets, and pods that come."""

    nodes: Sequence[Node]
    staying: Sequence[Pod]
    coming: Sequence[Coming]


class TraceReading(Reading, frozen=True, kw_only=True):
    """A reading that has read already: demands by pod, capacities by node."""

    demands: dict[str, Demand]
    capacities: dict[str, tuple[str, int, int, int]]

    def demand_of(self, pod: Pod) -> Demand:
        """What is known of the pod, else what it says."""
        found = self.demands.get(pod.key)
        return Reading.demand_of(self, pod) if found is None else found

    def capacity_of(self, node: Node) -> tuple[str, int, int, int]:
        """The same at each look."""
        found = self.capacities.get(node.metadata.name)
        if found is None:
            found = self.capacities[node.metadata.name] = Reading.capacity_of(self, node)
        return found


def reading_of(reading: Reading, trace: Timed) -> TraceReading:
    """For a replay of the trace."""
    known = {one.pod.key: one.demand for one in trace.coming}
    return TraceReading(**structs.asdict(reading), demands=known, capacities={})


def pending(names: tuple[str, str], at: float, priority: int = 0) -> Pod:
    """A pod of which no more is known than its namespace and name."""
    namespace, name = names
    meta = {
        "name": name,
        "namespace": namespace,
        "uid": f"{namespace}/{name}",
        "creationTimestamp": timestamp(at),
    }
    return msgspec.convert({"metadata": meta, "spec": {"priority": priority}}, Pod)


def timestamp(at: float) -> str:
    """As the API server writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def at_load(coming: Sequence[Coming], percent: int, seed: int) -> Sequence[Coming]:
    """So many percent of the pods: copies of some by chance, or without some by chance. A copy
    comes when another pod of the trace came, so that the hours of the day stay what they are; a
    group is copied, or left out, as a whole."""
    if percent == 100 or not coming:
        return coming
    chance = random.Random(seed)  # noqa: S311  # repeated by its seed
    times = [one.at for one in coming]
    found: list[Coming] = []
    for unit in _units(coming):
        whole, part = divmod(percent, 100)
        copies = whole + (chance.random() * 100 < part)
        found += unit if copies else ()
        for number in range(1, copies):
            later = chance.choice(times) - unit[0].at
            found += (_copy(one, number, later) for one in unit)
    return found


def _units(coming: Iterable[Coming]) -> Iterator[Sequence[Coming]]:
    groups: dict[str, list[Coming]] = {}
    for one in coming:
        if one.group:
            groups.setdefault(one.group, []).append(one)
        else:
            yield (one,)
    yield from groups.values()


def _copy(one: Coming, number: int, later: float) -> Coming:
    meta = one.pod.metadata
    annotations: Mapping[str, str] = one.pod.annotations
    if one.group:
        annotations = {**annotations, GROUP: f"{annotations[GROUP]}-copy-{number}"}
    copied = structs.replace(
        meta,
        name=f"{meta.name}-copy-{number}",
        uid=f"{one.pod.key}-copy-{number}",
        creation_timestamp=timestamp(one.at + later),
        annotations=dict(annotations),
    )
    pod = structs.replace(one.pod, metadata=copied)
    return structs.replace(one, at=one.at + later, pod=pod)
