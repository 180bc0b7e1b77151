"""Ways to fill GPUs: the best by a rank, or evenly by levels; pure."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from deviceplugin.placement.problem import Problem
from deviceplugin.placement.search import best_counts
from deviceplugin.placement.view import Counts, View

Rank = tuple[int | float | bool, ...]


def by_rank(view: View, ranks: Sequence[Rank]) -> Counts:
    """Take everything that is free on GPUs of a better rank before anything of a worse one.

    Only the last rank that is needed leaves a choice; it goes to the best-connected set.
    """
    counts, room = list(view.must), view.free_counts
    for rank in sorted(set(ranks)):
        members = [at for at, own in enumerate(ranks) if own == rank]
        free = sum(room[at] - counts[at] for at in members)
        if sum(counts) + free >= view.size:
            return connected(view, tuple(counts), members)
        for at in members:
            counts[at] = room[at]
    return tuple(counts)


def connected(view: View, fixed: Counts, members: Sequence[int]) -> Counts:
    """`fixed` and the best-connected rest, taken from the GPUs `members` only."""
    open_gpus = frozenset(members)
    room = tuple(room if at in open_gpus else fixed[at] for at, room in enumerate(view.free_counts))
    problem = Problem(
        costs=view.layout.costs,
        fragmentation_costs=view.layout.fragmentation_costs,
        interchangeable=view.layout.interchangeable,
        free=view.free_counts,
        limits=room,
        must=fixed,
        size=view.size,
    )
    return best_counts(problem).counts


Tie = Callable[[Sequence[int]], Sequence[tuple[float, ...]]]


class Levels(Struct, frozen=True, kw_only=True):
    """`base` is what each GPU has before the call gives anything, `step` what one part adds."""

    base: Sequence[int]
    step: Sequence[int]


def fill_evenly(view: View, levels: Levels, tie: Tie) -> Counts:
    """What one gets by giving each part to the lowest GPU of the moment.

    All parts that end below the final level are given at once, for 60,000 of them too; `tie`
    maps the counts so far to what decides, GPU by GPU, between those that reach the level.
    """
    level = _final_level(view, levels)
    counts = _below(view, levels, level)
    while sum(counts) < view.size:
        ties = tie(counts)
        at = min(_at_level(view, levels, counts, level), key=lambda gpu: (ties[gpu], gpu))
        counts[at] += 1
    return tuple(counts)


def _below(view: View, levels: Levels, level: int) -> list[int]:
    """The counts when every part is given whose GPU stands below `level` at its turn."""
    return [
        must + min(room - must, max(0, -(-(level - base) // step)))
        for room, must, base, step in zip(
            view.free_counts, view.must, levels.base, levels.step, strict=True
        )
    ]


def _final_level(view: View, levels: Levels) -> int:
    """The highest level with no more parts below it than are asked for."""
    low, rooms = min(levels.base, default=0), view.free_counts
    each = zip(levels.base, levels.step, rooms, strict=True)
    high = 1 + max((base + step * room for base, step, room in each), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(_below(view, levels, middle)) <= view.size:
            low = middle
        else:
            high = middle - 1
    return low


def _at_level(view: View, levels: Levels, counts: Sequence[int], level: int) -> Sequence[int]:
    """The GPUs with room that stand at the level; one part lifts a GPU above it."""
    return [
        at
        for at, (room, must, count) in enumerate(
            zip(view.free_counts, view.must, counts, strict=True)
        )
        if count < room and levels.base[at] + (count - must) * levels.step[at] <= level
    ]
