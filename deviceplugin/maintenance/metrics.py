"""Metrics of what may fail."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from deviceplugin.maintenance.alerts import Certain, Firing
from deviceplugin.metrics.registry import Family

_DAY_S = 86_400
Document = Mapping[str, Any]


class Shown(Struct, frozen=True, kw_only=True):
    """The last document and when it was made, both None before the first one; `failing` while none
    can be made; `predictions` those that are shown (empty: all)."""

    document: Document | None
    done_at: float | None
    failing: bool
    certain: Certain
    firing: frozenset[Firing]
    predictions: tuple[str, ...]

    def shows(self, prediction: str) -> bool:
        """Whether a prediction is asked for."""
        return not self.predictions or prediction in self.predictions


def series_of(shown: Shown) -> Iterator[Family]:
    """What is certain, what fires, and what was predicted."""
    failing = Family(
        "deviceplugin_maintenance_failing", "gauge", "1 while what may fail cannot be found out"
    )
    failing.add((), float(shown.failing))
    yield failing
    yield _certain(shown.certain)
    yield _firing(shown.firing)
    if shown.document is None or shown.done_at is None:
        return
    made = Family(
        "deviceplugin_maintenance_timestamp_seconds", "gauge", "When it was looked ahead last"
    )
    made.add((), shown.done_at)
    yield made
    if shown.shows("failure_probability"):
        yield from _probabilities(shown.document)
    if shown.shows("remaining_life"):
        yield from _lives(shown.document)
    if shown.shows("maintenance_schedule"):
        yield from _schedule(shown.document)


def _certain(certain: Certain) -> Family:
    family = Family(
        "deviceplugin_certain_finding",
        "gauge",
        "1 for each finding of a GPU that only a replacement or a repair ends",
        ["device", "finding"],
    )
    for device, findings in sorted(certain.items()):
        for finding in findings:
            family.add([device, finding], 1.0)
    return family


def _firing(firing: frozenset[Firing]) -> Family:
    family = Family(
        "deviceplugin_maintenance_alert",
        "gauge",
        "1 for each alert of the section predictive_maintenance that fires for a GPU",
        ["alert", "severity", "device"],
    )
    for one in sorted(firing):
        family.add([one.alert, one.severity, one.device], 1.0)
    return family


def _probabilities(document: Document) -> Iterator[Family]:
    days = str(document["window_days"])
    probability = Family(
        "deviceplugin_failure_probability",
        "gauge",
        "Probability that a GPU fails in the window, and whether such figures came true before",
        ["device", "window_days", "calibrated"],
    )
    relative = Family(
        "deviceplugin_failure_relative_risk",
        "gauge",
        "How many times the fleet's mean rate of failure a GPU has",
        ["device"],
    )
    for one in document["gpus"]:
        probability.add([one["id"], days, one["calibrated"]], one["failure_probability"])
        if one.get("relative_to_fleet") is not None:
            relative.add([one["id"]], one["relative_to_fleet"])
    yield from (probability, *_intervals(document, days), relative)


def _intervals(document: Document, days: str) -> Iterator[Family]:
    for place, end in enumerate(("low", "high")):
        family = Family(
            f"deviceplugin_failure_probability_{end}",
            "gauge",
            f"The {end} end of the interval of 80 % of the probability that a GPU fails",
            ["device", "window_days"],
        )
        for one in document["gpus"]:
            family.add([one["id"], days], one["interval_80"][place])
        yield family


def _lives(document: Document) -> Iterator[Family]:
    low = Family(
        "deviceplugin_remaining_life_low_seconds",
        "gauge",
        "The early end of how long a GPU may go on; absent where no trend tells one",
        ["device"],
    )
    for one in document["gpus"]:
        if one["remaining_life"] is not None:
            low.add([one["id"]], one["remaining_life"]["low_days"] * _DAY_S)
    yield low


def _schedule(document: Document) -> Iterator[Family]:
    start = Family(
        "deviceplugin_maintenance_window_start_seconds",
        "gauge",
        "When the window of the next week begins in which work on the node costs least",
    )
    cost = Family(
        "deviceplugin_maintenance_window_gpu_hours",
        "gauge",
        "GPU-hours that were allocated in such a window in the weeks before",
    )
    for one in document.get("maintenance_schedule", {}).get("windows", ())[:1]:
        start.add((), float(one["start"]))
        cost.add((), float(one["gpu_hours"]))
    yield from (start, cost)
