"""Right-sizing: the slice of a GPU's memory that a workload needs; pure."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from deviceplugin.advice.products import sizes_beside
from deviceplugin.advice.values import Advice, Change
from deviceplugin.advice.workloads import Profile

GIB = 1 << 30
LEAST_DAYS = 7.0
WORTH = 0.9  # of what it has: less of a difference is not worth a change


def right_size(found: Profile, *, consent: bool) -> Iterator[Advice]:
    """A smaller slice, or why none can be named. Without `consent` it is never below the peak of
    the last seven days, where the next such peak would end the process."""
    if reason := unknown(found):
        yield _without(found, reason)
        return
    smaller = (
        _profile(found, consent=consent) if found.key.profile else _slice(found, consent=consent)
    )
    if smaller is None:
        return
    yield Advice(
        kind="right-size",
        subject=found.key.text,
        text=(
            f"{smaller.words}: P98 of the daily peaks and 10 %,"
            f" {'with' if consent else 'without'} consent to go below the last seven days' peak"
        ),
        evidence=_evidence(found),
        change=change_of(found, smaller.share),
        patch_of="pod",
        patch=pod_patch(found, smaller.limits),
    )


class Smaller(Struct, frozen=True, kw_only=True):
    """What would do: its share of the device that the workload has, and what a pod asks for."""

    share: float
    words: str
    limits: Mapping[str, Any]


def _slice(found: Profile, *, consent: bool) -> Smaller | None:
    """A slice of the memory in whole GiB; a GPU that is asked for whole is no longer."""
    total = found.device_bytes or 0
    gibibytes = max(1, math.ceil(least_bytes(found, consent=consent) / GIB))
    share = gibibytes * GIB / total
    if share > found.share * WORTH:
        return None
    limits: dict[str, Any] = {f"{found.key.vendor}.com/gpu-memory": gibibytes}
    if found.share >= 1:
        limits[f"{found.key.vendor}.com/gpu"] = None
    words = f"{gibibytes} GiB instead of {found.share * total / GIB:.0f} GiB"
    return Smaller(share=share, words=words, limits=limits)


def _profile(found: Profile, *, consent: bool) -> Smaller | None:
    """The smallest MIG profile with the memory and the compute units that it needs; of a workload
    that shares an instance none is named."""
    sizes = sizes_beside(found.key.model, found.key.profile)
    own = next((size for size in sizes if size.name == found.key.profile), None)
    if own is None or found.share < 1:
        return None
    eighths = _peak_bytes(found, consent=consent) / (found.device_bytes or 1) * own.eighths
    sevenths = (found.active or 0.0) * own.sevenths
    fits = (size for size in sizes if size.eighths >= eighths and size.sevenths >= sevenths)
    best = next(fits, own)
    if best.eighths >= own.eighths:
        return None
    limits = {f"nvidia.com/mig-{best.name}": 1, f"nvidia.com/mig-{own.name}": None}
    words = f"an instance {best.name} instead of {own.name}"
    return Smaller(share=best.eighths / own.eighths, words=words, limits=limits)


def _without(found: Profile, reason: str) -> Advice:
    return Advice(
        kind="unknown",
        subject=f"size of {found.key.text}",
        text=f"no size can be named: {reason}",
        evidence=_evidence(found),
    )


def least_bytes(found: Profile, *, consent: bool) -> float:
    """The memory that the workload needs: by P98, by the last week unless there is consent, and
    as much as goes with its part of the activity."""
    wanted = _peak_bytes(found, consent=consent)
    return max(wanted, (found.active or 0.0) * (found.device_bytes or 0))


def _peak_bytes(found: Profile, *, consent: bool) -> float:
    wanted = found.wanted_bytes or 0.0
    return wanted if consent else max(wanted, found.week_peak_bytes or 0.0)


def change_of(found: Profile, share: float) -> Change:
    """The history in which the workload has that share."""
    key = found.key
    return Change(
        kind="share",
        namespace=key.namespace,
        workload=key.workload,
        container=key.container,
        model=key.model,
        profile=key.profile,
        share=share,
    )


def unknown(found: Profile) -> str:
    if found.wanted_bytes is None:
        return "its memory was not measured"
    if not found.device_bytes:
        return "the memory of its GPUs is not known, or differs"
    if found.preallocates:
        return "its memory is level and near all that it has: a framework may take it beforehand"
    if found.active is None:
        return "its activity was not measured all the time"
    if found.days < LEAST_DAYS:
        return f"{found.days:.1f} days of history, {LEAST_DAYS:.0f} are needed"
    return ""


def _evidence(found: Profile) -> Mapping[str, Any]:
    return {
        "days": round(found.days, 2),
        "hours": round(found.hours, 2),
        "share": round(found.share, 4),
        "wanted_bytes": None if found.wanted_bytes is None else round(found.wanted_bytes),
        "peak_of_7_days_bytes": found.week_peak_bytes,
        "active_p95": found.active,
    }


def pod_patch(found: Profile, limits: Mapping[str, Any]) -> Mapping[str, Any]:
    """A patch of a pod's template; None takes a limit away, as in a JSON merge patch."""
    container = found.key.container or "(the container)"
    return {"spec": {"containers": [{"name": container, "resources": {"limits": limits}}]}}
