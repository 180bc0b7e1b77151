"""A pod with many GPUs among small ones that come without end."""

from collections.abc import Sequence

import msgspec
import pytest

from deviceplugin.scheduler.extender import Extender
from deviceplugin.scheduler.keeping import KEPT_S, Keeping
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.state import Cluster
from tests.scheduler.objects import Document, node, pod
from tests.scheduler.partitions import asking, told

NAMES = ["n0", "n1"]


class World:
    """Two nodes of four GPUs, all held by small pods, and a large one that waits since 0."""

    def __init__(self, after_s: float = 300.0) -> None:
        self.now = 0.0
        self.cluster = Cluster(Reading(), lambda: self.now)
        self.cluster.set_nodes(msgspec.convert([node(name) for name in NAMES], list[Node]))
        keeping = Keeping(self.cluster, after_s, lambda: self.now) if after_s else None
        self.extender = Extender(self.cluster, keeping=keeping)
        for number in range(8):
            self.put(pod(f"small-{number}", gpus=1, node=NAMES[number // 4]))
        self.large = pod("large", gpus=4)
        self.large["metadata"]["creationTimestamp"] = "1970-01-01T00:00:00Z"
        self.put(self.large)

    def put(self, one: Document) -> None:
        self.cluster.put_pod(msgspec.convert(one, Pod))

    def fitting(self, one: Document, names: Sequence[str] = NAMES) -> list[str]:
        asked = msgspec.json.encode({"Pod": one, "NodeNames": names})
        found: list[str] = msgspec.json.decode(self.extender.filter(asked))["NodeNames"]
        self.cluster.release(one["metadata"]["uid"])  # it is not bound
        return found

    def replaced(self, number: int, by: int) -> bool:
        """A small pod ends and another comes; whether it got a place."""
        self.cluster.remove_pod(f"uid-small-{number}")
        new = pod(f"small-{by}", gpus=1)
        if not (names := self.fitting(new)):
            return False
        self.put(pod(f"small-{by}", gpus=1, node=names[0]))
        return True


@pytest.mark.parametrize("after_s", [0.0, 300.0])
def test_without_a_bound_small_pods_take_all_and_with_it_the_large_one_gets_its_node(
    after_s: float,
) -> None:
    world, let_in = World(after_s), 0
    for number in range(40):
        world.now += 60
        if world.fitting(world.large):
            break
        let_in += world.replaced(number, number + 8)
    assert world.fitting(world.large) == (["n0"] if after_s else [])
    assert 4 <= let_in < 40 if after_s else let_in == 40


def test_the_others_are_told_for_whom_the_node_is_kept_and_have_the_other_nodes() -> None:
    world = World()
    world.now = 301
    assert world.fitting(world.large) == []
    world.cluster.remove_pod("uid-small-0")
    world.cluster.remove_pod("uid-small-4")
    assert world.fitting(pod("new", gpus=1)) == ["n1"]
    assert world.fitting(pod("new", gpus=1), ["n1"]) == ["n1"]
    assert world.fitting(pod("wide", gpus=2), ["n1"]) == []  # asked of it alone: too little room
    assert world.fitting(pod("alone")) == NAMES  # no GPUs
    urgent = pod("urgent", gpus=1)
    urgent["spec"]["priority"] = 10
    assert world.fitting(urgent) == NAMES
    world.cluster.remove_pod("uid-small-5")
    world.put(pod("last", gpus=2, node="n1"))
    assert world.fitting(pod("new", gpus=1)) == []
    why = world.extender.explained("ml/new")
    assert why is not None
    assert {"reason": "it is kept for ml/large, which has waited for too long", "nodes": 1} in why[
        "failed"
    ]


@pytest.mark.parametrize("end", ["gone", "placed", "late"])
def test_a_node_is_not_kept_for_a_pod_that_is_gone_or_placed_or_had_its_time(end: str) -> None:
    world = World()
    world.now = 301
    world.fitting(world.large)
    world.cluster.remove_pod("uid-small-0")
    assert world.fitting(pod("new", gpus=1)) == []
    if end == "gone":
        world.cluster.remove_pod("uid-large")
    elif end == "placed":
        world.put({**world.large, "spec": {**world.large["spec"], "nodeName": "n9"}})
    else:
        world.now += KEPT_S + 1
    assert world.fitting(pod("new", gpus=1)) == ["n0"]


def test_no_node_is_kept_for_what_fits_on_none() -> None:
    world = World()
    world.now = 301
    huge = pod("huge", gpus=5)
    huge["metadata"]["creationTimestamp"] = "1970-01-01T00:00:00Z"
    assert world.fitting(huge) == []
    world.cluster.remove_pod("uid-small-0")
    assert world.fitting(pod("new", gpus=1)) == ["n0"]


def test_a_node_is_kept_for_a_pod_that_asks_for_parts_alone() -> None:
    world = World()
    world.cluster.set_nodes(
        msgspec.convert([told(name, ((), (0, 1))) for name in NAMES], list[Node])
    )
    for number in range(8):
        world.cluster.remove_pod(f"uid-small-{number}")
    for number in range(4):
        world.put(asking(f"part-{number}", node=NAMES[number // 2], one=1))
    large = asking("two", one=2)
    large["metadata"]["creationTimestamp"] = "1970-01-01T00:00:00Z"
    world.put(large)
    world.now = 301
    assert world.fitting(large) == []
    world.cluster.remove_pod("uid-part-0")
    world.cluster.remove_pod("uid-part-2")
    assert world.fitting(asking("new", one=1)) == ["n1"]
    world.cluster.remove_pod("uid-part-1")
    assert world.fitting(large) == ["n0"]
