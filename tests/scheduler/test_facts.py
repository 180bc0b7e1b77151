"""What the facts of a node's daemon, annotations of pods and policies of nodes do to a decision."""

import msgspec
import pytest

from deviceplugin.kubernetes.facts import ANNOTATION, GpuFacts, NodeFacts, pod_hash, written
from deviceplugin.scheduler.about import About, Wants
from deviceplugin.scheduler.asking import Asking, AskingError
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.packing import Cost, cost
from deviceplugin.scheduler.parts import Weights
from deviceplugin.scheduler.room import NodeState, misfit
from deviceplugin.scheduler.state import Cluster
from tests.scheduler.objects import Document, node, pod

GPU = "nvidia.com/gpu"
NEAR, FAR = 1500, 40_000
TWO = Demand(gpus=2)


def gpus(count: int, **more: object) -> tuple[GpuFacts, ...]:
    offers = {GPU: 1}
    return tuple(
        GpuFacts(id=f"GPU-{n}", offers=offers, **more)  # type: ignore[arg-type]  # of the struct
        for n in range(count)
    )


def state(about: About, *free: int, name: str = "n") -> NodeState:
    return NodeState(name, "H100", 64_000, 500_000, list(free), about=about)


def priced(about: About, demand: Demand, *free: int, weights: Weights | None = None) -> Cost:
    found = cost(state(about, *free), demand, Workload([demand]), weights or Weights())
    assert found is not None
    return found


def test_linked_gpus_are_given_together() -> None:
    links = {(0, 1): FAR, (0, 2): FAR, (0, 3): NEAR, (1, 2): NEAR, (1, 3): FAR, (2, 3): FAR}
    about = About(gpus=gpus(4), links=links)
    assert priced(about, TWO, 1000, 1000, 1000, 1000).chosen == (0, 3)
    assert priced(about, TWO, 0, 1000, 1000, 1000).chosen == (1, 2)


def test_a_node_whose_free_gpus_are_linked_is_cheaper_by_the_weight_of_affinity() -> None:
    linked, apart = (About(gpus=gpus(2), links={(0, 1): link}) for link in (NEAR, FAR))
    assert priced(linked, TWO, 1000, 1000).key < priced(apart, TWO, 1000, 1000).key
    nothing = Weights(fit=50, affinity=0, balance=20)
    one, other = (priced(a, TWO, 1000, 1000, weights=nothing) for a in (linked, apart))
    assert one.key == other.key


@pytest.mark.parametrize("worse", [{"load": 9}, {"celsius": 90}, {"warned": True}])
def test_the_idle_cool_and_well_gpu_is_given(worse: dict[str, object]) -> None:
    bad = msgspec.structs.replace(gpus(1)[0], **worse)
    assert priced(About(gpus=(bad, *gpus(1))), Demand(gpus=1), 1000, 1000).chosen == (1,)


def test_what_is_not_known_costs_nothing() -> None:
    plain = NodeState("n", "H100", 64_000, 500_000, [1000, 1000])
    by_counts = cost(plain, TWO, Workload([TWO]))
    assert by_counts is not None
    assert priced(About(), TWO, 1000, 1000).key == by_counts.key


@pytest.mark.parametrize(
    ("wants", "reason"),
    [
        (Wants(memory_mib=90_000), "0 GPUs with 90000 MiB free, 2 requested"),
        (Wants(isolation="hardware"), "0 GPUs with isolation hardware free, 2 requested"),
        (Wants(capability=90), "compute capability 8, 9 requested"),
        (Wants(linked=True), "no 2 free GPUs with links between them"),
        (
            Wants(domain="b", domain_required=True),
            "link domain a, the pod's group is in b",
        ),
        (Wants(required=frozenset({"db"})), "no pod of db here, which the pod wants beside it"),
        (Wants(forbidden=frozenset({"web"})), "pods of web are here, which the pod forbids"),
        (Wants(memory_mib=80_000, isolation="none", capability=80), ""),
    ],
)
def test_what_a_pod_wants_and_a_node_lacks_is_told(wants: Wants, reason: str) -> None:
    about = About(
        gpus=gpus(2, memory_mib=81_920, isolation="memory"),
        links={(0, 1): FAR},
        capability=80,
        domain="a",
        apps=frozenset({"web"}),
    )
    assert misfit(state(about, 1000, 1000), Demand(gpus=2, wants=wants)) == reason


def test_a_policy_of_a_node_decides_which_of_its_gpus() -> None:
    half = Demand(gpus=1, gpu_milli=300)
    assert priced(About(), half, 600, 1000, 300).chosen == (2,)
    for policy in ("fair_share", "spread", "real_time"):
        assert priced(About(policy=policy), half, 600, 1000, 300).chosen == (1,)


