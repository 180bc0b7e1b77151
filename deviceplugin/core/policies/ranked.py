"""Preferring GPUs by a rank: a better rank first, the best-connected of one rank; pure."""

from collections.abc import Sequence

from deviceplugin.core.policies.problem import Problem
from deviceplugin.core.policies.search import best_counts
from deviceplugin.core.policies.view import Counts, View

Rank = tuple[int | float | bool, ...]


def by_rank(view: View, ranks: Sequence[Rank]) -> Counts:
    """Take everything that is free on GPUs of a better rank before anything of a worse one.

    Only the last rank that is needed leaves a choice; it goes to the best-connected set.
    """
    counts, room = list(view.must), view.room
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
    room = tuple(room if at in open_gpus else fixed[at] for at, room in enumerate(view.room))
    problem = Problem(
        costs=view.layout.costs,
        steep=view.layout.steep,
        twins=view.layout.twins,
        free=view.room,
        room=room,
        must=fixed,
        size=view.size,
    )
    return best_counts(problem).counts
