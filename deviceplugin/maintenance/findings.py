"""What is certain of a GPU, and what its fleet's past says of the rest; pure.

A certain finding is a fault that only a replacement or a repair ends: it is no probability. All
other GPUs have the rate of their cohort in the fleet's past, or none: there is no figure of
ours that would hold on another fleet.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from deviceplugin.maintenance.rates import Rates
from deviceplugin.maintenance.units import Kind, Unit

Document = dict[str, Any]
# By `source/code`. Each is a state of the hardware that its vendor documents as one that stays.
CERTAIN: Mapping[str, tuple[str, Kind]] = {
    "nvidia.memory/remap_failure": ("remap_failure", Kind.MEMORY),
    "nvidia.memory/no_spare_rows": ("bank_without_spares", Kind.MEMORY),
    "nvidia.memory/sram_threshold": ("sram_threshold", Kind.MEMORY),
}
# A reboot should have ended it: of class hardware it came back after several.
REPEATED = "nvidia.xid/79"
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
    """What a fleet's past says of each GPU that is there now. `calibrated` says whether the same
    rates came true in the back-test of that past, None where it is too short for one."""

    days: int
    calibrated: bool | None
    outlooks: Mapping[str, Outlook]


def outlooks_of(units: Sequence[Unit], span: tuple[int, int], days: int) -> Mapping[str, Outlook]:
    """Of every unit that is there at the end of the span, by windows of `days`."""
    first, last = span
    start = last - (last - first) // days * days
    rates, there = Rates(), [unit for unit in units if unit.removed is None]
    for day in range(start, last, days):
        rates.learn(units, day, day + days)
    hazards = rates.scores(there)
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
    return found


def _interval(probability: float, failures: float) -> tuple[float, float]:
    """Of a rate that was estimated from so many failures: a Poisson count's, on the log scale."""
    wide = math.exp(_Z80 / math.sqrt(failures))
    return probability / wide, min(probability * wide, 0.99)


def maintenance_document(health: Mapping[str, Any], past: Past | None) -> Document:
    """Every GPU of the answer to `health`; its partitions are a part of it."""
    return {
        "window_days": past.days if past else None,
        "gpus": [_gpu(one, past) for one in health["devices"] if not one.get("parent")],
    }


def _gpu(device: Mapping[str, Any], past: Past | None) -> Document:
    outlook = past.outlooks.get(device["id"]) if past else None
    findings = list(_findings(device))
    return {
        "id": device["id"],
        "product": device.get("product"),
        "certain": findings,
        **_told(outlook, past),
        "remaining_life": None,  # no trend is kept that would give an interval
        "alerts": list(_alerts(findings, outlook)),
        "held_by": device.get("held_by", []),
    }


def _findings(device: Mapping[str, Any]) -> Iterator[Document]:
    for fault in device["faults"]:
        name = f"{fault['source']}/{fault['code']}"
        finding = CERTAIN.get(name)
        if name == REPEATED and fault["class"] == "hardware":
            finding = ("off_bus_repeated", Kind.OFF_BUS)
        if finding is not None and fault["device"] == device["id"]:
            yield {
                "finding": finding[0],
                "kind": str(finding[1]),
                "since": fault.get("since"),
                "reason": fault["reason"],
                "action": fault["action"],
            }


def _told(outlook: Outlook | None, past: Past | None) -> Document:
    if outlook is None or past is None:
        why = "it is not in the fleet's file" if past else "no past of the fleet is given (--fleet)"
        return {"failure_probability": None, "unknown_because": why}
    return {
        "failure_probability": round(outlook.probability, 5),
        "interval_80": [round(outlook.low, 5), round(outlook.high, 5)],
        "by_kind": {str(kind): round(value, 5) for kind, value in outlook.kinds.items()},
        "relative_to_fleet": round(outlook.relative, 2),
        "calibrated": {True: "yes", False: "no", None: "unknown"}[past.calibrated],
    }


def _alerts(findings: Sequence[Document], outlook: Outlook | None) -> Iterator[str]:
    if findings:
        yield "certain finding"
    if outlook is not None and outlook.relative >= HIGH_RELATIVE:
        yield f"relative risk >= {HIGH_RELATIVE:g}"
