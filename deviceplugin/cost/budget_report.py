"""Budgets for people and for Prometheus."""

from collections.abc import Iterator, Mapping
from typing import Any

from deviceplugin.cost.export import labels_text
from deviceplugin.metrics.registry import number
from deviceplugin.runtime.tables import table

_METRICS = (
    ("deviceplugin_budget_monthly", "monthly", "What a budget allows for a month"),
    ("deviceplugin_budget_spent", "spent", "What was spent of a budget in this month"),
    ("deviceplugin_budget_expected", "expected", "What the month is expected to come to"),
    (
        "deviceplugin_budget_overrun_probability",
        "overrun_probability",
        "The part of the forecast's errors with which the month ends above the budget",
    ),
)


def budget_text(document: Mapping[str, Any]) -> str:
    """For terminals."""
    rows = [
        (
            one["name"],
            f"{one['monthly']:,.2f}",
            f"{one['spent']:,.2f}",
            f"{100 * one['spent_ratio']:.0f} %",
            _amount(one["expected"]),
            f"{_amount(one['low'])} to {_amount(one['high'])}" if one["low"] is not None else "-",
            "-" if one["overrun_probability"] is None else f"{one['overrun_probability']:.2f}",
            one["state"],
        )
        for one in document["budgets"]
    ]
    head = ("BUDGET", "MONTHLY", "SPENT", "", "EXPECTED", "80 %", "OVERRUN", "STATE")
    told = f"{document['month']} until {document['until']}, in {document['currency']}"
    if not rows:
        return f"{told}\n\nNo budgets are given: cost.budgets\n"
    return f"{told}\n\n{table(head, rows)}\n"


def _amount(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def budget_metrics(document: Mapping[str, Any]) -> str:
    """For a textfile collector or a push gateway; what is not known has no series."""
    return "".join(f"{line}\n" for line in _lines(document))


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    for name, key, text in _METRICS:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} gauge"
        for one in document["budgets"]:
            if one[key] is not None:
                yield f"{name}{{{labels_text((('budget', one['name']),))}}} {number(one[key])}"
    yield "# HELP deviceplugin_budget_alert 1 where the spent part of a budget has reached `at`"
    yield "# TYPE deviceplugin_budget_alert gauge"
    for one in document["budgets"]:
        for at in one["alerts_reached"]:
            labels = labels_text((("budget", one["name"]), ("at", at)))
            yield f"deviceplugin_budget_alert{{{labels}}} 1.0"
