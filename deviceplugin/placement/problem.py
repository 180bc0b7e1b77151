"""A choice of parts of GPUs as numbers: what is asked, what it costs, the best so far; pure."""

from collections.abc import Sequence

from msgspec import Struct, field

Counts = tuple[int, ...]
Costs = Sequence[Sequence[int]]


class Problem(Struct, frozen=True, kw_only=True):
    """`size` parts, at least `must` and at most `limits` of each GPU.

    `interchangeable` is as in Layout. `free` is what there is, which can be more than may be
    chosen; what stays of it is compared by the costs `fragmentation_costs`.
    """

    costs: Costs
    fragmentation_costs: Costs
    interchangeable: Sequence[int]
    free: Counts
    limits: Counts
    must: Counts
    size: int

    @property
    def pull(self) -> list[int]:
        """For each GPU its distance to everything that is free: S·F."""
        return [dot(row, self.free) for row in self.fragmentation_costs]


class Best(Struct):
    """The best choice so far and the steps that are left.

    Cost and pull are one number here, cost · `scale` less pull, so that one bound serves both;
    `apart` is the least cost between parts of two GPUs, `most` the largest room, `same` the GPU of
    the same kind before each, `divided` the one that may be given in part.
    """

    problem: Problem
    pull: list[int]
    scale: int
    steps: int
    costs: list[list[int]] = field(default_factory=list)
    apart: int = 0
    counts: Counts = ()
    value: int = 0
    spare: list[int] = field(default_factory=list)
    same: list[int | None] = field(default_factory=list)
    most: int = 0
    divided: int | None = None

    def offer(self, counts: Counts, value: int) -> None:
        """Keep the choice if it is better; of equal ones the first stays."""
        if not self.counts or value < self.value:
            self.counts, self.value = counts, value


def prepare(problem: Problem, step_work: int) -> Best:
    """The problem with what the search looks up often; a step looks at every GPU once."""
    pull = problem.pull
    scale = 1 + problem.size * max(pull, default=0)
    open_gpus = [at for at, room in enumerate(problem.limits) if room]
    between = [problem.costs[a][b] for a in open_gpus for b in open_gpus if a < b]
    return Best(
        problem=problem,
        pull=pull,
        scale=scale,
        steps=step_work // max(len(pull), 1),
        costs=[[cost * scale for cost in row] for row in problem.costs],
        apart=min(between, default=0) * scale,
        spare=[room - must for room, must in zip(problem.limits, problem.must, strict=True)],
        most=max(problem.limits, default=0),
        same=_same(problem),
    )


def value_of(best: Best, counts: Sequence[int]) -> int:
    """The value of a choice: less is better."""
    return cost_of(counts, best.costs) - dot(counts, best.pull)


def kinds(problem: Problem) -> list[tuple[int, int, int]]:
    """GPUs of one kind can be exchanged with each other."""
    return list(zip(problem.interchangeable, problem.limits, problem.must, strict=True))


def _same(problem: Problem) -> list[int | None]:
    """For each GPU the one of its kind before it: never take this and leave that."""
    last: dict[tuple[int, int, int], int] = {}
    same: list[int | None] = []
    for at, kind in enumerate(kinds(problem)):
        same.append(last.get(kind))
        last[kind] = at
    return same


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


def dot(row: Sequence[int], counts: Sequence[int]) -> int:
    """The sum of the products, place by place."""
    return sum(a * b for a, b in zip(row, counts, strict=True))
