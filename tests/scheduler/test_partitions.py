"""Pods that ask for parts of GPUs: which parts are taken, and on which node that leaves most."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.kubernetes.facts import ANNOTATION, GpuFacts, NodeFacts, read, written
from deviceplugin.scheduler.about import About, Wants
from deviceplugin.scheduler.demand import Demand, Workload, as_document
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.packing import Cost, cost
from deviceplugin.scheduler.partitions import (
    MAX_PARTS,
    CutGpu,
    Expected,
    Shape,
    Shapes,
    Taken,
    after,
    choose,
    unusable,
)
from deviceplugin.scheduler.room import NodeState
from deviceplugin.scheduler.state import Cluster
from tests.scheduler.objects import Document, node, pod
from tests.scheduler.partitions import NAMES, ONE, SEVEN, THREE, asking, told

SHAPES = Shapes(
    model="H100",
    of={
        ONE: Shape(8, 1, tuple(range(7))),
        THREE: Shape(8, 4, (0, 4)),
        SEVEN: Shape(8, 8, (0,)),
    },
)
CPX = Shape(8, 1, tuple(range(8)), even=True)


def mig(used: int = 0, **free: tuple[int, ...]) -> CutGpu:
    """A GPU with such parts free, `one=(4, 5)`."""
    return CutGpu(used, {NAMES[of]: (SHAPES.of[NAMES[of]], at) for of, at in free.items()})


def taken(*gpus: CutGpu, parts: tuple[tuple[str, int], ...], **shares: float) -> list[Taken]:
    expected = Expected({NAMES[of]: share for of, share in shares.items()})
    return [*choose(dict(enumerate(gpus)), parts, expected, SHAPES).taken]


def test_the_place_that_breaks_no_larger_one_is_taken() -> None:
    # 1g at 0 and 5 are free, 6 is in use: a 3g has place at 0 alone.
    broken = mig(0b0100_0000, one=(0, 5))
    assert taken(broken, parts=((ONE, 1),), one=0.5, three=0.5) == [Taken(0, ONE, 5)]


def test_of_gpus_that_lose_the_same_the_fullest_gives_the_part() -> None:
    empty, used = mig(one=(0, 1, 2)), mig(0b0111, one=(3,))
    assert taken(empty, used, parts=((ONE, 1),), one=1.0) == [Taken(1, ONE, 3)]


def test_a_gpu_that_nobody_uses_is_left_to_those_who_need_all_of_it() -> None:
    empty, used = mig(one=(0, 1)), mig(0b0001, one=(1, 2))
    assert taken(empty, used, parts=((ONE, 1),), one=0.6, seven=0.4)[0].gpu == 1


def test_several_parts_are_taken_large_ones_first() -> None:
    both = mig(one=(0, 1), three=(4,))
    found = taken(both, parts=((ONE, 1), (THREE, 1)), one=0.5, three=0.5)
    assert found == [Taken(0, THREE, 4), Taken(0, ONE, 0)]


def test_parts_of_an_even_division_hinder_all_others() -> None:
    shapes = Shapes(
        model="MI300X",
        of={"amd.com/cpx_nps4": CPX, "amd.com/dpx_nps1": Shape(2, 1, (0, 1), even=True)},
    )
    shares = {"amd.com/dpx_nps1": 1.0}
    empty, used = (CutGpu(bits, {"amd.com/cpx_nps4": (CPX, tuple(range(1, 8)))}) for bits in (0, 1))
    assert unusable(shares, empty, shapes) == 0
    assert unusable(shares, used, shapes) == 875
    assert unusable({"amd.com/cpx_nps4": 1.0}, used, shapes) == 0
    found = choose({0: empty, 1: used}, (("amd.com/cpx_nps4", 1),), Expected(shares), shapes)
    assert found.gpus == (1,)


def test_parts_of_which_no_place_is_known_hinder_nobody() -> None:
    found = choose({0: mig(one=(0,))}, ((SEVEN, 1), (ONE, 3)), Expected({ONE: 1.0}), SHAPES)
    assert found.taken == (Taken(0, ONE, 0),)


@given(st.permutations(range(7)), st.integers(0, 7))
def test_what_is_given_back_leaves_the_gpu_as_it_was(order: list[int], count: int) -> None:
    before = {0: mig(one=tuple(range(7)))}
    some = [Taken(0, ONE, start) for start in order[:count]]
    assert after(after(before, some), some[::-1], -1) == before


def cluster(*nodes: Document, pods: tuple[Document, ...] = ()) -> Cluster:
    made = Cluster(Reading(), lambda: 0.0)
    made.set_nodes(msgspec.convert(nodes, list[Node]))
    made.set_pods(msgspec.convert(pods, list[Pod]))
    made.expect_what_is_there()
    return made


def demand(known: Cluster, document: Document) -> Demand:
    return known.reading.demand_of(msgspec.convert(document, Pod))


def test_a_node_with_too_few_parts_has_no_room() -> None:
    known = cluster(told("a", ((0, 1), ())))
    assert known.misfit("a", demand(known, asking("p", one=2))) == ""
    wanted = demand(known, asking("p", one=3))
    assert known.misfit("a", wanted) == f"2 {ONE} free, 3 requested"
    assert as_document(wanted)["partitions"] == {ONE: 3}


def test_a_part_that_no_node_lists_is_left_to_kube_scheduler() -> None:
    known = cluster(told("a", ((0, 1), ())))
    assert known.misfit("a", Demand(parts=(("nvidia.com/gpumem", 5),))) == ""


def test_a_pod_of_which_the_daemon_does_not_yet_tell_holds_what_packing_takes() -> None:
    known = cluster(told("a", ((1, 2), (0,))), pods=(asking("x", node="a", one=1),))
    assert known.board.nodes["a"].cut[0].used == 0b1
    known.put_pod(msgspec.convert(asking("y", node="a", one=1), Pod))
    state = known.board.nodes["a"]
    assert (state.parts[ONE], state.cut[0].used.bit_count()) == (1, 2)
    known.remove_pod("uid-y")
    assert known.board.nodes["a"].parts[ONE] == 2


def best(known: Cluster, wanted: Document) -> tuple[str, Cost]:
    names = tuple(known.board.nodes)
    found = known.board.best(names, demand(known, wanted))
    assert found is not None
    return found


def test_the_node_is_chosen_where_the_expected_parts_lose_least() -> None:
    waiting = (asking("w1", three=1), asking("w2", one=1))
    # On `a` each free 1g lies where a 3g could be; on `b` beside one that is held.
    known = cluster(told("a", ((0, 1), ())), told("b", ((1, 2), (0,))), pods=waiting)
    name, found = best(known, asking("p", one=1))
    assert (name, [one.start for one in found.taken]) == ("b", [1])
    assert (
        found.fragment < known.board.costs(["a"], demand(known, asking("p", one=1)))["a"].fragment
    )


def test_without_facts_parts_are_counted_and_the_fuller_node_is_chosen() -> None:
    plain = [node(name, 0) for name in ("a", "b")]
    for one in plain:
        one["status"]["allocatable"] |= {ONE: "7", "nvidia.com/gpu": "0"}
    known = cluster(*plain, pods=(asking("x", node="b", one=6),))
    assert known.misfit("b", demand(known, asking("p", one=2))) == f"1 {ONE} free, 2 requested"
    assert best(known, asking("p", one=1))[0] == "b"


def test_a_resource_that_is_several_of_each_gpu_is_judged_by_counts() -> None:
    shared = node("a", 8)
    facts = NodeFacts(gpus=tuple(GpuFacts(id=f"G{n}", offers={"nvidia.com/gpu": 4}) for n in "01"))
    shared["metadata"]["annotations"] = {ANNOTATION: written(facts)}
    known = cluster(shared)
    assert known.nodes.judged_by("a", Demand()) == "counts"
    assert known.misfit("a", Demand(gpus=8)) == ""


def test_a_pod_for_monitoring_asks_for_no_part() -> None:
    watching = pod("p")
    watching["spec"]["containers"][0]["resources"]["limits"] |= {"intel.com/gpu-monitoring": "1"}
    assert not Reading().demand_of(msgspec.convert(watching, Pod)).asks


@pytest.mark.parametrize("weights", [{ONE: 1.0}, {}])
def test_a_demand_for_parts_and_gpus_takes_both(weights: dict[str, float]) -> None:
    wanted = Demand(gpus=1, parts=((ONE, 1),))
    about = About(shapes=SHAPES)
    state = NodeState(
        "n", "H100", 9_000, 9_000, [1000], about=about, parts={ONE: 2}, cut={1: mig(one=(0, 1))}
    )
    found = cost(state, wanted, Workload([wanted] if weights else []))
    assert found is not None
    assert (found.chosen, found.taken) == ((0,), (Taken(1, ONE, 0),))
    state.take(wanted, found.chosen, taken=found.taken)
    assert (state.free, state.parts, state.cut[1].used) == ([0], {ONE: 1}, 1)
    state.take(wanted, found.chosen, -1, found.taken)
    assert (state.free, state.parts, state.cut[1].used) == ([1000], {ONE: 2}, 0)


WANTED = [
    ({"deviceplugin/gpu-memory": "16GiB"}, "16384 MiB"),
    ({"deviceplugin/isolation": "hardware"}, "isolation hardware"),
]


@pytest.mark.parametrize(("annotations", "asked"), WANTED, ids=["memory", "isolation"])
def test_memory_and_isolation_are_looked_at_for_parts(
    annotations: dict[str, str], asked: str
) -> None:
    little = told("a", ((0, 1), ()), mib=9_856, isolation="memory")
    much = told("b", ((0,), ()), mib=19_968, isolation="hardware")
    known = cluster(little, much, told("c", ((0, 1), ())))
    wanted = asking("p", one=1)
    wanted["metadata"]["annotations"] = annotations
    found = demand(known, wanted)
    assert known.misfit("a", found) == f"0 {ONE} with {asked} free, 1 requested"
    assert (known.misfit("b", found), known.misfit("c", found)) == ("", "")  # c: not known
    assert {"b", "c"} == known.board.costs(["a", "b", "c"], found).keys()


def test_of_the_gpus_of_a_node_only_those_that_suit_give_parts() -> None:
    document = told("a", ((0,), ()), ((1, 2), (3,)))
    facts = read(document["metadata"]["annotations"][ANNOTATION])
    assert facts is not None
    sizes = (9_856, 19_968)
    gpus = tuple(
        msgspec.structs.replace(
            gpu, parts={ONE: msgspec.structs.replace(gpu.parts[ONE], memory_mib=mib)}
        )
        for gpu, mib in zip(facts.gpus, sizes, strict=True)
    )
    document["metadata"]["annotations"][ANNOTATION] = written(NodeFacts(gpus=gpus))
    known = cluster(document, pods=(asking("x", node="a", one=1),))
    wanted = demand(known, asking("p", one=2))
    wanted = msgspec.structs.replace(wanted, wants=Wants(memory_mib=16_000))
    found = known.board.costs(["a"], wanted)["a"]
    assert {one.gpu for one in found.taken} == {1}
    more = msgspec.structs.replace(wanted, parts=((ONE, 3),))
    assert known.misfit("a", more) == f"2 {ONE} with 16000 MiB free, 3 requested"
    # The pod that holds one of them is about to go: the daemon does not tell of it yet.
    assert known.misfit("a", more, ["uid-x"]) == ""


def test_parts_count_among_the_gpus_of_the_cluster() -> None:
    known = cluster(told("a", ((0, 1), (2,))), node("b", 2), pods=(asking("x", node="a", one=1),))
    packed = known.board.packed()
    assert (packed["capacity"], packed["free"]) == (3000, 2000 + 875)
    held, free = demand(known, asking("p", one=2)), demand(known, asking("p", seven=1))
    assert (known.milli_of(held, "a"), known.milli_of(held), known.milli_of(free)) == (250, 250, 0)


def test_a_pod_that_asks_for_very_many_parts_is_judged_by_some_of_them() -> None:
    gpus = dict(enumerate(mig(one=tuple(range(7))) for _ in range(20)))
    found = choose(gpus, ((ONE, 10**9),), Expected({ONE: 1.0}), SHAPES)
    assert len(found.taken) == MAX_PARTS
