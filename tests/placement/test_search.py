"""The bounded search: exact where the work suffices, and complete beyond."""

from itertools import product
from random import Random

import pytest

from deviceplugin.placement.problem import Problem, cost_of, rest_cost
from deviceplugin.placement.search import best_counts


def random_problem(seed: int, gpus: int, room: int) -> Problem:
    dice = Random(seed)  # a table of numbers
    costs = [[0] * gpus for _ in range(gpus)]
    for one in range(gpus):
        for other in range(one):
            costs[one][other] = costs[other][one] = dice.choice([1500, 24000, 29000, 36100, 100000])
    rooms = tuple(dice.randint(0, room) for _ in range(gpus))
    must = tuple(dice.choice([0, 0, 0, min(1, have)]) for have in rooms)
    size = dice.randint(sum(must), max(sum(rooms), sum(must)))
    # Among equal sums of these costs the relations are equal too.
    return Problem(
        costs=costs,
        fragmentation_costs=costs,
        interchangeable=tuple(range(gpus)),
        free=rooms,
        limits=rooms,
        must=must,
        size=size,
    )


def all_choices(problem: Problem) -> list[tuple[int, ...]]:
    ranges = [range(low, high + 1) for low, high in zip(problem.must, problem.limits, strict=True)]
    return [counts for counts in product(*ranges) if sum(counts) == problem.size]


@pytest.mark.parametrize("seed", range(40))
def test_of_whole_gpus_none_is_better_connected_nor_leaves_more(seed: int) -> None:
    problem = random_problem(seed, gpus=8, room=1)
    best = best_counts(problem)
    assert best.exact

    def full(counts: tuple[int, ...]) -> tuple[int, int]:
        costs = problem.costs
        return cost_of(counts, costs), rest_cost(counts, problem.free, costs)

    assert full(best.counts) == min(map(full, all_choices(problem)))


@pytest.mark.parametrize("seed", range(30))
def test_of_parts_in_a_tree_none_is_better_connected(seed: int) -> None:
    """In a tree of boards, switches and sockets at most one GPU is given in part."""
    problem = random_problem(seed, gpus=5, room=3)
    tree = [
        [0 if a == b else 24_000 if a // 2 == b // 2 else 40_000 for b in range(5)]
        for a in range(5)
    ]
    problem = Problem(
        costs=tree,
        fragmentation_costs=tree,
        interchangeable=problem.interchangeable,
        free=problem.free,
        limits=problem.limits,
        must=problem.must,
        size=problem.size,
    )
    best = best_counts(problem)
    assert best.score[0] == min(cost_of(counts, tree) for counts in all_choices(problem))


@pytest.mark.parametrize("size", [1, 7, 20, 32, 50, 63, 64])
def test_beyond_the_bound_the_answer_is_complete_and_good(size: int) -> None:
    dice = Random(size)  # a table of numbers
    costs = [[0] * 64 for _ in range(64)]
    for one in range(64):
        for other in range(one):
            costs[one][other] = costs[other][one] = dice.randrange(1500, 100_000)
    ones = (1,) * 64
    problem = Problem(
        costs=costs,
        fragmentation_costs=costs,
        interchangeable=tuple(range(64)),
        free=ones,
        limits=ones,
        must=(0,) * 64,
        size=size,
    )
    best = best_counts(problem)
    first = (1,) * size + (0,) * (64 - size)
    assert sum(best.counts) == size
    assert max(best.counts) == 1
    assert best.score[0] <= cost_of(first, costs)


def test_exchanges_never_make_a_greedy_choice_worse() -> None:
    problems = [random_problem(seed, gpus=12, room=2) for seed in range(20)]
    exact = [best_counts(problem).score for problem in problems]
    bounded = [best_counts(problem, step_work=0) for problem in problems]
    assert not any(found.exact for found in bounded)
    for problem, found, best in zip(problems, bounded, exact, strict=True):
        assert sum(found.counts) == problem.size
        assert all(
            m <= c <= r for m, c, r in zip(problem.must, found.counts, problem.limits, strict=True)
        )
        assert found.score[0] <= best[0] * 1.5 + 1
