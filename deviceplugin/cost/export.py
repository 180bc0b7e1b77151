"""A bill for other programs: CSV, columns of FOCUS, metrics as OpenCost names them; pure."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from deviceplugin.cost.bill import Bill, Line
from deviceplugin.cost.calendar import day_of, month_of, utc
from deviceplugin.cost.report import grouped
from deviceplugin.metrics.registry import number

_COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
FOCUS = (
    *_COSTS,
    *("BillingCurrency", "BillingPeriodStart", "BillingPeriodEnd"),
    *("ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ChargeDescription"),
    *("ServiceCategory", "ServiceName", "ConsumedQuantity", "ConsumedUnit"),
    *("PricingQuantity", "PricingUnit", "ResourceId", "ResourceName", "ResourceType", "Tags"),
    *("x_Part", "x_Namespace", "x_Owner", "x_Team", "x_Node", "x_Vendor", "x_Lifecycle"),
)
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def bill_csv(document: Mapping[str, Any]) -> str:
    """The groups of a bill's document."""
    out = io.StringIO()
    names = list(document["groups"][0])[1:] if document["groups"] else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([document["by"], *names, "currency"])
    for one in document["groups"]:
        cells = ("" if one[name] is None else one[name] for name in names)
        writer.writerow([one["name"], *cells, document["currency"]])
    return out.getvalue()


def bill_focus(bill: Bill, zone: ZoneInfo) -> str:
    """A row for each day, device, part and owner; what FOCUS does not have begins with `x_`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FOCUS, lineterminator="\n")
    writer.writeheader()
    for lines in grouped(bill.lines, lambda line: _focus_key(line, zone)).values():
        writer.writerow(_focus_row(lines, bill.currency, zone))
    return out.getvalue()


def _focus_key(line: Line, zone: ZoneInfo) -> str:
    own = (line.namespace, line.owner, line.team, line.part.value)
    return "\0".join((day_of(line.start, zone), line.device.id, *own))


def _focus_row(lines: Sequence[Line], currency: str, zone: ZoneInfo) -> dict[str, object]:
    one, amount = lines[0], round(math.fsum(line.amount for line in lines), 8)
    hours = round(math.fsum(line.gpu_hours for line in lines), 6)
    first, after = month_of(one.start, zone)
    return {
        **dict.fromkeys(_COSTS, amount),
        "BillingCurrency": currency,
        "BillingPeriodStart": utc(first),
        "BillingPeriodEnd": utc(after),
        "ChargePeriodStart": utc(min(line.start for line in lines)),
        "ChargePeriodEnd": utc(max(line.end for line in lines)),
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), hours),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), "GPU Hours"),
        **_focus_about(one),
    }


def _focus_about(one: Line) -> dict[str, object]:
    """What is the same of all lines of a row."""
    device = one.device
    who = {"namespace": one.namespace, "owner": one.owner, "team": one.team}
    return {
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{device.model} {device.profile}".strip(),
        "ServiceCategory": "Compute",
        "ServiceName": "GPU",
        "ResourceId": device.id,
        "ResourceName": f"{device.node}/{device.id}",
        "ResourceType": "GPU Partition" if device.profile else "GPU",
        "Tags": json.dumps({name: value for name, value in who.items() if value}),
        **{f"x_{name.title()}": value for name, value in who.items()},
        "x_Part": one.part.value,
        "x_Node": device.node,
        "x_Vendor": device.vendor,
        "x_Lifecycle": one.lifecycle,
    }


def bill_metrics(bill: Bill) -> str:
    """The last hour as metrics, for a textfile collector or a push gateway.

    `container_gpu_allocation`, `node_gpu_count` and `node_gpu_hourly_cost` are OpenCost's; here a
    share and a partition count as the part of a GPU that they are, and all vendors do.
    """
    begin = bill.span[1] - 3600
    last = [_clipped(line, begin) for line in bill.lines if line.end > begin]
    hours = _hours_of_nodes(last)
    return "".join(f"{text}\n" for text in (*_containers(last), *_nodes(last, hours), *_own(last)))


def _clipped(line: Line, begin: float) -> Line:
    """Of a line that began before, the part that lies in the last hour."""
    if line.start >= begin:
        return line
    part = (line.end - begin) / (line.end - line.start)
    amount, hours = line.amount * part, line.gpu_hours * part
    return replace(line, start=begin, amount=amount, gpu_hours=hours)


def _hours_of_nodes(last: Sequence[Line]) -> Mapping[str, float]:
    """How long each node is in the last hour."""
    spans: dict[str, set[tuple[float, float]]] = {}
    for line in last:
        spans.setdefault(line.device.node, set()).add((line.start, line.end))
    return {n: math.fsum(end - start for start, end in s) / 3600 for n, s in spans.items()}


def _containers(last: Sequence[Line]) -> Iterator[str]:
    yield "# HELP container_gpu_allocation GPUs, or parts of them, that a container has"
    yield "# TYPE container_gpu_allocation gauge"
    held = [line for line in last if line.pod]

    def key(line: Line) -> str:
        names = (("container", line.container), ("namespace", line.namespace))
        return labels_text((*names, ("node", line.device.node), ("pod", line.pod)))

    for labels, lines in grouped(held, key).items():
        value = math.fsum(line.gpu_hours for line in lines)
        yield f"container_gpu_allocation{{{labels}}} {number(round(value, 6))}"


def _nodes(last: Sequence[Line], hours: Mapping[str, float]) -> Iterator[str]:
    found = grouped(last, lambda line: line.device.node)
    gpus = {n: math.fsum(o.gpu_hours for o in g) / hours[n] for n, g in found.items()}
    costs = {n: math.fsum(o.amount for o in g) / (gpus[n] * hours[n]) for n, g in found.items()}
    about = (
        ("node_gpu_count", "GPUs of a node that have a price", gpus),
        ("node_gpu_hourly_cost", "What one GPU of a node costs an hour", costs),
    )
    for name, text, values in about:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} gauge"
        for node, value in values.items():
            yield f"{name}{{{labels_text((('node', node),))}}} {number(round(value, 6))}"


def _own(last: Sequence[Line]) -> Iterator[str]:
    name = "deviceplugin_cost_last_hour"
    yield f"# HELP {name} What the last hour cost, by who had what and for which part of the bill"
    yield f"# TYPE {name} gauge"

    def key(line: Line) -> str:
        device = line.device
        who = (("namespace", line.namespace), ("owner", line.owner), ("team", line.team))
        what = (("vendor", device.vendor), ("model", device.model), ("profile", device.profile))
        return labels_text((*who, *what, ("part", line.part.value)))

    for labels, lines in grouped(last, key).items():
        yield f"{name}{{{labels}}} {number(round(math.fsum(o.amount for o in lines), 6))}"


def labels_text(labels: Sequence[tuple[str, str]]) -> str:
    """Labels as they stand between braces."""
    return ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in labels)


FORMS: Mapping[str, Callable[[Bill, ZoneInfo], str]] = {
    "focus": bill_focus,
    "opencost": lambda bill, zone: bill_metrics(bill),
}
