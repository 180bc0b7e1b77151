"""The policy `real_time`: GPUs that nobody else uses, cool and unthrottled ones first."""

from collections.abc import Sequence
from math import inf

from deviceplugin.core.policies.ranked import Rank, by_rank
from deviceplugin.core.policies.view import Counts, Reading, View

_NOTHING = Reading()


def ranks(view: View) -> Sequence[Rank]:
    """Unused, then known not to be throttled, then by temperature; unknown is the worst."""
    readings = view.context.readings
    return [
        _rank(load, readings.get(gpu, _NOTHING))
        for gpu, load in zip(view.layout.gpus, view.load, strict=True)
    ]


def _rank(load: int, reading: Reading) -> Rank:
    throttled = 1 if reading.throttled is None else 2 if reading.throttled else 0
    temperature = inf if reading.temperature_c is None else reading.temperature_c
    return (load, throttled, temperature)


def choose(view: View) -> Counts:
    """An order, never a refusal: a GPU in use is taken when no other is left."""
    return by_rank(view, ranks(view))
