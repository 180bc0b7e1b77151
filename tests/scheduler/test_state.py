"""Kubernetes' objects, and what the scheduler knows of the cluster."""

import msgspec
import pytest

from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.held import Held
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.quantities import parse_quantity
from deviceplugin.scheduler.state import ASSUMED_S, Cluster
from tests.scheduler.objects import Document, node, pod

READING = Reading(shares={"example.com/share": 10})


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def as_pod(document: Document) -> Pod:
    return msgspec.convert(document, Pod)


def as_node(document: Document) -> Node:
    return msgspec.convert(document, Node)


def cluster(*nodes: Document, clock: Clock | None = None) -> Cluster:
    made = Cluster(READING, clock or Clock())
    made.set_nodes(map(as_node, nodes))
    return made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("4", 4), ("500m", 0.5), ("0.5", 0.5), (".5", 0.5), ("1e3", 1000), ("2E", 2e18)],
        *[("16Gi", 16 << 30), ("1k", 1000), ("100n", 1e-7), (3, 3), (0.25, 0.25), ("+1", 1)],
    ],
)
def test_quantities_are_kubernetes_own(text: str | float, value: float) -> None:
    assert float(parse_quantity(text)) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "m", ".", "1.2.3", "4 cores", "-1", "1KiB", "٣", "9" * 99, -1]
)
def test_what_is_no_quantity_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("resource", "most"), [("nvidia.com/gpu", 4096), ("example.com/share", 409_600)]
)
def test_a_node_with_more_gpus_than_there_are_has_none(resource: str, most: int) -> None:
    document = node("a", 0)
    for count, known in ((most, {"a"}), (most + 100, set[str]())):
        document["status"]["allocatable"][resource] = str(count)
        cluster = Cluster(READING, lambda: 0.0)
        cluster.set_nodes([msgspec.convert(document, Node)])
        assert {name for name, one in cluster.board.nodes.items() if one.free} == known
        assert cluster.unreadable == (0 if known else 1)


def test_a_pod_asks_for_the_sum_of_its_containers_or_for_more_in_an_init_container() -> None:
    document = pod("p", gpus=2, cpu="500m")
    document["spec"]["containers"].append({"resources": {"requests": {"cpu": "250m"}}})
    document["spec"]["initContainers"] = [
        {"resources": {"requests": {"cpu": "3", "nvidia.com/gpu": "1"}}},
        {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
    ]
    found = READING.demand_of(as_pod(document))
    assert (found.cpu_milli, found.memory_mib, found.gpus) == (3000, 1024, 2)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(47, (1, 470)), (100, (1, 1000)), (150, (2, 1000))],
    ids=["part", "whole", "more"],
)
def test_a_share_is_a_part_of_a_gpu(share: int, expected: tuple[int, int]) -> None:
    found = READING.demand_of(as_pod(pod("p", share=share)))
    assert (found.gpus, found.gpu_milli) == expected


def test_a_gpu_offered_whole_and_in_shares_counts_once() -> None:
    assert READING.capacity_of(as_node(node("n", 4))) == ("H100", 64_000, 512 << 10, 4)


def test_a_selector_of_the_model_is_a_demand_for_it() -> None:
    document = pod("p", gpus=1)
    document["spec"]["nodeSelector"] = {"nvidia.com/gpu.product": "A100"}
    assert READING.demand_of(as_pod(document)).models == frozenset({"A100"})


@pytest.mark.parametrize(
    ("terms", "models"),
    [
        ([["A100", "H100"]], {"A100", "H100"}),
        ([["A100"], ["H100"]], {"A100", "H100"}),
        ([["A100"], None], set()),
        ([[f"m{n}" for n in range(17)]], set()),
        ([], set()),
    ],
    ids=["several", "terms", "any", "very many", "none"],
)
def test_so_is_a_node_affinity_with_several(
    terms: list[list[str] | None], models: set[str]
) -> None:
    document = pod("p", gpus=1)
    label = {"key": "nvidia.com/gpu.product", "operator": "In"}
    expressions: list[Document] = [
        {"matchExpressions": [{**label, "values": values}] if values else [{"key": "x"}]}
        for values in terms
    ]
    name = "requiredDuringSchedulingIgnoredDuringExecution"
    document["spec"]["affinity"] = {"nodeAffinity": {name: {"nodeSelectorTerms": expressions}}}
    assert READING.demand_of(as_pod(document)).models == models


def test_pods_hold_until_they_end_or_are_gone() -> None:
    known, one = cluster(node("n", 2)), Demand(gpus=2)
    running = pod("p", gpus=1, node="n")
    known.put_pod(as_pod(running))
    assert known.misfit("n", one) == "1 GPUs free, 2 requested"
    known.put_pod(as_pod(running | {"status": {"phase": "Succeeded"}}))
    assert known.misfit("n", one) == ""
    known.put_pod(as_pod(running))
    known.remove_pod("uid-p")
    assert known.misfit("n", one) == ""


