"""Right-sizing: the slice of a GPU's memory that a workload needs; pure."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

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
    total, wanted = found.device_bytes or 0, least_bytes(found, consent=consent)
    gibibytes = max(1, math.ceil(wanted / GIB))
    share = gibibytes * GIB / total
    if found.key.profile or share > found.share * WORTH:
        return
    text = (
        f"{gibibytes} GiB instead of {found.share * total / GIB:.0f} GiB: P98 of the daily peaks"
        f" and 10 %, {'with' if consent else 'without'} consent to go below the last seven days'"
        " peak"
    )
    yield Advice(
        kind="right-size",
        subject=found.key.text,
        text=text,
        evidence=_evidence(found),
        change=change_of(found, share),
        patch_of="pod",
        patch=_patch(found, gibibytes),
    )


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
    wanted = found.wanted_bytes or 0.0
    if not consent:
        wanted = max(wanted, found.week_peak_bytes or 0.0)
    return max(wanted, (found.active or 0.0) * (found.device_bytes or 0))


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


def _patch(found: Profile, gibibytes: int) -> Mapping[str, Any]:
    """For the workload's pod template; a GPU that is asked for whole is no longer."""
    limits: dict[str, Any] = {f"{found.key.vendor}.com/gpu-memory": gibibytes}
    if found.share >= 1:
        limits[f"{found.key.vendor}.com/gpu"] = None
    return pod_patch(found, limits)


def pod_patch(found: Profile, limits: Mapping[str, Any]) -> Mapping[str, Any]:
    """A patch of a pod's template; None takes a limit away, as in a JSON merge patch."""
    container = found.key.container or "(the container)"
    return {"spec": {"containers": [{"name": container, "resources": {"limits": limits}}]}}
