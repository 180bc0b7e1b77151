"""The best set of GPUs by cost: exact where that is quick, else by search; pure."""

from collections.abc import Sequence

from msgspec import Struct

from deviceplugin.placement.problem import (
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


class Found(Struct, frozen=True, kw_only=True):
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
    for at, room in enumerate(problem.limits):
        if room:
            seen.setdefault((problem.interchangeable[at], room), at)
    allowed = max(1, MAX_SEED_WORK // max(len(problem.limits), 1) ** 2)
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
        amount = min(left, problem.limits[at] - counts[at])
        counts[at] += amount
        left -= amount
        near = [n + amount * c for n, c in zip(near, problem.costs[at], strict=True)]
        following = None
    return tuple(counts)


def _nearest(best: Best, counts: list[int], near: list[int]) -> int:
    room = best.problem.limits
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
    takers = [at for at, count in enumerate(counts) if count < problem.limits[at]]
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
    amount = min(counts[give] - problem.must[give], problem.limits[to] - counts[to])
    change = amount * (near[to] - near[give]) - amount * amount * best.costs[give][to]
    return (change, give, to, amount)


def search_exactly(best: Best) -> bool:
    """Improve `best` to the optimum; whether the steps sufficed for that."""
    for divided in _divisible(best):
        best.divided = divided
        _descend(best, 0, [], _start(best))
    return best.steps > 0


class _State(Struct, frozen=True):
    """A partial choice: parts still to take, its value, and what a part of each GPU would add;
    `room_after[i]` is the room from GPU i on."""

    left: int
    value: int
    near: list[int]
    room_after: Counts


def _divisible(best: Best) -> list[int | None]:
    """No GPU, then one of each kind that has more than one part to give."""
    return [
        None,
        *(at for at, kin in enumerate(best.same) if kin is None and best.spare[at] > 1),
    ]


def _start(best: Best) -> _State:
    problem, spare = best.problem, best.spare
    near = [dot(row, problem.must) - pull for row, pull in zip(best.costs, best.pull, strict=True)]
    after = tuple(sum(spare[at:]) for at in range(len(spare) + 1))
    return _State(problem.size - sum(problem.must), value_of(best, problem.must), near, after)


def _descend(best: Best, at: int, taken: list[int], state: _State) -> None:
    """Depth first through the GPUs in order; cuts what cannot become better than the best."""
    divided, must = best.divided, best.problem.must
    if state.left == 0 or (divided is not None and state.left < best.spare[divided]):
        _complete(best, (*taken, *must[at:]), state)
    best.steps -= 1
    reserve = best.spare[divided] if divided is not None else 0
    if best.steps <= 0 or not 0 < state.left <= state.room_after[at] + reserve:
        return
    if at == len(must) or _bound(best, at, state) >= best.value:
        return
    for amount in _amounts(best, at, taken, state):
        taken.append(must[at] + amount)
        _descend(best, at + 1, taken, _after(best, at, amount, state))
        taken.pop()


def _complete(best: Best, counts: Counts, state: _State) -> None:
    """The divided GPU gives what is left."""
    divided = best.divided
    if divided is None or state.left == 0:
        best.offer(counts, state.value)
        return
    filled = (*counts[:divided], counts[divided] + state.left, *counts[divided + 1 :])
    best.offer(filled, state.value + state.left * state.near[divided])


def _bound(best: Best, at: int, state: _State) -> int:
    """No completion is better: each part adds at least the nearest's, and is apart from all
    others but those that fit on its own GPU."""
    others = max(state.left - best.most, 0)
    alone = state.left * others * best.apart // 2
    nearest = min(state.near[at:])
    if best.divided is not None:
        nearest = min(nearest, state.near[best.divided])
    return state.value + state.left * nearest + alone


def _amounts(best: Best, at: int, taken: list[int], state: _State) -> tuple[int, ...]:
    """All of a GPU or nothing; nothing of the divided one and after one of its kind was left."""
    spare = best.spare[at]
    if spare == 0 or at == best.divided or spare > state.left:
        return (0,)
    before = best.same[at]
    if before is not None and before == best.divided:
        before = best.same[before]
    if before is not None and taken[before] < best.problem.limits[before]:
        return (0,)
    return (spare, 0)


def _after(best: Best, at: int, amount: int, state: _State) -> _State:
    if amount == 0:
        return state
    row = best.costs[at]
    return _State(
        state.left - amount,
        state.value + amount * state.near[at],
        [near + amount * cost for near, cost in zip(state.near, row, strict=True)],
        state.room_after,
    )