def test_a_pod_is_known_before_its_node() -> None:
    known = cluster()
    known.put_pod(as_pod(pod("p", gpus=2, node="n")))
    assert known.misfit("n", Demand(gpus=1)) is None
    known.put_node(as_node(node("n", 2)))
    assert known.misfit("n", Demand(gpus=1)) == "0 GPUs free, 1 requested"


def test_a_new_list_ends_what_is_not_in_it() -> None:
    known = cluster(node("a", 1), node("b", 1))
    known.put_pod(as_pod(pod("p", gpus=1, node="a")))
    known.set_pods([])
    known.set_nodes([as_node(node("a", 1))])
    assert known.misfit("a", Demand(gpus=1)) == ""
    assert known.misfit("b", Demand(gpus=1)) is None


def test_a_decision_holds_until_the_pod_shows_up_where_it_may() -> None:
    known = cluster(node("a", 1), node("b", 1))
    known.reserve("uid-p", Held("a", Demand(gpus=1)))
    assert known.misfit("a", Demand(gpus=1)) == "0 GPUs free, 1 requested"
    known.put_pod(as_pod(pod("p", gpus=1, node="b")))  # another plugin outvoted us
    assert known.misfit("a", Demand(gpus=1)) == ""
    assert known.misfit("b", Demand(gpus=1)) == "0 GPUs free, 1 requested"
    assert known.assumed == 0


def test_a_decision_that_did_not_come_about_is_forgotten() -> None:
    clock = Clock()
    known = cluster(node("a", 1), clock=clock)
    known.reserve("uid-p", Held("a", Demand(gpus=1)))
    clock.now = ASSUMED_S - 1
    known.forget("uid-other")
    assert known.misfit("a", Demand(gpus=1)) != ""
    clock.now = ASSUMED_S
    known.forget("uid-other")
    assert known.misfit("a", Demand(gpus=1)) == ""


def test_a_pod_that_is_asked_for_again_is_not_in_its_own_way() -> None:
    known = cluster(node("a", 1))
    known.reserve("uid-p", Held("a", Demand(gpus=1)))
    known.forget("uid-p")
    assert known.misfit("a", Demand(gpus=1)) == ""


def test_more_than_a_node_has_leaves_nothing_and_never_less() -> None:
    known = cluster(node("a", 1))
    for n in range(3):
        known.put_pod(as_pod(pod(f"p{n}", gpus=1, node="a")))
    assert known.board.nodes["a"].free == [0]
    known.remove_pod("uid-p0")
    known.remove_pod("uid-p1")
    known.remove_pod("uid-p2")
    assert known.board.nodes["a"].free == [1000]


def test_shares_fill_gpus_and_leave_whole_ones() -> None:
    known = cluster(node("a", 4))
    for n in range(4):
        known.put_pod(as_pod(pod(f"p{n}", share=50, node="a")))
    assert sorted(known.board.nodes["a"].free) == [0, 0, 1000, 1000]


def test_a_quantity_that_is_none_costs_its_object_alone() -> None:
    broken = node("broken")
    broken["status"]["allocatable"]["cpu"] = "many"
    known = cluster(broken, node("a", 1))
    known.put_pod(as_pod(pod("p", gpus=1, node="a", cpu="many")))
    assert known.misfit("a", Demand(gpus=1)) == ""
    assert known.misfit("broken", Demand(gpus=1)) == "0 GPUs free, 1 requested"
    assert known.unreadable == 2


def test_a_pod_whose_annotation_says_nothing_holds_what_it_counts() -> None:
    known = cluster(node("a", 2))
    running = pod("p", gpus=1, node="a")
    running["metadata"]["annotations"] = {"deviceplugin/gpu-memory": "lots"}
    known.put_pod(as_pod(running))
    assert known.misfit("a", Demand(gpus=2)) == "1 GPUs free, 2 requested"
    assert (known.asks_gpus(as_pod(running)), known.unreadable) == (True, 0)


def test_pods_that_get_a_node_are_counted_by_whether_we_were_asked() -> None:
    known = cluster(node("a", 4))
    for name in ("asked", "unasked"):
        known.put_pod(as_pod(pod(name, gpus=1)))
    known.put_pod(as_pod(pod("plain")))
    known.reserve("uid-asked", Held("a", Demand(gpus=1)))
    for name in ("asked", "unasked"):
        known.put_pod(as_pod(pod(name, gpus=1, node="a")))
        known.put_pod(as_pod(pod(name, gpus=1, node="a")))
    known.put_pod(as_pod(pod("plain", node="a")))
    known.put_pod(as_pod(pod("there-before-us", gpus=1, node="a")))
    assert known.bound == {True: 1, False: 1}
