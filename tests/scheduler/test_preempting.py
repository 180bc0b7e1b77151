"""Which pods have to go for one of a higher priority, and where it would not help."""

from itertools import combinations
from typing import Any

import msgspec
import pytest

from deviceplugin.kubernetes.facts import ANNOTATION, GpuFacts, NodeFacts, pod_hash, written
from deviceplugin.scheduler.extender import Extender
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.state import Cluster
from tests.scheduler.objects import Document, node, pod
from tests.scheduler.partitions import asking, told

GPU = "nvidia.com/gpu"


class World:
    """A node with two small GPUs and two large ones, held by four pods of these priorities."""

    def __init__(self, *priorities: int) -> None:
        self.cluster = Cluster(Reading(), lambda: 0.0)
        self.extender = Extender(self.cluster)
        sizes = (16_384, 16_384, 81_920, 81_920)
        gpus = [
            GpuFacts(id=f"G{n}", memory_mib=mib, offers={GPU: 1}) for n, mib in enumerate(sizes)
        ]
        held: dict[str, tuple[int, ...]] = {pod_hash("ml", f"p{n}"): (n,) for n in range(4)}
        document = node("a", 4)
        apart = tuple((a, b, 40_000) for a, b in combinations(range(4), 2))
        facts = NodeFacts(gpus=tuple(gpus), links=apart, held=held)
        document["metadata"]["annotations"] = {ANNOTATION: written(facts)}
        self.cluster.put_node(msgspec.convert(document, Node))
        for n, priority in enumerate(priorities):
            there = pod(f"p{n}", gpus=1, node="a")
            there["spec"]["priority"] = priority
            there["status"]["startTime"] = f"2026-01-0{n + 1}T00:00:00Z"
            self.cluster.put_pod(msgspec.convert(there, Pod))

    def ask(self, verb: str, **body: object) -> Any:
        return msgspec.json.decode(self.extender.verbs[verb](msgspec.json.encode(body)))

    def preempt(self, wanted: Document, *uids: str, node: str = "a") -> list[str] | None:
        victims = {node: {"Pods": [{"UID": uid} for uid in uids], "NumPDBViolations": 1}}
        answer = self.ask("preempt", Pod=wanted, NodeNameToMetaVictims=victims)
        found = answer["NodeNameToMetaVictims"].get(node)
        if found is None:
            return None
        assert found["NumPDBViolations"] == 1
        return [one["UID"] for one in found["Pods"]]


def large(priority: int = 10, gpus: int = 1) -> Document:
    wanted = pod("new", gpus=gpus)
    wanted["spec"]["priority"] = priority
    wanted["metadata"]["annotations"] = {"deviceplugin/gpu-memory": "40GiB"}
    return wanted


def test_victims_that_make_room_are_left_as_they_were_proposed() -> None:
    world = World(0, 0, 0, 0)
    assert world.preempt(large(), "uid-p2") == ["uid-p2"]
    assert world.preempt(large(gpus=2), "uid-p2", "uid-p3") == ["uid-p2", "uid-p3"]


def test_others_go_where_the_proposed_ones_hold_gpus_that_are_of_no_use() -> None:
    # Of those with a large GPU the less important one; the one that was proposed may stay.
    assert World(0, 0, 5, 1).preempt(large(), "uid-p0") == ["uid-p3"]
    assert World(0, 0, 1, 1).preempt(large(), "uid-p0") == ["uid-p3"]  # it started later


def test_nobody_goes_for_a_pod_that_is_not_more_important() -> None:
    world = World(0, 0, 10, 20)
    assert world.preempt(large(10), "uid-p0") is None
    assert world.preempt(large(11), "uid-p0") == ["uid-p2"]


def test_nobody_goes_where_the_pod_never_fits() -> None:
    assert World(0, 0, 0, 0).preempt(large(gpus=3), "uid-p0", "uid-p1", "uid-p2") is None


def test_a_node_that_is_not_known_is_left_to_kube_scheduler() -> None:
    assert World().preempt(large(), "uid-x", node="new") == ["uid-x"]


def test_a_pod_without_gpus_that_was_proposed_goes_too() -> None:
    world = World(0, 0, 0, 0)
    world.cluster.put_pod(msgspec.convert(pod("plain", node="a"), Pod))
    assert world.preempt(large(), "uid-plain", "uid-p0") == ["uid-p3", "uid-plain"]


def test_parts_that_victims_hold_are_given_back() -> None:
    world = World()
    world.cluster.put_node(msgspec.convert(told("b", ((), (0, 1))), Node))
    for name in ("x", "y"):
        world.cluster.put_pod(msgspec.convert(asking(name, node="b", one=1), Pod))
    wanted = asking("new", one=2)
    wanted["spec"]["priority"] = 1
    assert world.preempt(wanted, "uid-x", node="b") == ["uid-x", "uid-y"]


def refused(world: World, wanted: Document) -> tuple[list[str], list[str]]:
    """The nodes where other pods could go for it, and where it would not help."""
    answer = world.ask("filter", Pod=wanted, NodeNames=["a"])
    return [*answer["FailedNodes"]], [*answer["FailedAndUnresolvableNodes"]]


@pytest.mark.parametrize(
    ("annotations", "gpus", "helps"),
    [
        ({}, 1, True),
        ({}, 4, True),
        ({}, 5, False),
        ({"deviceplugin/gpu-memory": "40GiB"}, 2, True),
        ({"deviceplugin/gpu-memory": "40GiB"}, 3, False),
        ({"deviceplugin/links": "required"}, 2, False),
        ({"deviceplugin/isolation": "high"}, 1, False),
        ({"deviceplugin/pod-group": "g", "deviceplugin/pod-group-size": "2"}, 1, False),
    ],
)
def test_kube_scheduler_is_told_where_it_helps_that_others_go(
    annotations: dict[str, str], gpus: int, *, helps: bool
) -> None:
    wanted = pod("new", gpus=gpus)
    wanted["metadata"]["annotations"] = annotations
    assert refused(World(0, 0, 0, 0), wanted) == ((["a"], []) if helps else ([], ["a"]))


def test_nobody_goes_for_another_model() -> None:
    wanted = pod("new", gpus=1)
    wanted["spec"]["nodeSelector"] = {"nvidia.com/gpu.product": "A100"}
    assert refused(World(0, 0, 0, 0), wanted) == ([], ["a"])
