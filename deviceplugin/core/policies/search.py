"""The best-connected choice of parts of GPUs, with a bound on the work instead of on the time.

A choice is a count for each GPU. Its cost is the sum over all pairs of its parts; among equal
costs the choice wins that leaves the better sets, measured with steeper costs S. With n free
parts on each GPU (vector F) the rest of a choice K costs F·S·F/2 - K·S·F + K·S·K/2. Choices of
equal cost nearly always consist of the same relations, so their K·S·K is equal too, and the best
rest is the largest K·(S·F): a linear term, `pull` below.

Filling GPUs is never worse than dividing them wherever near-ness is like a tree (boards, switches,
sockets): the cost is then concave over choices of one size, and its minimum has at most one GPU
that is given in part. The exact search looks at those choices only: for every GPU that could be
the divided one, which others are given whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deviceplugin.core.policies.exact import search_exactly
from deviceplugin.core.policies.problem import (
    Best,
    Counts,
    Problem,
    cost_of,
    dot,
    kinds,
    prepare,
    value_of,
)

# Bounds of the work, in units of one look at one GPU: together under 5 ms on one slow core.
MAX_STEP_WORK = 3_000
MAX_SEED_WORK = 2_000
MAX_SWAP_WORK = 600

Score = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best choice; `exact` says that no other of the searched form is better."""

    counts: Counts
    score: Score
    exact: bool


def best_counts(problem: Problem, step_work: int = MAX_STEP_WORK) -> Found:
    """The best choice: exact where `step_work` suffices, else greedy and improved."""
    best = prepare(problem, step_work)
    for seed in _seeds(problem):
        counts = _greedy(best, seed)
        best.offer(counts, value_of(best, counts))
    exact = search_exactly(best)
    if not exact:
        _improve(best)
    counts = _first_of_alike(best)
    cost = cost_of(counts, problem.costs)
    return Found(counts=counts, score=(cost, -dot(counts, best.pull)), exact=exact)


def _seeds(problem: Problem) -> Sequence[int | None]:
    """Where to start: at what must be included, else at one GPU of each kind, within bounds."""
    if any(problem.must):
        return (None,)
    seen: dict[tuple[int, int], int] = {}
    for at, room in enumerate(problem.room):
        if room:
            seen.setdefault((problem.twins[at], room), at)
    allowed = max(1, MAX_SEED_WORK // max(len(problem.room), 1) ** 2)
    return tuple(seen.values())[:allowed] or (None,)


def _greedy(best: Best, seed: int | None) -> Counts:
    """Take the GPU nearest to what is taken, whole, until it is enough."""
    problem = best.problem
    counts = list(problem.must)
    near = [dot(row, counts) for row in problem.costs]
    left = problem.size - sum(counts)
    following = seed
    while left > 0:
        at = _nearest(best, counts, near) if following is None else following
        amount = min(left, problem.room[at] - counts[at])
        counts[at] += amount
        left -= amount
        near = [n + amount * c for n, c in zip(near, problem.costs[at], strict=True)]
        following = None
    return tuple(counts)


def _nearest(best: Best, counts: list[int], near: list[int]) -> int:
    room = best.problem.room
    options = (
        (near[at], -best.pull[at], at) for at, taken in enumerate(counts) if taken < room[at]
    )
    return min(options)[2]


def _first_of_alike(best: Best) -> Counts:
    """The same choice with the larger counts on the first GPUs of each kind."""
    members: dict[tuple[int, int, int], list[int]] = {}
    for at, kind in enumerate(kinds(best.problem)):
        members.setdefault(kind, []).append(at)
    counts = list(best.counts)
    for places in members.values():
        ordered = sorted((counts[at] for at in places), reverse=True)
        for at, count in zip(places, ordered, strict=True):
            counts[at] = count
    return tuple(counts)


def _improve(best: Best) -> None:
    """Exchange parts between two GPUs as long as it helps and the work is within bounds."""
    work = MAX_SWAP_WORK
    while work > 0:
        value = best.value
        work -= _exchange(best, work)
        if best.value >= value:
            return


def _exchange(best: Best, work: int) -> int:
    """Make the best single exchange; says how many were looked at."""
    problem, counts = best.problem, best.counts
    near = [dot(row, counts) - pull for row, pull in zip(best.costs, best.pull, strict=True)]
    givers = [at for at, count in enumerate(counts) if count > problem.must[at]]
    takers = [at for at, count in enumerate(counts) if count < problem.room[at]]
    moves = [(g, t) for g in givers for t in takers if g != t][:work]
    if not moves:
        return work
    change, give, to, amount = min(_move(best, near, g, t) for g, t in moves)
    changed = list(counts)
    changed[give] -= amount
    changed[to] += amount
    best.offer(tuple(changed), best.value + change)
    return len(moves)


def _move(best: Best, near: list[int], give: int, to: int) -> tuple[int, int, int, int]:
    """The change of the value when as much as possible moves from one GPU to another."""
    problem, counts = best.problem, best.counts
    amount = min(counts[give] - problem.must[give], problem.room[to] - counts[to])
    change = amount * (near[to] - near[give]) - amount * amount * best.costs[give][to]
    return (change, give, to, amount)
