"""The policy `priority`: the operator's order of GPUs, then the healthiest."""

from collections.abc import Sequence

from deviceplugin.core.policies.ranked import Rank, by_rank
from deviceplugin.core.policies.view import Counts, View


def ranks(view: View) -> Sequence[Rank]:
    """By the first selector that fits (GPUs that none fits come last), then by the worst fault."""
    order, severity = view.context.order, view.layout.topology.severity
    last = len(order) + max(order.values(), default=0)
    return [(order.get(gpu, last), severity.get(gpu, -1)) for gpu in view.layout.gpus]


def choose(view: View) -> Counts:
    """The highest priority first."""
    return by_rank(view, ranks(view))