def test_a_node_with_the_policy_priority_is_kept_for_pods_with_a_priority() -> None:
    kept, plain = About(policy="priority"), About()
    one = Demand(gpus=1)
    favoured = msgspec.structs.replace(one, wants=Wants(favoured=True))
    assert priced(kept, one, 1000).key > priced(plain, one, 1000).key
    assert priced(kept, favoured, 1000).key == priced(plain, favoured, 1000).key


def test_real_time_work_goes_where_nobody_else_is() -> None:
    idle = Demand(gpus=1, gpu_milli=300, wants=Wants(idle=True))
    assert priced(About(gpus=gpus(2)), idle, 700, 1000).chosen == (1,)


def told(facts: NodeFacts, count: int = 4) -> Document:
    document = node("a", count)
    document["metadata"]["annotations"] = {ANNOTATION: written(facts)}
    return document


def cluster(*nodes: Document) -> Cluster:
    made = Cluster(Reading(shares={"example.com/share": 10}), lambda: 0.0)
    made.set_nodes(msgspec.convert(nodes, list[Node]))
    return made


def test_an_ill_gpu_is_not_counted() -> None:
    facts = NodeFacts(gpus=(*gpus(3), GpuFacts(id="GPU-3", healthy=False)))
    known = cluster(told(facts))
    assert known.misfit("a", Demand(gpus=4)) == "3 GPUs free, 4 requested"
    assert (known.nodes.with_facts, known.nodes.judged_by("a", Demand())) == (1, "facts")


def test_a_pod_has_the_gpu_that_the_daemon_says() -> None:
    known = cluster(told(NodeFacts(gpus=gpus(4), held={pod_hash("ml", "p"): (2,)})))
    known.put_pod(msgspec.convert(pod("p", gpus=1, node="a"), Pod))
    known.put_pod(msgspec.convert(pod("q", gpus=1, node="a"), Pod))
    free = known.board.nodes["a"].free
    assert (free[2], sum(free)) == (0, 2000)


def test_else_the_one_that_the_kubelet_says() -> None:
    known = cluster(told(NodeFacts(gpus=gpus(4))))
    given = pod("p", gpus=1, node="a")
    known.put_pod(msgspec.convert(given, Pod))
    given["status"]["containerStatuses"] = [
        {"allocatedResourcesStatus": [{"name": GPU, "resources": [{"resourceID": "GPU-3"}]}]}
    ]
    known.put_pod(msgspec.convert(given, Pod))
    assert known.board.nodes["a"].free == [1000, 1000, 1000, 0]


@pytest.mark.parametrize("text", ["", "{", '{"version":9,"gpus":[{"i":"x"}]}'])
def test_facts_that_cannot_be_read_leave_the_counts(text: str) -> None:
    document = node("a", 4)
    document["metadata"]["annotations"] = {ANNOTATION: text}
    known = cluster(document)
    assert known.misfit("a", Demand(gpus=4)) == ""
    assert (known.nodes.with_facts, known.nodes.judged_by("a", Demand())) == (0, "counts")


def test_new_facts_replace_the_old_ones() -> None:
    known = cluster(told(NodeFacts(gpus=gpus(4))))
    ill = NodeFacts(gpus=(*gpus(2), *gpus(2, healthy=False)))
    known.put_node(msgspec.convert(told(ill), Node))
    assert known.misfit("a", Demand(gpus=3)) == "2 GPUs free, 3 requested"


ASKING = Asking(
    classes={"training": Wants(memory_mib=32_768, capability=80)}, realtime=True, near_nic=True
)


def test_an_annotation_wins_over_the_class() -> None:
    given = {"deviceplugin/workload-class": "training", "deviceplugin/gpu-memory": "40GiB"}
    wants = ASKING.wants_of(given, 5)
    assert (wants.memory_mib, wants.capability) == (40_960, 80)
    assert (wants.near_nic, wants.favoured) == (True, True)
    assert not ASKING.wants_of({"deviceplugin/near-nic": "false"}, 0).near_nic
    assert ASKING.wants_of({"deviceplugin/workload-class": "realtime"}, 0).idle


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("workload-class", "trainings", "no class of workloads: training"),
        ("gpu-memory", "lots", "a size such as 32GiB"),
        ("isolation", "high", "one of none, memory, process, hardware"),
        ("links", "yes", "one of required"),
        ("beside", "a b", "at most 16 names of apps"),
        ("not-beside", "x" * 64, "at most 16 names of apps"),
        ("beside", ",".join(f"a{n}" for n in range(17)), "at most 16 names of apps"),
        ("gpu-memory", "9" * 100_000, "a size such as 32GiB"),
        ("gpu-memory", "1e999GiB", "a size such as 32GiB"),
        ("isolation", "x" * 200_000, "one of none"),
    ],
)
def test_an_annotation_that_says_nothing_is_told(name: str, value: str, meant: str) -> None:
    with pytest.raises(AskingError, match=meant) as raised:
        ASKING.wants_of({f"deviceplugin/{name}": value}, 0)
    assert len(str(raised.value)) < 300  # it is the reason on each of thousands of nodes
