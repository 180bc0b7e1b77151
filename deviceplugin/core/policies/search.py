"""The best-connected choice of parts of GPUs, with a bound on the work instead of on the time.

A choice is a count for each GPU. Its cost is the sum over all pairs of its parts; among equal
costs the choice wins that leaves the better sets, measured with steeper costs S. With n free
parts on each GPU (vector F) the rest of a choice K costs F·S·F/2 - K·S·F + K·S·K/2. Choices of
equal cost nearly always consist of the same relations, so their K·S·K is equal too, and the best
rest is the largest K·(S·F): a linear term, `pull` below.

Filling GPUs is never worse than dividing them wherever near-ness is like a tree (boards, switches,
sockets): the cost is then concave over choices of one size, and its minimum has at most one GPU
that is given in part. The exact search looks at those choices only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

# Bounds of the work, in units of one look at one GPU: together under 5 ms on one slow core.
MAX_STEP_WORK = 8_000
MAX_SEED_WORK = 4_000
MAX_SWAP_WORK = 800

Counts = tuple[int, ...]
Costs = Sequence[Sequence[int]]
Score = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """`size` parts, at least `must` and at most `room` of each GPU; `twins` as in Layout.

    `free` is what there is, which can be more than may be chosen; what stays of it is compared by
    the costs `steep`.
    """

    costs: Costs
    steep: Costs
    twins: Sequence[int]
    free: Counts
    room: Counts
    must: Counts
    size: int

    @property
    def pull(self) -> list[int]:
        """For each GPU its distance to everything that is free: S·F."""
        return [_dot(row, self.free) for row in self.steep]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best choice; `exact` says that no other of the searched form is better."""

    counts: Counts
    score: Score
    exact: bool


@dataclass(slots=True)
class _Best:
    """The best choice so far and the steps that are left.

    Cost and pull are one number here, cost · `scale` less pull, so that one bound serves both;
    `apart` is the least cost between parts of two GPUs.
    """

    problem: Problem
    pull: list[int]
    scale: int
    steps: int
    costs: list[list[int]] = field(default_factory=list)
    apart: int = 0
    counts: Counts = ()
    value: int = 0
    same: list[int | None] = field(default_factory=list)

    def offer(self, counts: Counts, value: int) -> None:
        if not self.counts or value < self.value:
            self.counts, self.value = counts, value


def best_counts(problem: Problem, step_work: int = MAX_STEP_WORK) -> Found:
    """The best choice: exact where `step_work` suffices, else greedy and improved."""
    best = _prepare(problem, step_work)
    for seed in _seeds(problem):
        counts = _greedy(best, seed)
        best.offer(counts, _value(best, counts))
    _descend(best, 0, [], _start(best))
    exact = best.steps > 0
    if not exact:
        _improve(best)
    cost = cost_of(best.counts, problem.costs)
    return Found(counts=best.counts, score=(cost, -_dot(best.counts, best.pull)), exact=exact)


def _prepare(problem: Problem, step_work: int) -> _Best:
    pull = problem.pull
    scale = 1 + problem.size * max(pull, default=0)
    open_gpus = [at for at, room in enumerate(problem.room) if room]
    between = [problem.costs[a][b] for a in open_gpus for b in open_gpus if a < b]
    return _Best(
        problem=problem,
        pull=pull,
        scale=scale,
        steps=step_work // max(len(pull), 1),
        costs=[[cost * scale for cost in row] for row in problem.costs],
        apart=min(between, default=0) * scale,
        same=_same(problem),
    )


def _value(best: _Best, counts: Sequence[int]) -> int:
    return cost_of(counts, best.costs) - _dot(counts, best.pull)


def cost_of(counts: Sequence[int], costs: Costs) -> int:
    """The sum over all pairs of a choice's parts; parts of one GPU are no distance apart."""
    used = [at for at, count in enumerate(counts) if count]
    return sum(
        counts[one] * counts[other] * costs[one][other]
        for place, one in enumerate(used)
        for other in used[place + 1 :]
    )


def rest_cost(counts: Sequence[int], room: Sequence[int], costs: Costs) -> int:
    """The cost of everything that a choice leaves free."""
    return cost_of([have - taken for have, taken in zip(room, counts, strict=True)], costs)


def _dot(row: Sequence[int], counts: Sequence[int]) -> int:
    return sum(a * b for a, b in zip(row, counts, strict=True))


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


