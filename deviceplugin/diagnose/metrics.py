"""Metrics of the daemon's own diagnosis."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from deviceplugin.metrics.registry import Family

_VERDICTS = ("fail", "warn", "pass", "skipped")


class Shown(Struct, frozen=True):
    """The last diagnosis and when it was made, both None before the first one; `failing` while
    none can be made; name and severity of each alert."""

    document: Mapping[str, Any] | None
    done_at: float | None
    failing: bool
    alerts: Sequence[tuple[str, str]]


def series_of(shown: Shown) -> Iterator[Family]:
    """How many results have each verdict, what fails, and what fires for it."""
    failing = Family("deviceplugin_diagnosis_failing", "gauge", "1 while no diagnosis can be made")
    failing.add((), float(shown.failing))
    yield failing
    if shown.document is None or shown.done_at is None:
        return
    made = Family(
        "deviceplugin_diagnosis_timestamp_seconds", "gauge", "When the last diagnosis was made"
    )
    made.add((), shown.done_at)
    yield made
    yield from _results(shown.document["checks"], shown.alerts)


def _results(
    checks: Sequence[Mapping[str, Any]], alerts: Sequence[tuple[str, str]]
) -> Iterator[Family]:
    results = Family(
        "deviceplugin_diagnosis_results", "gauge", "Results of the last diagnosis", ["verdict"]
    )
    for verdict in _VERDICTS:
        results.add([verdict], float(sum(one["verdict"] == verdict for one in checks)))
    yield results
    failed = Family(
        "deviceplugin_diagnosis_check_failed",
        "gauge",
        "1 for each check that failed in the last diagnosis",
        ["check", "subject"],
    )
    found = sorted({(one["check"], one["subject"]) for one in checks if one["verdict"] == "fail"})
    for labels in found:
        failed.add(labels, 1.0)
    yield failed
    firing = Family(
        "deviceplugin_diagnosis_alert",
        "gauge",
        "1 for each alert of the section diagnostics while a check fails",
        ["alert", "severity"],
    )
    for name, severity in dict(alerts).items():
        firing.add([name, severity], float(bool(found)))
    yield firing
