"""A plan as tables for a terminal; pure."""

from collections.abc import Iterator
from typing import Any

from deviceplugin.advice.report import advice_text as savings_text
from deviceplugin.cost.budget_report import budget_text
from deviceplugin.cost.report import bill_text
from deviceplugin.fleet.risk import missing_words, words_of
from deviceplugin.runtime.tables import table

Document = dict[str, Any]
SHOWN_H = (1, 24, 168, 720)
MOST_RISKS = 50  # GPUs; all are in the report as JSON
_LEGEND = """\
In brackets: where four of five values should be; ? is a horizon that could not be tested.
FULL IN: early / middle / late, by the band's upper edge, the forecast, the band's lower edge."""
_PREFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def amount(value: float | None, unit: str) -> str:
    """A number with its unit, `no data` for none."""
    if value is None:
        return "no data"
    if not unit.startswith("bytes"):
        return f"{value:.1f}"
    step = 0
    while abs(value) >= 1024 and step < len(_PREFIXES) - 1:
        value, step = value / 1024, step + 1
    return f"{value:.1f} {_PREFIXES[step]}B{unit.removeprefix('bytes')}"


def hours(value: int | None) -> str:
    """Hours in words."""
    if value is None:
        return "-"
    return f"{value} h" if value < 48 else f"{value / 24:.0f} d"


def plan_text(document: Document) -> str:
    """What is expected, when it is used up, how good the forecast was, and what to do."""
    rows = document["rows"]
    heads = ("RESOURCE", "VENDOR", "NAMESPACE")
    expected = [_expected(row, document["horizon_h"]) for row in rows]
    tested = [line for row in rows for line in _tested(row)]
    parts = [
        table((*heads, "NOW", "CAPACITY", *_heads(document), "FULL IN"), expected),
        _LEGEND,
        table((*heads, "AHEAD", "TESTED", "ERROR", "LAST VALUE", "IN BAND"), tested),
        *(line for row in rows for line in _remarks(row)),
        *(advice_text(one, rows) for one in document["recommendations"]),
        *(f"{name}: no data" for name in document["no_data"]),
    ]
    return "\n".join(parts) + "\n"


def report_text(document: Document) -> str:
    """Each node, then the plan."""
    rows = [
        [
            *(place["node"], place["vendor"], place["model"], f"{place['capacity']:.0f}"),
            amount(place["used"], "GPUs"),
        ]
        for place in document["places"]
    ]
    nodes = table(("NODE", "VENDOR", "MODEL", "GPUS", "IN USE"), rows)
    return "\n\n".join([nodes, *_others(document), plan_text(document)])


def _others(document: Document) -> Iterator[str]:
    """What a report has beside a plan: signs of failures, and what GPUs cost."""
    if "health" in document:
        yield _health(document["health"])
    if "cost_unknown" in document:
        yield f"Costs: no data, {document['cost_unknown']}"
    if "cost" in document:
        texts = (bill_text(document["cost"]), budget_text(document["budgets"]))
        yield from (text.rstrip("\n") for text in (*texts, savings_text(document["advice"])))


def _health(document: Document) -> str:
    rows = [
        (one["device"], one["node"], "replace" if one["certain"] else "watch", words)
        for one in document["gpus"][:MOST_RISKS]
        for words in ("; ".join(words_of(one)),)
    ]
    told = [table(("GPU", "NODE", "", f"SIGNS OF {document['days']} DAYS"), rows)] if rows else []
    if not rows and document["known"]:
        told.append(f"No GPU has a sign of a failure in {document['days']} days.")
    if missing := missing_words(document):
        told.append(f"No data of these signs of failures: {', '.join(missing)}.")
    return "\n".join(told)


def _remarks(row: Document) -> Iterator[str]:
    if row["accuracy_answer"]:
        yield f"{_who(row)}: accuracy of {row['accuracy_answer']}"
    if row["reason"]:
        yield f"{_who(row)}: no forecast, {row['reason']}"


def advice_text(one: Document, rows: list[Document]) -> str:
    """A recommendation as a sentence."""
    unit = next(row["unit"] for row in rows if row["resource"] == one["resource"])
    counted = (
        f"{one['amount']} {unit}" if unit in ("GPUs", "partitions") else amount(one["amount"], unit)
    )
    who = " ".join(filter(None, (one["vendor"], one["resource"])))
    within = hours(one["within_h"])
    if one["kind"] == "add":
        first = hours(one["first_needed_in_h"])
        return f"{who}: add {counted} within {within}; the band is above the capacity in {first}"
    if one["kind"] == "spare":
        return f"{who}: {counted} stay unused within {within}, by the band's upper edge"
    return f"{who}: the capacity is enough within {within}"


def _heads(document: Document) -> list[str]:
    return [f"IN {hours(h)}" for h in SHOWN_H if h <= document["horizon_h"]]


def _expected(row: Document, horizon_h: int) -> list[str]:
    found = {point["ahead_h"]: point for point in row["points"]}
    full = row["saturation"]
    when = " / ".join(hours(full[k]) for k in ("early", "median", "late")) if full else "no data"
    return [
        *(row["resource"], row["vendor"], row["namespace"], amount(row["now"], row["unit"])),
        amount(row["capacity"], row["unit"]) if row["namespace"] == "all" else "",
        *(_at(found.get(h), row["unit"]) for h in SHOWN_H if h <= horizon_h),
        when if row["namespace"] == "all" else "",
    ]


def _at(point: Document | None, unit: str) -> str:
    if point is None:
        return "-"
    band = f"[{amount(point['low'], unit)}, {amount(point['high'], unit)}]"
    return f"{amount(point['value'], unit)} {band}{'' if point['backed'] else ' ?'}"


def _tested(row: Document) -> Iterator[list[str]]:
    for one in row["accuracy"]:
        yield [
            *(row["resource"], row["vendor"], row["namespace"], hours(one["ahead_h"])),
            str(one["tested"]),
            *(_percent(one[k]) for k in ("error_percent", "last_value_error_percent")),
            _percent(one["band_covered_percent"]),
        ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _who(row: Document) -> str:
    return " ".join(filter(None, (row["vendor"], row["resource"], f"of {row['namespace']}")))
