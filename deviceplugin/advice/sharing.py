"""Workloads that have GPUs of their own and could share one; pure.

A pair is named by what both did in the same hours, not by their means: what they took together is
laid side by side, and the hours in which it was more than one GPU are told.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from msgspec import Struct

from deviceplugin.advice.sizing import LEAST_DAYS, change_of, least_bytes
from deviceplugin.advice.values import Advice
from deviceplugin.advice.workloads import Key, Profile, Use

MOST_ACTIVE = 0.5  # P95 of one that may share
MOST_BUSY = 0.01  # the part of common hours in which both together may want more than a GPU
MAX_PAIRS = 2000


class Pair(Struct, frozen=True, kw_only=True):
    """Two workloads on one GPU, as it would have been."""

    first: Profile
    second: Profile
    hours: float
    busy: float


def sharing(found: Mapping[Key, Sequence[Use]], profiles: Sequence[Profile]) -> Iterator[Advice]:
    """Advice for both workloads of each pair; a workload is in one pair at most."""
    paired: set[Key] = set()
    able = [one for one in profiles if may_share(one)]
    for first, second in list(combinations(able, 2))[:MAX_PAIRS]:
        if first.key in paired or second.key in paired or first.key.model != second.key.model:
            continue
        pair = _pair(first, second, found)
        if pair is not None:
            paired |= {first.key, second.key}
            yield from (_advice(one, other, pair) for one, other in _both(pair))


def may_share(found: Profile) -> bool:
    """Whether it has whole GPUs, is known well enough and needs less than half of one."""
    if found.share < 1 or found.key.profile or found.preallocates or found.days < LEAST_DAYS:
        return False
    if found.active is None or not found.device_bytes or found.wanted_bytes is None:
        return False
    fits = least_bytes(found, consent=False) <= found.device_bytes / 2
    return fits and found.active <= MOST_ACTIVE


def _pair(first: Profile, second: Profile, found: Mapping[Key, Sequence[Use]]) -> Pair | None:
    """None where they would too often want more than a GPU together."""
    loads: list[dict[float, float]] = []
    for one in (first, second):
        own: dict[float, float] = {}
        for use in found[one.key]:
            own[use.cell.start] = max(own.get(use.cell.start, 0.0), use.grant.active or 0.0)
        loads.append(own)
    common = loads[0].keys() & loads[1].keys()
    busy = sum(loads[0][start] + loads[1][start] > 1 for start in common)
    if common and busy / len(common) > MOST_BUSY:
        return None
    return Pair(
        first=first, second=second, hours=float(len(common)), busy=busy / max(len(common), 1)
    )


def _both(pair: Pair) -> Iterator[tuple[Profile, Profile]]:
    yield pair.first, pair.second
    yield pair.second, pair.first


def _advice(one: Profile, other: Profile, pair: Pair) -> Advice:
    return Advice(
        kind="share",
        subject=one.key.text,
        text=(
            f"share a GPU with {other.key.text}: one of two replicas each. Replicas isolate"
            " neither memory nor faults: only for tenants who trust each other (docs/sharing.md)"
        ),
        evidence={
            "active_p95": one.active,
            "needs_bytes": round(least_bytes(one, consent=False)),
            "common_hours": pair.hours,
            "common_hours_over_one_gpu": round(pair.busy, 4),
        },
        change=change_of(one, 0.5),
        patch_of="configuration",
        patch=_patch(one),
    )


def _patch(one: Profile) -> Mapping[str, Any]:
    """Of the nodes on which they are to run, by `per_node` for instance."""
    match = {"vendor": one.key.vendor, "product": one.key.model}
    return {"rules": [{"match": match, "offers": [{"replicas": 2}]}]}
