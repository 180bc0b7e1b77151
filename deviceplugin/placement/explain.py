"""Why a policy chose what it chose: the choice, its score and the runners-up; pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.model import AdvertisedID, Preference, Resource
from deviceplugin.placement.filling import Rank
from deviceplugin.placement.policies import (
    aligned_ranks,
    packed_ranks,
    priority_ranks,
    proximity_ranks,
    real_time_ranks,
    turns,
    used_after,
)
from deviceplugin.placement.prefer import CHOOSERS, prefer
from deviceplugin.placement.problem import cost_of, rest_cost
from deviceplugin.placement.view import Chooser, Context, Counts, Policy, View, view_of

MAX_RUNNERS_UP = 5
_RANKS: Mapping[str, Callable[[View], Sequence[Rank]]] = {
    "aligned": aligned_ranks,
    "packed": packed_ranks,
    "priority": priority_ranks,
    "real_time": real_time_ranks,
    "proximity": proximity_ranks,
}


class Question(Struct, frozen=True, kw_only=True):
    """A request and the policy that is to answer it; `name` is the policy's, `not_held` why the
    kernel does not hold containers to their memory, where it should, `compute` what comes of it
    with each slice."""

    resource: Resource
    preference: Preference
    context: Context
    name: str
    policy: Policy
    not_held: str = ""
    compute: Mapping[str, Any] = field(default_factory=dict)


def explain(question: Question) -> dict[str, Any]:
    """The document of `deviceplugin explain`: scores are lower for better choices."""
    asked = question.preference
    view = view_of(question.resource, asked, question.context)
    chosen = prefer(question.resource, asked, question.context, question.policy)
    counts = _counts(view, chosen)
    chooser = CHOOSERS.get(question.name)
    others = _others(view, counts, chooser) if chooser else _foreign_others(question, view, chosen)
    scored = sorted((_score(question.name, view, c), c) for c in others)
    return {
        "resource": question.resource.name,
        "policy": question.name,
        "isolation": question.resource.isolation,
        **({"memory_not_held": question.not_held} if question.not_held else {}),
        **question.compute,
        "size": asked.size,
        "available": len(asked.available | asked.must_include),
        "must_include": sorted(asked.must_include),
        "chosen": _choice(question.name, view, counts, chosen),
        "runners_up": [
            _choice(question.name, view, c, view.take(c)) for _, c in scored[:MAX_RUNNERS_UP]
        ],
    }


def _counts(view: View, ids: Sequence[AdvertisedID]) -> Counts:
    counts = [0] * len(view.free)
    for position in (view.layout.position[i] for i in ids if i in view.layout.position):
        counts[position] += 1
    return tuple(counts)


def _others(view: View, counts: Counts, choose: Chooser) -> Sequence[Counts]:
    """What the policy would choose if one GPU of the choice had one part less to give."""
    found = set()
    for at, count in enumerate(counts):
        if count <= view.must[at]:
            continue
        free = list(view.free)
        free[at] = free[at][: count - 1]
        if sum(map(len, free)) >= view.size:
            found.add(choose(replace(view, free=tuple(free))))
    return sorted(found - {counts})


def _foreign_others(
    question: Question, view: View, chosen: Sequence[AdvertisedID]
) -> Sequence[Counts]:
    """The same of a policy that is only a function: it is asked again without one of the ids."""
    asked, found = question.preference, set()
    for at in range(len(view.free)):
        given = [i for i in chosen if view.layout.position.get(i) == at]
        spare = [i for i in given if i not in asked.must_include]
        others = asked.available - frozenset(view.free[at]).difference(given) - set(spare[-1:])
        if spare and len(others | asked.must_include) >= asked.size:
            less = replace(asked, available=others)
            again = prefer(question.resource, less, question.context, question.policy)
            found.add(_counts(view, again))
    return sorted(found - {_counts(view, chosen)})


def _score(name: str, view: View, counts: Counts) -> tuple[int, int, int]:
    """The policy's own measure, the cost between the parts, the cost of what stays free."""
    costs = view.layout.costs
    return (
        _measure(name, view, counts),
        cost_of(counts, costs),
        rest_cost(counts, view.free_counts, view.layout.fragmentation_costs),
    )


def _measure(name: str, view: View, counts: Counts) -> int:
    """0 for a third party's policy, whose measure only it knows."""
    if name not in CHOOSERS:
        return 0
    if name in _RANKS:
        ranks = _RANKS[name](view)
        place = {rank: number for number, rank in enumerate(sorted(set(ranks)))}
        return sum(count * place[rank] for count, rank in zip(counts, ranks, strict=True))
    if name == "round_robin":
        order = turns(view.layout.gpus, view.context.last.get(view.layout.resource.name))
        return sum(
            turn * count + len(order) * count * (count - 1) // 2
            for turn, count in zip(order, counts, strict=True)
        )
    # Each part weighs as much as was in use of its GPU at its turn, in thousandths of a GPU.
    shares, loads = view.layout.share, view.load
    levels = (
        n * load + n * (n - 1) // 2 * s for n, load, s in zip(counts, loads, shares, strict=True)
    )
    return sum(levels) // 1_000_000


def _choice(name: str, view: View, counts: Counts, ids: Sequence[AdvertisedID]) -> dict[str, Any]:
    measure, links, rest = _score(name, view, counts)
    return {
        "ids": sorted(ids),
        "gpus": [_gpu(view, at, count) for at, count in enumerate(counts) if count],
        "score": {"policy": measure if name in CHOOSERS else None, "links": links, "rest": rest},
        "pairs": _pairs(view, counts),
    }


def _gpu(view: View, at: int, count: int) -> dict[str, Any]:
    gpu, topology = view.layout.gpus[at], view.layout.topology
    device, place = topology.devices.get(gpu), topology.places.get(gpu)
    used = used_after(view, [0] * len(view.free))[at]
    return {
        "gpu": gpu,
        "pci_address": device.pci_address if device else None,
        "numa_node": place.numa_node if place else None,
        "count": count,
        "in_use_before_percent": round(used / 10_000_000, 1),
    }


def _pairs(view: View, counts: Counts) -> dict[str, int]:
    """How many pairs of GPUs of the choice have which relation, the best first."""
    gpus = [gpu for gpu, count in zip(view.layout.gpus, counts, strict=True) if count]
    found: dict[tuple[int, str], int] = {}
    for place, one in enumerate(gpus):
        for other in gpus[place + 1 :]:
            distance = view.layout.topology.between(one, other)
            key = (distance.cost, distance.relation)
            found[key] = found.get(key, 0) + 1
    named: dict[str, int] = {}
    for (_, relation), number in sorted(found.items()):
        named[relation] = named.get(relation, 0) + number
    return named
