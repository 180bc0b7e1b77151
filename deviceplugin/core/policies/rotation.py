"""The policy `round_robin`: the GPU after the one that was handed out last."""

from collections.abc import Collection, Sequence

from deviceplugin.core.policies.levelled import Levels, fill_evenly
from deviceplugin.core.policies.view import Counts, View
from deviceplugin.model import DeviceID


def turns(gpus: Sequence[DeviceID], last: DeviceID | None) -> Sequence[int]:
    """For each GPU how many are before it, starting after `last` (unknown: at the first)."""
    start = gpus.index(last) + 1 if last in gpus else 0
    return [(at - start) % len(gpus) for at in range(len(gpus))]


def choose(view: View) -> Counts:
    """One part of each GPU in turn, round after round."""
    gpus = view.layout.gpus
    order = turns(gpus, view.context.last.get(view.layout.resource.name))
    flat = Levels(base=[0] * len(gpus), step=[1] * len(gpus))
    return fill_evenly(view, flat, lambda _: [(turn,) for turn in order])


def last_handed_out(
    gpus: Sequence[DeviceID], last: DeviceID | None, given: Collection[DeviceID]
) -> DeviceID | None:
    """Where the rotation stands after `given`: at the one that came last in turn."""
    order = turns(gpus, last)
    taken = [at for at, gpu in enumerate(gpus) if gpu in given]
    return gpus[max(taken, key=lambda at: order[at])] if taken else last
