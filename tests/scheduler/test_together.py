"""Groups of pods, and shares of namespaces."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.scheduler.board import Board
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.extender import Extender
from deviceplugin.scheduler.fairness import Fairness, FairShare
from deviceplugin.scheduler.groups import Best
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.room import NodeState
from deviceplugin.scheduler.state import Cluster
from tests.scheduler.objects import Document, node, pod
from tests.scheduler.partitions import asking, told


class World:
    """A cluster with its extender, asked as kube-scheduler does."""

    def __init__(self, *nodes: Document, fair: FairShare | None = None) -> None:
        self.now = 1000.0
        self.cluster = Cluster(Reading(), lambda: self.now)
        self.cluster.set_nodes(msgspec.convert(nodes, list[Node]))
        self.names = [one["metadata"]["name"] for one in nodes]
        fairness = Fairness(self.cluster, fair, lambda: self.now) if fair else None
        self.extender = Extender(self.cluster, fairness)

    def put(self, *pods: Document) -> None:
        for one in pods:
            self.cluster.put_pod(msgspec.convert(one, Pod))

    def filter(self, one: Document) -> tuple[list[str], set[str]]:
        asked = {"Pod": one, "NodeNames": self.names}
        answer: Any = msgspec.json.decode(self.extender.filter(msgspec.json.encode(asked)))
        failed = {**answer["FailedNodes"], **answer["FailedAndUnresolvableNodes"]}
        return answer["NodeNames"], set(failed.values())

    def schedule(self, one: Document) -> str:
        """Filter and prioritize; the pod is then bound."""
        fitting, _ = self.filter(one)
        if not fitting:
            return ""
        asked = {"Pod": one, "NodeNames": fitting}
        scores: Any = msgspec.json.decode(self.extender.prioritize(msgspec.json.encode(asked)))
        best = str(max(scores, key=lambda score: score["Score"])["Host"])
        self.put({**one, "spec": {**one["spec"], "nodeName": best}})
        return best


def member(name: str, size: int, *, gpus: int = 1, domain: bool = False) -> Document:
    one = pod(name, gpus=gpus)
    one["metadata"]["annotations"] = {
        "deviceplugin/pod-group": "g",
        "deviceplugin/pod-group-size": str(size),
    }
    if domain:
        one["metadata"]["annotations"]["deviceplugin/link-domain"] = "required"
    return one


def test_no_pod_of_a_group_is_let_through_before_all_are_there() -> None:
    world = World(node("a", 4))
    one, other = member("one", 2), member("other", 2)
    world.put(one)
    assert world.filter(one) == ([], {"1 pods of the group g are there, 2 wanted"})
    world.put(other)
    assert [world.schedule(one), world.schedule(other)] == ["a", "a"]


def test_a_group_that_does_not_fit_holds_nothing() -> None:
    world = World(node("a", 2), node("b", 1))
    members = [member(f"m{n}", 4) for n in range(4)]
    world.put(*members)
    assert world.filter(members[0]) == ([], {"3 of 4 pods of the group g have room"})
    assert world.cluster.assumed == 0
    assert world.schedule(pod("other", gpus=2)) == "a"


def test_the_places_of_a_group_are_kept_for_it() -> None:
    world = World(node("a", 2), node("b", 2))
    members = [member(f"m{n}", 3) for n in range(3)]
    world.put(*members)
    assert world.schedule(members[0]) != ""
    assert world.filter(pod("other", gpus=2))[0] == []
    assert world.schedule(members[1]) != ""
    assert world.schedule(members[2]) != ""
    assert world.cluster.assumed == 0


def test_a_group_that_never_comes_gives_its_places_back() -> None:
    world = World(node("a", 2))
    members = [member(f"m{n}", 2) for n in range(2)]
    world.put(*members)
    assert world.filter(members[0])[0] == ["a"]
    world.now += 121
    assert world.schedule(pod("other", gpus=2)) == "a"


def test_a_group_stays_in_one_link_domain() -> None:
    nodes = [node(f"n{n}", 2) for n in range(4)]
    for n, one in enumerate(nodes):
        one["metadata"]["labels"]["deviceplugin/link-domain"] = f"rack-{n % 2}"
    world = World(*nodes)
    world.put(pod("there", gpus=1, node="n0"))
    members = [member(f"m{n}", 2, gpus=2, domain=True) for n in range(2)]
    world.put(*members)
    assert {world.schedule(one) for one in members} == {"n1", "n3"}
    more = [member(f"k{n}", 2, gpus=2, domain=True) for n in range(2)]
    for one in more:
        one["metadata"]["annotations"]["deviceplugin/pod-group"] = "h"
    world.put(*more)
    told = {"1 of 2 pods of the group h have room in one link domain"}
    assert world.filter(more[0]) == ([], told)


def racks(count: int, gpus: int = 2) -> list[Document]:
    """Nodes of two link domains, by turns."""
    nodes = [node(f"n{n}", gpus) for n in range(count)]
    for n, one in enumerate(nodes):
        one["metadata"]["labels"]["deviceplugin/link-domain"] = f"rack-{n % 2}"
    return nodes


def test_a_group_that_may_be_anywhere_stays_in_one_link_domain_where_it_can() -> None:
    world = World(*racks(4))
    world.put(pod("there", gpus=1, node="n1"))
    members = [member(f"m{n}", 3) for n in range(3)]
    world.put(*members)
    assert [world.schedule(one) for one in members] == ["n1", "n3", "n3"]


def test_after_a_restart_the_rest_of_a_group_goes_where_the_others_are() -> None:
    before = World(*racks(4))
    members = [member(f"m{n}", 3, gpus=2, domain=True) for n in range(3)]
    before.put(*members[:2], {**members[2], "spec": {**members[2]["spec"], "nodeName": "n1"}})
    assert before.filter(members[0])[0] == []  # three do not fit into one domain, one is there
    again = World(*racks(6))
    again.put(*members[1:], {**members[0], "spec": {**members[0]["spec"], "nodeName": "n3"}})
    assert [again.schedule(one) for one in members[1:]] == ["n1", "n5"]


def test_nodes_that_kube_scheduler_does_not_offer_count_for_no_pod_that_is_alike() -> None:
    world = World(node("a", 1), node("b", 1))
    members = [member(f"m{n}", 2) for n in range(2)]
    world.put(*members)
    world.names = ["a"]  # the other one is cordoned
    assert world.filter(members[0]) == ([], {"1 of 2 pods of the group g have room"})
    assert world.cluster.assumed == 0


def test_a_member_that_cannot_be_read_is_named() -> None:
    world = World(node("a", 4))
    one, other = member("one", 2), member("other", 2)
    other["metadata"]["annotations"]["deviceplugin/gpu-memory"] = "lots"
    world.put(one, other)
    meant = "pod other of the group g: deviceplugin/gpu-memory: 'lots': a size such as 32GiB"
    assert world.filter(one) == ([], {meant})


def test_a_name_of_a_group_that_no_label_has_is_told() -> None:
    world = World(node("a", 2))
    one = member("m", 1)
    one["metadata"]["annotations"]["deviceplugin/pod-group"] = "x" * 100_000
    (told_by,) = world.filter(one)[1]
    assert told_by.startswith("deviceplugin/pod-group: 'xxx")
    assert len(told_by) < 150


@given(st.lists(st.integers(1, 10), min_size=1, max_size=30), st.integers(1, 4))
def test_the_cheapest_node_is_found_again_after_each_that_changed(
    shares: list[int], count: int
) -> None:
    nodes = [NodeState(f"n{n}", "H100", 64_000, 500_000, [1000] * 4) for n in range(count)]
    demands = [Demand(cpu_milli=100, gpus=1, gpu_milli=100 * share) for share in shares]
    board = Board(nodes, Workload(demands))
    names = [*board.nodes]
    best = {demand: Best(board, names, demand) for demand in demands}
    for demand in demands:
        found = best[demand].found()
        assert found == board.best(names, demand)
        if found is None:
            continue
        board.place(found[0], demand, found[1].chosen)
        for one in best.values():
            one.changed(found[0])


def test_a_size_that_is_no_number_is_told_on_each_node() -> None:
    world = World(node("a", 2))
    one = member("m", 2)
    one["metadata"]["annotations"]["deviceplugin/pod-group-size"] = "two"
    meant = "deviceplugin/pod-group-size: 'two': a number of pods from 1 to 4096"
    assert world.filter(one) == ([], {meant})


def of(namespace: str, name: str, gpus: int, node: str = "") -> Document:
    one = pod(name, gpus=gpus, node=node)
    one["metadata"] |= {"namespace": namespace, "creationTimestamp": "1970-01-01T00:16:00Z"}
    return one


def full(**weights: int) -> World:
    """Namespace `big` has all GPUs of `a`, one of `b` is free, and `small` waits."""
    world = World(node("a", 19), node("b", 1), fair=FairShare(weights=weights))
    world.put(of("big", "b1", 19, "a"), of("small", "s1", 1))
    return world


def test_in_a_full_cluster_gpus_are_for_namespaces_below_their_share() -> None:
    world = full()
    refused = world.filter(of("big", "b2", 1))
    told = "the cluster is full and big holds 19 GPUs of its 10.0, while small waits"
    assert refused == ([], {told})
    assert world.schedule(of("small", "s1", 1)) == "b"


def test_a_share_goes_by_weight() -> None:
    assert full(big=99).filter(of("big", "b2", 0)) == (["a", "b"], set())
    world = full(big=39)
    assert world.filter(of("big", "b2", 1))[1] != set()


def test_nobody_waits_for_ever_for_others() -> None:
    world = full()
    made = datetime(1970, 1, 1, 0, 16, tzinfo=UTC).timestamp()
    world.now = made + 299
    assert world.filter(of("big", "b2", 1))[0] == []
    world.now = made + 300
    assert world.filter(of("big", "b2", 1))[0] == ["b"]


def test_parts_count_in_shares_as_so_much_of_a_gpu() -> None:
    some, all_held = ((7,), (0, 1, 2, 3, 4, 5, 6)), ((), tuple(range(7)))
    world = World(told("a", all_held, all_held, all_held, some), fair=FairShare())
    there = asking("b1", node="a", one=28)
    wanted, waiting = asking("b2", one=1), asking("s1", one=1)
    for one, namespace in ((there, "big"), (wanted, "big"), (waiting, "small")):
        one["metadata"] |= {"namespace": namespace, "creationTimestamp": "1970-01-01T00:16:00Z"}
    world.put(there, waiting)
    assert world.filter(wanted)[0] == ["a"]
    full = asking("b3", node="a", three=4)
    full["metadata"]["namespace"] = "big"
    world.put(full)
    world.now += 2
    told_by = "the cluster is full and big holds 5.5 GPUs of its 2.8, while small waits"
    assert world.filter(wanted) == ([], {told_by})


def test_where_there_is_room_or_nobody_waits_all_are_let_through() -> None:
    world = World(node("a", 40), fair=FairShare())
    world.put(of("big", "b1", 19, "a"), of("small", "s1", 1))
    assert world.filter(of("big", "b2", 1))[0] == ["a"]
    alone = World(node("a", 19), node("b", 1), fair=FairShare())
    alone.put(of("big", "b1", 19, "a"))
    assert alone.filter(of("big", "b2", 1))[0] == ["b"]


def test_an_explanation_says_what_the_runner_up_lacked_and_by_what_both_are_judged() -> None:
    world = World(node("a", 4), node("b", 8))
    world.put(pod("there", gpus=3, node="a"))
    world.schedule(pod("p", gpus=1))
    why = world.extender.explained("ml/p")
    assert why is not None
    assert [one["by"] for one in why["best"]] == ["counts", "counts"]
    assert why["lacking"] != ""


def test_the_only_node_that_is_left_is_the_decision() -> None:
    """kube-scheduler takes it without asking for scores."""
    world = World(node("a", 1), node("b", 4))
    world.put(pod("there", gpus=3, node="b"))
    world.put(pod("full", gpus=1, node="a"))
    assert world.filter(pod("p", gpus=1))[0] == ["b"]
    assert world.cluster.assumed == 1
    assert world.filter(pod("q", gpus=1))[0] == []
    why = world.extender.explained("ml/p")
    assert why is not None
    assert (why["best"][0]["node"], why["fitting"]) == ("b", 1)
    assert why["failed"] == [{"reason": "0 GPUs free, 1 requested", "nodes": 1}]


def test_a_pod_of_a_group_is_explained_by_the_place_that_is_kept_for_it() -> None:
    world = World(node("a", 1), node("b", 1))
    members = [member(f"m{n}", 2) for n in range(2)]
    world.put(*members)
    world.schedule(members[0])
    why = world.extender.explained("ml/m0")
    assert why is not None
    assert why["best"][0]["gpus"] == [0]
    assert [one["reason"] for one in why["failed"]] == ["its group g has a place for it on a"]


def test_an_explanation_says_why_the_other_nodes_were_not_among_those_that_fit() -> None:
    world = World(node("a", 4), node("b", 8), node("c", 1))
    world.schedule(pod("p", gpus=2))
    why = world.extender.explained("ml/p")
    assert why is not None
    assert (why["fitting"], len(why["best"])) == (2, 2)
    assert why["failed"] == [{"reason": "1 GPUs free, 2 requested", "nodes": 1}]


@pytest.mark.parametrize(
    ("held", "lacking"),
    [
        (("a", "a"), "it costs no more, but has more free GPU: 4, the best one 2"),
        ((), "nothing: names decide"),
    ],
)
def test_what_made_the_best_of_two_that_cost_the_same_is_told(
    held: tuple[str, ...], lacking: str
) -> None:
    world = World(node("a", 4), node("b", 4))
    for n, name in enumerate(held):
        world.put(pod(f"there-{n}", gpus=1, node=name, cpu="0"))
    world.schedule(pod("p"))
    why = world.extender.explained("ml/p")
    assert why is not None
    assert why["lacking"] == lacking


def test_what_a_pod_asks_for_is_told_where_its_annotation_is_refused() -> None:
    world = World(node("a", 4))
    one = pod("p", gpus=2)
    one["metadata"]["annotations"] = {"deviceplugin/gpu-memory": "lots"}
    world.filter(one)
    why = world.extender.explained("ml/p")
    assert why is not None
    assert why["demand"]["gpus"] == 2


def test_nothing_is_a_fragment_before_pods_are_expected() -> None:
    world = World(node("a", 4))
    assert world.cluster.board.packed() == {"capacity": 4000, "free": 4000}
    world.put(pod("p", gpus=3, node="a"))
    world.cluster.expect_what_is_there()
    assert world.cluster.board.packed()["fragment"] == 1000
