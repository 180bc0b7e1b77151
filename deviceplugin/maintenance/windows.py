"""When work on the node would cost least: hours of the week in which few of its GPUs were held;
pure."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

HOUR_S = 3600
WEEK = 168  # hours
SHOWN = 3
LEAST_KNOWN = 0.75  # of the week's hours: what is not known may cost less
Document = dict[str, Any]
# GPUs held in each hour of the past, by hours since 1970.
Held = Mapping[int, float]


class Window(Struct, frozen=True, kw_only=True):
    """Hours since 1970, and what it cost in the weeks before: GPU-hours."""

    start: int
    hours: int
    costs: tuple[float, ...]

    @property
    def cost(self) -> float:
        """The mean of the weeks."""
        return statistics.fmean(self.costs)


def schedule(held: Held, now: int, hours: int) -> Document:
    """The windows of the next week (from hour `now` on) that cost least; and what one chosen so a
    week ago would have cost, beside the mean of all windows."""
    windows = list(_windows(held, now, hours))
    if len(windows) < LEAST_KNOWN * WEEK:
        return {"windows": [], "unknown_because": "there is no week of history yet"}
    return {
        "window_hours": hours,
        "windows": [_document(window) for window in _apart(windows)],
        "tested": _tested(held, now, hours),
    }


def _windows(held: Held, now: int, hours: int) -> Iterator[Window]:
    """Of each start in the next week, as far as a week before it was measured."""
    for start in range(now, now + WEEK):
        costs = tuple(_costs(held, start, hours))
        if costs:
            yield Window(start=start, hours=hours, costs=costs)


def _costs(held: Held, start: int, hours: int) -> Iterator[float]:
    """In the weeks before: a week with an hour that was not measured is left out."""
    first = min(held, default=start)
    for at in range(start - WEEK, first - 1, -WEEK):
        found = [held.get(hour) for hour in range(at, at + hours)]
        values = [value for value in found if value is not None]
        if len(values) == hours:
            yield sum(values)


def _apart(windows: Sequence[Window]) -> Sequence[Window]:
    """The cheapest that do not overlap; of equal ones the earliest."""
    chosen: list[Window] = []
    for one in sorted(windows, key=lambda window: (window.cost, window.start)):
        if all(abs(one.start - other.start) >= one.hours for other in chosen):
            chosen.append(one)
        if len(chosen) == SHOWN:
            break
    return chosen


def _document(window: Window) -> Document:
    return {
        "start": window.start * HOUR_S,
        "end": (window.start + window.hours) * HOUR_S,
        "gpu_hours": round(window.cost, 2),
        "least": round(min(window.costs), 2),
        "most": round(max(window.costs), 2),
        "weeks": len(window.costs),
    }


def _tested(held: Held, now: int, hours: int) -> Document | None:
    """None where the history is too short."""
    then = now - WEEK - hours
    known = {hour: value for hour, value in held.items() if hour < then}
    choices = list(_windows(known, then, hours))
    came = {
        one.start: sum(held[hour] for hour in range(one.start, one.start + hours))
        for one in choices
        if all(hour in held for hour in range(one.start, one.start + hours))
    }
    if len(choices) < LEAST_KNOWN * WEEK:
        return None
    chosen = next((one for one in _apart(choices) if one.start in came), None)
    if chosen is None:
        return None
    return {
        "expected_gpu_hours": round(chosen.cost, 2),
        "came": round(came[chosen.start], 2),
        "mean_of_all_windows": round(statistics.fmean(came.values()), 2),
    }
