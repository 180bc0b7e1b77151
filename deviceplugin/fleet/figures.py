"""A report as metrics, for Prometheus to scrape; pure."""

from collections.abc import Iterator
from typing import Any

from deviceplugin.cost.budget_report import budget_metrics
from deviceplugin.cost.export import labels_text
from deviceplugin.metrics.registry import number

Document = dict[str, Any]
FULL = "deviceplugin_fleet_full_in_hours"
MADE = "deviceplugin_fleet_report_timestamp_seconds"


def report_metrics(report: Document) -> str:
    """When resources are full, what budgets come to, and until when that was known; what is not
    full within the plan's horizon has no series."""
    lines = "".join(f"{line}\n" for line in _lines(report))
    return lines + budget_metrics(report.get("budgets", {"budgets": []}))


def _lines(report: Document) -> Iterator[str]:
    yield f"# HELP {MADE} Until when the store was read for the last report"
    yield f"# TYPE {MADE} gauge"
    yield f"{MADE} {number(report['until'])}"
    yield f"# HELP {FULL} Hours until the edge of the forecast's band reaches the capacity"
    yield f"# TYPE {FULL} gauge"
    for row in report["rows"]:
        if row["namespace"] == "all" and row["saturation"]:
            for edge, hours in row["saturation"].items():
                if hours is not None:
                    who = (("resource", row["resource"]), ("vendor", row["vendor"]))
                    yield f"{FULL}{{{labels_text((*who, ('edge', edge)))}}} {number(hours)}"