def _greedy(best: _Best, seed: int | None) -> Counts:
    """Take the GPU nearest to what is taken, whole, until it is enough."""
    problem = best.problem
    counts = list(problem.must)
    near = [_dot(row, counts) for row in problem.costs]
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


def _nearest(best: _Best, counts: list[int], near: list[int]) -> int:
    room = best.problem.room
    options = (
        (near[at], -best.pull[at], at) for at, taken in enumerate(counts) if taken < room[at]
    )
    return min(options)[2]


def _same(problem: Problem) -> list[int | None]:
    """For each GPU the one before it that it could be exchanged with: never take less of that."""
    last: dict[tuple[int, int, int], int] = {}
    same: list[int | None] = []
    for at, key in enumerate(zip(problem.twins, problem.room, problem.must, strict=True)):
        same.append(last.get(key))
        last[key] = at
    return same


@dataclass(frozen=True, slots=True)
class _State:
    """A partial choice: parts still to take, its value, what a part of each GPU would add, and
    whether a GPU is already given in part; `room_after[i]` is the room from GPU i on."""

    left: int
    value: int
    near: list[int]
    divided: bool
    room_after: Counts = ()


def _start(best: _Best) -> _State:
    problem = best.problem
    spare = [room - must for room, must in zip(problem.room, problem.must, strict=True)]
    near = [_dot(row, problem.must) - pull for row, pull in zip(best.costs, best.pull, strict=True)]
    after = tuple(sum(spare[at:]) for at in range(len(spare) + 1))
    left = problem.size - sum(problem.must)
    return _State(left, _value(best, problem.must), near, False, after)


def _descend(best: _Best, at: int, taken: list[int], state: _State) -> None:
    """Depth first through the GPUs in order; cuts what cannot become better than the best."""
    problem = best.problem
    if state.left == 0:
        best.offer((*taken, *problem.must[at:]), state.value)
        return
    best.steps -= 1
    if best.steps <= 0 or state.left > state.room_after[at]:
        return
    if _bound(best, at, state) >= best.value:
        return
    for amount in _amounts(best, at, taken, state):
        taken.append(problem.must[at] + amount)
        _descend(best, at + 1, taken, _after(best, at, amount, state))
        taken.pop()


def _bound(best: _Best, at: int, state: _State) -> int:
    """No completion is better: each part adds at least the nearest's, and is apart from all
    others but those that fit on its own GPU."""
    others = max(state.left - max(best.problem.room[at:]), 0)
    alone = state.left * others * best.apart // 2
    return state.value + state.left * min(state.near[at:]) + alone


def _amounts(best: _Best, at: int, taken: list[int], state: _State) -> list[int]:
    """How much to take of a GPU: all, what is still needed, a remainder, or nothing."""
    problem = best.problem
    spare = problem.room[at] - problem.must[at]
    before = best.same[at]
    limit = spare if before is None else min(spare, taken[before] - problem.must[at])
    amounts = {0, min(spare, state.left)}
    if not state.divided:
        amounts.update(range(1, spare))
    return sorted((a for a in amounts if a <= min(limit, state.left)), reverse=True)


def _after(best: _Best, at: int, amount: int, state: _State) -> _State:
    if amount == 0:
        return state
    problem, row = best.problem, best.costs[at]
    return _State(
        state.left - amount,
        state.value + amount * state.near[at],
        [near + amount * cost for near, cost in zip(state.near, row, strict=True)],
        state.divided or amount < problem.room[at] - problem.must[at],
        state.room_after,
    )


def _improve(best: _Best) -> None:
    """Exchange parts between two GPUs as long as it helps and the work is within bounds."""
    work = MAX_SWAP_WORK
    while work > 0:
        value = best.value
        work -= _exchange(best, work)
        if best.value >= value:
            return


def _exchange(best: _Best, work: int) -> int:
    """Make the best single exchange; says how many were looked at."""
    problem, counts = best.problem, best.counts
    near = [_dot(row, counts) - pull for row, pull in zip(best.costs, best.pull, strict=True)]
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


def _move(best: _Best, near: list[int], give: int, to: int) -> tuple[int, int, int, int]:
    """The change of the value when as much as possible moves from one GPU to another."""
    problem, counts = best.problem, best.counts
    amount = min(counts[give] - problem.must[give], problem.room[to] - counts[to])
    change = amount * (near[to] - near[give]) - amount * amount * best.costs[give][to]
    return (change, give, to, amount)
