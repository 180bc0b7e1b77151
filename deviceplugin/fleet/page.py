"""A fleet's report as one page of HTML that needs nothing else; pure.

A section is a title and a function that makes HTML of the report, empty where it has nothing to
say; what another part of the project has to show is one more of them.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from deviceplugin.advice.fragment import advice_fragment
from deviceplugin.cost.fragment import cost_fragment
from deviceplugin.fleet.chart import STYLE as CHART_STYLE
from deviceplugin.fleet.chart import chart
from deviceplugin.fleet.plan_text import advice_text, amount, hours
from deviceplugin.fleet.risk import missing_words, words_of
from deviceplugin.forecast.outlook import Point
from deviceplugin.page.assets import STYLE
from deviceplugin.page.markup import meter, table, tag, text

Document = dict[str, Any]
Section = tuple[str, Callable[[Document], str]]
MOST_NODES = 500
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'">
<title>GPUs of the fleet</title>
<link rel="icon" href="data:,">
<style>
"""
# Pictures are moved sideways on a phone, where their words would be too small to read.
_OWN = (
    "\nfigure.card{margin-bottom:1rem;overflow-x:auto}"
    ".cost svg,svg.chart{max-width:45rem;min-width:32rem;border-radius:.5rem}"
)
_END = "</main>\n</body>\n</html>\n"


# Nothing is shown of a fleet that is not known: neither a map without nodes, nor zeros.
_NO_GPUS = tag("p", "The store has no GPU of the last day: no data.", {"class": "absent"})


def fleet_map(report: Document) -> str:
    """Each node with its GPUs, and how many of them pods have."""
    shown = report["places"][:MOST_NODES]
    cards = [
        tag("div", meter(place["node"], _part(place), _held(place)), {"class": "card"})
        for place in shown
    ]
    more = len(report["places"]) - len(shown)
    rest = tag("p", f"{more} more are in the report as JSON") if more else ""
    return tag("div", "".join(cards), {"class": "cards"}) + rest if cards else _NO_GPUS


def forecasts(report: Document) -> str:
    """A chart for all of each resource, and how good its forecasts were."""
    return "".join(
        tag("figure", _chart(row) + _tested(row), {"class": "card"})
        for row in report["rows"]
        if row["namespace"] == "all" and row["points"]
    )


def namespaces(report: Document) -> str:
    """What namespaces use, and are expected to."""
    rows = [row for row in report["rows"] if row["namespace"] != "all"]
    if not rows:
        return ""
    head = ("Namespace", "Vendor", "Resource", "Now", "In a day", "In 30 days")
    return table("By namespace", head, [_expected(row) for row in rows])


def recommendations(report: Document) -> str:
    """What to add, what is over, and of what there is no data."""
    lines = [advice_text(one, report["rows"]) for one in report["recommendations"]]
    lines += [
        f"{row['vendor']} {row['resource']} of {row['namespace']}: accuracy of {answer}"
        for row in report["rows"]
        if (answer := row["accuracy_answer"])
    ]
    lines += [f"{name}: no data" for name in report["no_data"]]
    return tag("ul", "".join(tag("li", text(line)) for line in lines), {"class": "list"})


def costs(report: Document) -> str:
    """The bill and the budgets, where prices were given."""
    if "cost_unknown" in report:
        return tag("p", text(f"No data: {report['cost_unknown']}."), {"class": "absent"})
    return cost_fragment(report["cost"]) + _budgets(report) if "cost" in report else ""


def savings(report: Document) -> str:
    """What could be had for less, where prices were given."""
    return advice_fragment(report["advice"]) if "advice" in report else ""


def health(report: Document) -> str:
    """The GPUs with signs that they may fail."""
    found = report["health"]
    told = f"Signs of the last {found['days']} days."
    if missing := missing_words(found):
        told += f" No data: {', '.join(missing)}."
    rows = [
        [text(row["device"]), text(row["node"]), _certainty(row), text("; ".join(words_of(row)))]
        for row in found["gpus"][:MOST_NODES]
    ]
    none = tag("p", "No GPU has one.") if found["known"] and not rows else ""
    shown = table("GPUs that may fail", ("GPU", "Node", "", "Signs"), rows) if rows else none
    return tag("p", text(told), {"class": "facts"}) + shown


