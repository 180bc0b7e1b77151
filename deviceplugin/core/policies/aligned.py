"""The policy `aligned`: the best-connected set, and of equal ones that which breaks up least."""

from collections.abc import Sequence

from deviceplugin.core.policies.ranked import Rank, by_rank
from deviceplugin.core.policies.view import Counts, View


def ranks(view: View) -> Sequence[Rank]:
    """All GPUs are alike: only the links decide."""
    return [()] * len(view.free)


def choose(view: View) -> Counts:
    """The parts with the least cost between them."""
    return by_rank(view, ranks(view))
