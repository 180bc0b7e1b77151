"""A plan: forecasts of a fleet's resources, when they are used up, and what would change it; pure.

What is forecast is what was used, which is never more than there was: pods that waited are in no
metric of ours.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import ConfigError
from deviceplugin.fleet.demand import ALL, UNITS, Demand, Fleet
from deviceplugin.forecast.outlook import Outlook, Point, outlook, saturation

Document = dict[str, Any]
MONTH_H = 720
SHOWN_H = (1, 24, 168, 720)
FEW = 0.7  # of the capacity: a band that stays below it leaves GPUs over
_ADDED = re.compile(r"([0-9]{1,6})\s*x\s*(\S.*)")
MOST_NAMESPACES = 20


class WhatIf(Struct, frozen=True, kw_only=True):
    """Changes that a plan assumes: GPUs as `2xH100`, names of nodes that go, and by which part the
    demand grows in 30 days beyond the forecast."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    growth: float = 0.0


class Asked(Struct, frozen=True, kw_only=True):
    """What a plan is to cover: hours ahead, hours between its points, and the accuracy in percent
    that was asked for, None if none was; `resources` are the names of UNITS."""

    horizon_h: int = MONTH_H
    granularity_h: int = 1
    accuracy: float | None = None
    resources: tuple[str, ...] = tuple(UNITS)


def changed(fleet: Fleet, what_if: WhatIf) -> Fleet:
    """The fleet with other capacities; raises ConfigError for what is not in it."""
    deltas: dict[tuple[str, str], float] = {}
    for text in what_if.add:
        vendor, count, memory = _added(fleet, text)
        for resource, delta in (("gpu", float(count)), ("memory", count * memory)):
            deltas[resource, vendor] = deltas.get((resource, vendor), 0.0) + delta
    for name in what_if.remove:
        gone = [place for place in fleet.places if place.node == name]
        if not gone:
            known = ", ".join(sorted({place.node for place in fleet.places})[:20])
            raise ConfigError("--remove", name, f"a node with GPUs: {known or 'none is known'}")
        for place in gone:
            key = (place.resource, place.vendor)
            deltas[key] = deltas.get(key, 0.0) - place.capacity
    return replace(fleet, demands=tuple(_with(one, deltas) for one in fleet.demands))


def _with(one: Demand, deltas: dict[tuple[str, str], float]) -> Demand:
    delta = deltas.get((one.resource, one.vendor), 0.0)
    if one.capacity is None or not delta:
        return one
    return replace(one, capacity=max(0.0, one.capacity + delta))


def _added(fleet: Fleet, text: str) -> tuple[str, int, float]:
    """The vendor, how many, and the memory of one, as GPUs of this name in the fleet have it."""
    match = _ADDED.fullmatch(text.strip())
    whole = [place for place in fleet.places if place.resource == "gpu"]
    models = sorted({place.model for place in whole if place.model})
    expected = f"a number and a part of a model's name such as 2xH100; here: {', '.join(models)}"
    if match is None:
        raise ConfigError("--add", text, expected)
    wanted = match[2].strip().lower()
    found = [one for one in whole if wanted in (one.vendor, *one.model.lower().split())]
    found = found or [one for one in whole if wanted in one.model.lower()]
    if not found or len({one.vendor for one in found}) > 1:
        raise ConfigError("--add", text, expected)
    keys = {(one.node, one.model) for one in found}
    bytes_ = sum(
        one.capacity
        for one in fleet.places
        if one.resource == "memory" and (one.node, one.model) in keys
    )
    return found[0].vendor, int(match[1]), bytes_ / sum(one.capacity for one in found)


def plan_document(fleet: Fleet, asked: Asked, what_if: WhatIf) -> Document:
    """The plan, with the back-test of each forecast; raises ConfigError."""
    after = changed(fleet, what_if)
    rows = [_row(one, asked, what_if.growth) for one in _chosen(after, asked)]
    return {
        "from": fleet.start,
        "until": fleet.end,
        "horizon_h": asked.horizon_h,
        "granularity_h": asked.granularity_h,
        "accuracy_asked_percent": asked.accuracy,
        "what_if": {
            "add": list(what_if.add),
            "remove": list(what_if.remove),
            "growth_percent_in_30_days": 100 * what_if.growth,
        },
        "rows": rows,
        "recommendations": [text for row in rows for text in _advice(row, asked)],
        "no_data": [one for one in asked.resources if one in fleet.missing],
    }


