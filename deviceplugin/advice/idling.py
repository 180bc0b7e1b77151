"""GPUs that containers have and do not use, by three windows; pure."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from deviceplugin.advice.idle_state import IdleJudge
from deviceplugin.advice.values import Advice, Change
from deviceplugin.advice.workloads import Key, Use

# Idle for so many seconds: it is told, counts as waste from then on, is reported.
INFO_S, WASTE_S, REPORT_S = 900.0, 3600.0, 86400.0
YOUNG_S = 900.0  # of a pod that may still load


class Streak(Struct, frozen=True, kw_only=True):
    """How long a container has been idle on a device until the history ends, and how many hours
    beyond the first of each idle time it wasted before."""

    device: str
    pod: str
    idle_s: float
    wasted_h: float
    unknown: tuple[str, ...] = ()


def idling(
    found: Mapping[Key, Sequence[Use]], judge: IdleJudge, interactive: Sequence[str]
) -> Iterator[Advice]:
    """What is idle now, or wasted hours; `interactive` are workloads that may be idle, as
    namespace/workload with `*`."""
    for key, all_ in found.items():
        if any(fnmatchcase(f"{key.namespace}/{key.workload}", one) for one in interactive):
            continue
        streaks = [_streak(uses, judge) for uses in _by_place(all_).values()]
        unknown = sorted({word for one in streaks for word in one.unknown})
        if unknown:
            yield _unknown(key, unknown)
        wasted = sum(one.wasted_h for one in streaks)
        longest = max(one.idle_s for one in streaks)
        if wasted > 0 or longest >= INFO_S:
            yield _advice(key, streaks, wasted)


def level(idle_s: float) -> str:
    """What an idle time amounts to: `info`, `waste` or `report`; empty for less."""
    levels = ((REPORT_S, "report"), (WASTE_S, "waste"), (INFO_S, "info"))
    return next((word for least, word in levels if idle_s >= least), "")


def _by_place(all_: Sequence[Use]) -> Mapping[tuple[str, str], Sequence[Use]]:
    found: dict[tuple[str, str], list[Use]] = {}
    for one in all_:
        found.setdefault((one.cell.device, one.grant.pod), []).append(one)
    return found


def _streak(uses: Sequence[Use], judge: IdleJudge) -> Streak:
    idle_s = wasted_s = 0.0
    unknown: set[str] = set()
    for number, one in enumerate(uses):
        if number == 0 and one.cell.seconds <= YOUNG_S:
            continue
        judged = judge.judged(one.cell, one.grant)
        if judged is None:
            unknown |= {*judge.missing(one.cell, one.grant)}
        before, idle_s = idle_s, idle_s + one.cell.seconds if judged else 0.0
        wasted_s += max(0.0, idle_s - max(before, WASTE_S)) if judged else 0.0
    device, pod = uses[0].cell.device, uses[0].grant.pod
    return Streak(
        device=device,
        pod=pod,
        idle_s=idle_s,
        wasted_h=wasted_s / 3600,
        unknown=tuple(sorted(unknown)),
    )


def _advice(key: Key, streaks: Sequence[Streak], wasted: float) -> Advice:
    longest = max(streaks, key=lambda one: one.idle_s)
    now = level(longest.idle_s)
    text = f"{wasted:.1f} hours idle beyond the first hour of each idle time"
    if now:
        text += f"; {longest.pod} has been idle on {longest.device} for {_hours(longest.idle_s)}"
    return Advice(
        kind="idle",
        subject=key.text,
        text=f"{text}: end it, or scale it down while it has nothing to do",
        evidence=_evidence(streaks, now, wasted),
        change=Change(
            kind="release",
            namespace=key.namespace,
            workload=key.workload,
            container=key.container,
            model=key.model,
            profile=key.profile,
        ),
    )


def _evidence(streaks: Sequence[Streak], now: str, wasted: float) -> Mapping[str, Any]:
    return {
        "level": now or None,
        "wasted_hours": round(wasted, 3),
        "idle_now": {
            f"{one.pod} on {one.device}": round(one.idle_s / 3600, 3)
            for one in streaks
            if one.idle_s >= INFO_S
        },
    }


def _unknown(key: Key, missing: Sequence[str]) -> Advice:
    return Advice(
        kind="unknown",
        subject=f"idleness of {key.text}",
        text=f"it may be idle at times; not measured is {', '.join(missing)}",
        evidence={"missing": list(missing)},
    )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