SECTIONS: Sequence[Section] = (
    ("Nodes", fleet_map),
    ("Health risk", health),
    ("Cost", costs),
    ("Recommendations", recommendations),
    ("Savings", savings),
    ("Forecasts", forecasts),
    ("Namespaces", namespaces),
)


def fleet_page(report: Document, sections: Iterable[Section] = SECTIONS, problem: str = "") -> str:
    """The whole page; `problem` is why there is no newer report."""
    made = datetime.fromtimestamp(report["until"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        tag("section", tag("h2", text(title)) + content)
        for title, make in sections
        if (content := make(report))
    ]
    top = tag("h1", "GPUs of the fleet") + tag("p", f"until {made}", {"class": "facts"})
    if problem:
        top += tag("p", text(f"This report is old: {problem}"), {"class": "warning"})
    style = f"{STYLE}{CHART_STYLE}{_OWN}</style>\n</head>\n"
    return _HEAD + style + f"<body>\n{tag('header', top)}\n<main>\n" + "\n".join(parts) + _END


def _certainty(row: Document) -> str:
    """A word and not a colour alone."""
    if row["certain"]:
        return tag("span", "replace", {"class": "badge critical"})
    return tag("span", "watch", {"class": "badge warning"})


def _budgets(report: Document) -> str:
    rows = [
        [text(cell) for cell in (one["name"], *_spent(one), one["state"])]
        for one in report["budgets"]["budgets"]
    ]
    if not rows:
        return ""
    head = ("Budget", "Monthly", "Spent", "Expected", "80 % of such forecasts", "State")
    return table(f"Budgets of {report['budgets']['month']}", head, rows)


def _spent(one: Document) -> Sequence[str]:
    known = one["expected"] is not None
    band = "-" if one["low"] is None else f"{one['low']:,.2f} to {one['high']:,.2f}"
    expected = f"{one['expected']:,.2f}" if known else "-"
    return f"{one['monthly']:,.2f}", f"{one['spent']:,.2f}", expected, band


def _part(place: Document) -> float | None:
    used, capacity = place["used"], place["capacity"]
    return used / capacity if used is not None and capacity else None


def _held(place: Document) -> str:
    used = "no data" if place["used"] is None else f"{place['used']:.1f}"
    return f"{used} of {place['capacity']:.0f} {place['model'] or place['vendor']}"


def _chart(row: Document) -> str:
    points = [
        Point(**{name: one[name] for name in Point.__struct_fields__}) for one in row["points"]
    ]
    title = " ".join(filter(None, (row["vendor"], row["resource"], f"({row['unit']})")))
    return chart(title, row["history"], points, capacity=row["capacity"])


def _tested(row: Document) -> str:
    head = ("Ahead", "Error", "Last value's error", "In the band", "Tested")
    lines = [
        (
            text(hours(one["ahead_h"])),
            *(
                "-" if one[key] is None else f"{one[key]:.1f} %"
                for key in ("error_percent", "last_value_error_percent", "band_covered_percent")
            ),
            str(one["tested"]),
        )
        for one in row["accuracy"]
    ]
    return table(f"Back-test of {row['vendor']} {row['resource']}", head, lines)


def _expected(row: Document) -> Sequence[str]:
    found = {one["ahead_h"]: one for one in row["points"]}
    cells = [amount(row["now"], row["unit"])]
    for ahead in (24, 720):
        one = found.get(ahead)
        band = one and f"{amount(one['low'], row['unit'])} to {amount(one['high'], row['unit'])}"
        cells.append(band or row["reason"] or "-")
    return [text(cell) for cell in (row["namespace"], row["vendor"], row["resource"], *cells)]