def report_document(fleet: Fleet, asked: Asked, what_if: WhatIf) -> Document:
    """The plan, and what each node has."""
    places = [
        {
            "node": place.node,
            "vendor": place.vendor,
            "model": place.model,
            "capacity": place.capacity,
            "used": place.used,
        }
        for place in sorted(fleet.places, key=lambda place: (place.node, place.model))
        if place.resource == "gpu"
    ]
    return plan_document(fleet, asked, what_if) | {"places": places}


def _chosen(fleet: Fleet, asked: Asked) -> Iterator[Demand]:
    """All of a resource, then the namespaces that use most of it now."""
    for resource in asked.resources:
        mine = [one for one in fleet.demands if one.resource == resource]
        yield from (one for one in mine if one.namespace == ALL)
        spaces = [one for one in mine if one.namespace != ALL]
        spaces.sort(key=lambda one: (-_recent(one), one.vendor, one.namespace))
        yield from spaces[:MOST_NAMESPACES]


def _recent(one: Demand) -> float:
    return sum(value or 0.0 for value in one.used.values[-168:])


def _row(one: Demand, asked: Asked, growth: float) -> Document:
    found = outlook(one.used, asked.horizon_h)
    points = [_grown(point, growth) for point in found.points]
    when = saturation(points, one.capacity) if one.capacity is not None and points else None
    return {
        "resource": one.resource,
        "vendor": one.vendor,
        "namespace": one.namespace,
        "unit": UNITS[one.resource],
        "now": found.last,
        "capacity": one.capacity,
        "known_hours": found.known,
        "gaps": found.gaps,
        "reason": found.reason,
        "points": [_point(p) for p in points[asked.granularity_h - 1 :: asked.granularity_h]],
        "saturation": when
        and {"early": when.early_h, "median": when.median_h, "late": when.late_h},
        "accuracy": [_accuracy(found, index) for index in range(len(found.accuracies))],
        "accuracy_answer": _answer(found, asked.accuracy),
        "history": [None if v is None else round(v, 3) for v in one.used.values[-MONTH_H:]],
    }


def _grown(point: Point, growth: float) -> Point:
    factor = 1 + growth * point.ahead_h / MONTH_H
    return replace(
        point, value=point.value * factor, low=point.low * factor, high=point.high * factor
    )


def _point(point: Point) -> Document:
    return {
        "ahead_h": point.ahead_h,
        "value": round(point.value, 3),
        "low": round(point.low, 3),
        "high": round(point.high, 3),
        "backed": point.backed,
    }


def _accuracy(found: Outlook, index: int) -> Document:
    one = found.accuracies[index]
    last, day, week = one.naive
    return {
        "ahead_h": one.ahead_h,
        "tested": one.tested,
        "error_percent": _percent(one.error),
        "last_value_error_percent": _percent(last),
        "yesterday_error_percent": _percent(day),
        "last_week_error_percent": _percent(week),
        "band_covered_percent": _percent(one.covered),
    }


def _percent(part: float | None) -> float | None:
    return None if part is None else round(100 * part, 2)


def _answer(found: Outlook, asked: float | None) -> str:
    """Up to which horizon the accuracy that was asked for was measured, in words."""
    if asked is None:
        return ""
    known = [
        (one.ahead_h, 100 * (1 - one.error)) for one in found.accuracies if one.error is not None
    ]
    if not known:
        return f"{asked:g} %: not measured"
    reached = [h for h, percent in known if percent >= asked]
    missed = [(h, percent) for h, percent in known if percent < asked]
    if not missed:
        return f"{asked:g} %: reached up to {known[-1][0]} h"
    h, percent = missed[0]
    short = [one for one in reached if one < h]
    until = f"reached up to {short[-1]} h" if short else "not reached"
    return f"{asked:g} %: {until}, at {h} h it was {percent:.1f} %"


def _advice(row: Document, asked: Asked) -> Iterator[Document]:
    """What the band says of the capacity; nothing where no band was tested."""
    points: Sequence[Document] = [one for one in row["points"] if one["backed"]]
    if row["capacity"] is None or not points:
        return
    peak = max(one["high"] for one in points)
    until = points[-1]["ahead_h"]
    about = {"resource": row["resource"], "vendor": row["vendor"], "within_h": until}
    counted = row["unit"] in ("GPUs", "partitions")
    if peak > row["capacity"]:
        more = peak - row["capacity"]
        more = math.ceil(more) if counted else more
        yield about | {"kind": "add", "amount": more, "first_needed_in_h": _needed(row)}
    elif peak < FEW * row["capacity"]:
        over = row["capacity"] - peak
        yield about | {"kind": "spare", "amount": math.floor(over) if counted else over}
    else:
        yield about | {"kind": "enough", "amount": 0}


def _needed(row: Document) -> int | None:
    found: int | None = row["saturation"]["early"] if row["saturation"] else None
    return found
