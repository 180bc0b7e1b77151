"""What a demand costs on a node."""

import pytest

from deviceplugin.scheduler.alike import ranks
from deviceplugin.scheduler.board import Board
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.packing import cost
from deviceplugin.scheduler.room import NodeState, misfit

SHARED = Demand(cpu_milli=4000, gpus=1, gpu_milli=500)
WHOLE = Demand(cpu_milli=8000, gpus=1)
FOUR = Demand(cpu_milli=8000, gpus=4)


def node(*free: int, name: str = "n", model: str = "A", cpu: int = 96_000) -> NodeState:
    return NodeState(name, model, cpu, 500_000, list(free))


def test_a_fragment_is_what_the_expected_pods_cannot_use() -> None:
    workload = Workload([SHARED, WHOLE])
    # Half of the pods need 1000: for them the gap of 400 is lost; the other half needs 500.
    assert workload.fragment("A", 96_000, (1000, 400)) == 400
    assert workload.fragment("A", 96_000, (600,)) == 300
    assert workload.fragment("A", 0, (1000,)) == 1000  # no CPU, so nothing of it can be used


def test_gpu_is_a_fragment_for_pods_that_need_none_or_another_model() -> None:
    typed = Demand(gpus=1, models=frozenset({"B"}))
    assert Workload([Demand(cpu_milli=1), WHOLE]).fragment("A", 96_000, (1000,)) == 500
    assert Workload([typed]).fragment("A", 96_000, (1000,)) == 1000
    assert Workload([typed]).fragment("B", 96_000, (1000,)) == 0


def test_a_gap_in_which_nothing_fits_is_waste_and_one_that_is_filled_is_none() -> None:
    waste = Workload([SHARED] * 3).waste
    assert waste[400] == 400
    assert waste[500] == 0
    assert waste[900] == 400
    assert waste[1000] == 0


def test_gpu_beyond_what_the_cpus_serve_is_stranded() -> None:
    workload = Workload([WHOLE])  # 8 thousandths of a CPU for each of a GPU, with and without GPUs
    assert workload.stranded(8000, 1000) == 0
    assert workload.stranded(4000, 1000) == 1000  # half of it, by each of the two ratios


def test_an_empty_workload_and_one_without_gpus_cost_nothing() -> None:
    for demands in ([], [Demand(cpu_milli=1000)]):
        found = cost(node(1000), WHOLE, Workload(demands))
        assert found is not None
        assert found.chosen == (0,)


def test_a_shared_pod_fills_the_gap_that_it_closes() -> None:
    found = cost(node(1000, 500, 700), SHARED, Workload([SHARED, WHOLE]))
    assert found is not None
    assert found.chosen == (1,)


def test_whole_gpus_are_taken_whole() -> None:
    found = cost(node(1000, 500, 1000, 1000, 1000), FOUR, Workload([FOUR]))
    assert found is not None
    assert found.chosen == (0, 2, 3, 4)
    assert cost(node(1000, 500, 1000, 1000), FOUR, Workload([FOUR])) is None


@pytest.mark.parametrize(
    ("demand", "reason"),
    [
        (Demand(cpu_milli=97_000), "96000m CPU free, 97000m requested"),
        (Demand(memory_mib=600_000), "500000 MiB memory free, 600000 MiB requested"),
        (Demand(gpus=1, models=frozenset({"B"})), "GPU model A, B requested"),
        (Demand(gpus=2), "1 GPUs free, 2 requested"),
        (Demand(gpus=3, gpu_milli=400), "2 GPUs with 40 % free, 3 requested"),
        (Demand(gpus=2, gpu_milli=400), ""),
    ],
    ids=["cpu", "memory", "model", "whole", "shared", "fits"],
)
def test_what_does_not_fit_says_what_is_lacking(demand: Demand, reason: str) -> None:
    assert misfit(node(1000, 400), demand) == reason


def test_the_fuller_of_two_nodes_alike_wins() -> None:
    board = Board([node(1000, 1000, name="a"), node(1000, 0, name="b")], Workload([WHOLE]))
    best = board.best(["a", "b"], WHOLE)
    assert best is not None
    assert best[0] == "b"


def test_a_cost_follows_what_is_placed_and_freed() -> None:
    board = Board([node(1000)], Workload([WHOLE]))
    first = board.cost("n", WHOLE)
    assert first is not None
    board.place("n", WHOLE, first.chosen)
    assert board.cost("n", WHOLE) is None
    board.free("n", WHOLE, first.chosen)
    assert board.cost("n", WHOLE) == first


def test_no_two_nodes_have_the_same_score() -> None:
    board = Board([node(1000, name=str(n)) for n in range(50)], Workload([WHOLE]))
    scores = ranks(board.costs(board.nodes, WHOLE))
    assert sorted(scores.values()) == list(range(50))


def test_the_cheapest_node_has_the_highest_score() -> None:
    board = Board([node(1000, name="a"), node(600, name="b")], Workload([SHARED, WHOLE]))
    best = board.best(["a", "b"], SHARED)
    assert best is not None
    scores = ranks(board.costs(["a", "b"], SHARED))
    assert max(scores, key=scores.__getitem__) == best[0]


def test_what_is_remembered_of_kinds_of_pods_is_bounded() -> None:
    board = Board([node(1000)], Workload([WHOLE]))
    for cpu in range(1000):
        board.cost("n", Demand(cpu_milli=cpu, gpus=1))
    assert len(board._known) == 256
