"""What is certain of a GPU, what its fleet's past says of the rest, and what precedes
failures; pure.

Where no past of the fleet is given, published rates are a prior that the node's own failures move:
told as not calibrated, since nothing tested them on this fleet.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from deviceplugin.maintenance.certain import finding_of
from deviceplugin.maintenance.life import Life
from deviceplugin.maintenance.prior import SHARES, SOURCE, published
from deviceplugin.maintenance.rates import Rates, Worth
from deviceplugin.maintenance.signs import SIGNS, Noted
from deviceplugin.maintenance.units import Kind, Unit

Document = dict[str, Any]
HIGH_RELATIVE = 5.0  # times the fleet's mean rate
_Z80 = 1.2816  # of a two-sided interval of 80 %


class Outlook(Struct, frozen=True, kw_only=True):
    """The probability that a GPU fails in a window of `days`, with an interval of 80 %; by kind;
    and how many times the fleet's rate it is."""

    probability: float
    low: float
    high: float
    kinds: Mapping[Kind, float]
    relative: float


class Past(Struct, frozen=True, kw_only=True):
    """What a fleet's past says of each GPU that is there now, and what each sign is worth there.
    `calibrated` says whether the same rates came true in the back-test of that past, None where it
    is too short for one."""

    days: int
    calibrated: bool | None
    outlooks: Mapping[str, Outlook]
    worth: Mapping[tuple[str, Kind], Worth] = field(default_factory=dict)


class Seen(Struct, frozen=True, kw_only=True):
    """What the node's own history says: signs and the trend of each GPU, GPU-years that were
    measured, and the failures in them."""

    signs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lives: Mapping[str, Life] = field(default_factory=dict)
    failures: Sequence[Kind] = ()
    years: float = 0.0
    schedule: Document = field(default_factory=dict)


class Asked(Struct, frozen=True, kw_only=True):
    """Windows of `days`; what was noted in the fleet, and the signs that GPUs of this node have."""

    days: int
    noted: Noted = field(default_factory=Noted)
    signs: Mapping[str, Sequence[str]] = field(default_factory=dict)


def past_of(
    units: Sequence[Unit], span: tuple[int, int], asked: Asked, calibrated: bool | None
) -> Past:
    """Of every unit that is there at the end of the span."""
    (first, last), days = span, asked.days
    start = last - (last - first) // days * days
    rates, there = Rates(asked.noted), [unit for unit in units if unit.removed is None]
    for day in range(start, last, days):
        rates.learn(units, day, day + days)
    hazards = rates.scores(there, {gpu: frozenset(found) for gpu, found in asked.signs.items()})
    mean = math.fsum(hazard.probability for hazard in hazards) / max(len(hazards), 1)
    found = {}
    for unit, hazard in zip(there, hazards, strict=True):
        low, high = _interval(hazard.probability, rates.weight(unit.cohort))
        found[unit.gpu] = Outlook(
            probability=hazard.probability,
            low=low,
            high=high,
            kinds=hazard.kinds,
            relative=hazard.probability / mean,
        )
    return Past(days=days, calibrated=calibrated, outlooks=found, worth=rates.worth)


def _interval(probability: float, failures: float) -> tuple[float, float]:
    """Of a rate that was estimated from so many failures: a Poisson count's, on the log scale."""
    wide = math.exp(_Z80 / math.sqrt(failures))
    return probability / wide, min(probability * wide, 0.99)


def maintenance_document(
    health: Mapping[str, Any], past: Past | None, seen: Seen, days: int
) -> Document:
    """Every GPU of the answer to `health`; its partitions are a part of it."""
    return {
        "window_days": days,
        "gpu_years": round(seen.years, 3),
        "gpus": [_gpu(one, past, seen, days) for one in health["devices"] if not one.get("parent")],
        "maintenance_schedule": seen.schedule,
    }


def _gpu(device: Mapping[str, Any], past: Past | None, seen: Seen, days: int) -> Document:
    outlook = past.outlooks.get(device["id"]) if past else None
    findings, life = list(_findings(device)), seen.lives.get(device["id"])
    about = _of_fleet(outlook, past) if outlook and past else _of_others(seen, days)
    return {
        "id": device["id"],
        "product": device.get("product"),
        "certain": findings,
        **about,
        "evidence": list(_evidence(seen.signs.get(device["id"], ()), past)),
        "remaining_life": _life(life) if life else None,
        "alerts": list(_alerts(findings, outlook)),
        "held_by": device.get("held_by", []),
    }


def _life(life: Life) -> Document:
    high = None if life.high is None else round(life.high, 1)
    return {"low_days": round(life.low, 1), "high_days": high, "because": life.because}


def _evidence(signs: Sequence[str], past: Past | None) -> Iterator[Document]:
    """Each sign with how many times others with it failed; None where nothing was learned."""
    for sign in signs:
        found = {kind: past.worth.get((sign, kind)) for kind in Kind} if past else {}
        ratios = {str(kind): round(one.ratio, 2) for kind, one in found.items() if one}
        yield {
            "sign": sign,
            "means": SIGNS[sign],
            "ratio": ratios or None,
            "failed": sum(one.failed for one in found.values() if one),
            "expected": round(sum(one.expected for one in found.values() if one), 2),
        }


def _findings(device: Mapping[str, Any]) -> Iterator[Document]:
    for fault in device["faults"]:
        finding = finding_of(fault["source"], fault["code"], fault["class"])
        if finding is not None and fault["device"] == device["id"]:
            yield {
                "finding": finding[0],
                "kind": str(finding[1]),
                "since": fault.get("since"),
                "reason": fault["reason"],
                "action": fault["action"],
            }


_CALIBRATED = {
    True: ("yes", "these rates came true in the back-test of the fleet's past"),
    False: ("no", "these rates did not come true in the back-test of the fleet's past"),
    None: ("no", "the fleet's past is too short for a back-test"),
}


def _of_fleet(outlook: Outlook, past: Past) -> Document:
    calibrated, because = _CALIBRATED[past.calibrated]
    return {
        "failure_probability": round(outlook.probability, 5),
        "interval_80": [round(outlook.low, 5), round(outlook.high, 5)],
        "by_kind": {str(kind): round(value, 5) for kind, value in outlook.kinds.items()},
        "relative_to_fleet": round(outlook.relative, 2),
        "rates_of": "the fleet's past",
        "calibrated": calibrated,
        "calibrated_because": because,
    }


def _of_others(seen: Seen, days: int) -> Document:
    """The same for every GPU of the node: nothing here tells one from the other."""
    prior = published()
    rate = prior.after(len(seen.failures), seen.years)
    probability, (low, high) = rate.probability(days), rate.interval(days)
    parts = {
        kind: (share * prior.failures + seen.failures.count(kind)) / rate.failures
        for kind, share in SHARES.items()
    }
    return {
        "failure_probability": round(probability, 5),
        "interval_80": [round(low, 5), round(high, 5)],
        "by_kind": {str(kind): round(probability * part, 5) for kind, part in parts.items()},
        "relative_to_fleet": None,
        "rates_of": SOURCE,
        "calibrated": "no",
        "calibrated_because": "no past of the fleet has this GPU",
    }


def _alerts(findings: Sequence[Document], outlook: Outlook | None) -> Iterator[str]:
    if findings:
        yield "certain finding"
    if outlook is not None and outlook.relative >= HIGH_RELATIVE:
        yield f"relative risk >= {HIGH_RELATIVE:g}"
