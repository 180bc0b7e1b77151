"""A fleet's report as one page of HTML that needs nothing else; pure.

A section is a title and a function that makes HTML of the report, empty where it has nothing to
say; what another part of the project has to show is one more of them.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from deviceplugin.fleet.chart import STYLE as CHART_STYLE
from deviceplugin.fleet.chart import chart
from deviceplugin.fleet.plan_text import advice_text, amount, hours
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
_END = "</main>\n</body>\n</html>\n"


def fleet_map(report: Document) -> str:
    """Each node with its GPUs, and how many of them pods have."""
    shown = report["places"][:MOST_NODES]
    cards = [
        tag("div", meter(place["node"], _part(place), _held(place)), {"class": "card"})
        for place in shown
    ]
    more = len(report["places"]) - len(shown)
    rest = tag("p", f"{more} more are in the report as JSON") if more else ""
    return tag("div", "".join(cards), {"class": "cards"}) + rest if cards else ""


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


SECTIONS: Sequence[Section] = (
    ("Nodes", fleet_map),
    ("Recommendations", recommendations),
    ("Forecasts", forecasts),
    ("Namespaces", namespaces),
)


def fleet_page(report: Document, sections: Iterable[Section] = SECTIONS) -> str:
    """The whole page."""
    made = datetime.fromtimestamp(report["until"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        tag("section", tag("h2", text(title)) + content)
        for title, make in sections
        if (content := make(report))
    ]
    top = tag("h1", "GPUs of the fleet") + tag("p", f"until {made}", {"class": "facts"})
    style = f"{STYLE}{CHART_STYLE}\nfigure.card{{margin-bottom:1rem}}</style>\n</head>\n"
    return _HEAD + style + f"<body>\n{tag('header', top)}\n<main>\n" + "\n".join(parts) + _END


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
