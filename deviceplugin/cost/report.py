"""A bill as people and programs are shown it; pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from deviceplugin.cost.bill import Bill, Line
from deviceplugin.cost.calendar import day_of
from deviceplugin.cost.pieces import Part
from deviceplugin.runtime.tables import table

Document = dict[str, Any]
NOBODY = "(nobody)"
GROUPS = ("namespace", "owner", "team", "pod", "node", "vendor", "model", "day")


def key_of(by: str, zone: ZoneInfo) -> Callable[[Line], str]:
    """What a line is grouped by: one of GROUPS."""
    if by == "day":
        return lambda line: day_of(line.start, zone)
    if by in ("node", "vendor", "model"):
        return lambda line: str(getattr(line.device, by))
    if by == "pod":
        return lambda line: f"{line.namespace}/{line.pod}" if line.pod else NOBODY
    return lambda line: str(getattr(line, by)) or (NOBODY if not line.namespace else "(not told)")


def grouped(lines: Iterable[Line], key: Callable[[Line], str]) -> Mapping[str, Sequence[Line]]:
    """The lines by their key, sorted."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(key(line), []).append(line)
    return dict(sorted(found.items()))


def bill_document(bill: Bill, by: str, zone: ZoneInfo) -> Document:
    """The bill as one document; amounts are in its currency."""
    start, end = bill.span
    parts = {part.value: round(bill.of(part), 4) for part in Part}
    unmeasured = bill.amount(lambda line: line.part == Part.USED and not line.measured)
    return {
        "from": _iso(start, zone),
        "until": _iso(end, zone),
        "currency": bill.currency,
        "total": round(bill.total, 4),
        "parts": parts,
        "used_without_a_reading": round(unmeasured, 4),
        "unpriced_gpu_hours": {k: round(v, 3) for k, v in sorted(bill.unpriced.items())},
        "gpu_hours_without_energy": round(bill.unmetered, 3),
        "kwh": _sum(line.kwh for line in bill.lines),
        "kg_co2": _sum(line.kg_co2 for line in bill.lines),
        "by": by,
        "groups": [_group(n, g) for n, g in grouped(bill.lines, key_of(by, zone)).items()],
    }


def _group(name: str, lines: Sequence[Line]) -> Document:
    amounts = {part: math.fsum(one.amount for one in lines if one.part == part) for part in Part}
    return {
        "name": name,
        "gpu_hours": round(math.fsum(line.gpu_hours for line in lines), 3),
        **{part.value: round(amounts[part], 4) for part in Part},
        "total": round(math.fsum(amounts.values()), 4),
        "kwh": _sum(line.kwh for line in lines),
        "kg_co2": _sum(line.kg_co2 for line in lines),
    }


def _sum(values: Iterable[float | None]) -> float | None:
    """None where any is unknown: a sum without it would be too low."""
    found = list(values)
    known = [value for value in found if value is not None]
    return round(math.fsum(known), 3) if known and len(known) == len(found) else None


def _iso(moment: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(moment, zone).isoformat()


def bill_text(document: Document) -> str:
    """The document for terminals."""
    total = document["total"]
    rows = [
        (name, f"{amount:,.2f}", f"{100 * amount / total:.1f} %" if total else "")
        for name, amount in document["parts"].items()
    ]
    rows.append(("total", f"{total:,.2f}", "100.0 %" if total else ""))
    groups = [
        (
            one["name"],
            f"{one['gpu_hours']:,.1f}",
            *(f"{one[part.value]:,.2f}" for part in Part),
            f"{one['total']:,.2f}",
        )
        for one in document["groups"]
    ]
    head = (document["by"].upper(), "GPU HOURS", *(part.value.upper() for part in Part), "TOTAL")
    shown = [
        f"{document['from']} to {document['until']}, in {document['currency']}",
        table(("PART", "AMOUNT", "SHARE"), rows),
        table(head, groups),
        *_remarks(document),
    ]
    return "\n\n".join(shown) + "\n"


def _remarks(document: Document) -> Sequence[str]:
    found = []
    if document["used_without_a_reading"]:
        amount = document["used_without_a_reading"]
        found.append(f"Of used, {amount:,.2f} is without a reading of activity: it may be idle.")
    for model, hours in document["unpriced_gpu_hours"].items():
        found.append(f"No price: {hours:,.1f} GPU hours of {model} are in no part of the bill.")
    if document["gpu_hours_without_energy"]:
        hours = document["gpu_hours_without_energy"]
        found.append(f"Energy of {hours:,.1f} GPU hours was not measured and is missing.")
    if document["kwh"] is not None:
        carbon = document["kg_co2"]
        text = f", {carbon:,.1f} kg CO2e" if carbon is not None else ""
        found.append(f"Energy: {document['kwh']:,.1f} kWh{text}.")
    return found
