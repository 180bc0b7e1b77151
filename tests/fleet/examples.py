"""Answers of a store about a fleet that grows, without a store."""

import math
from collections.abc import Callable, Mapping

from deviceplugin.advice.advise import Adviser
from deviceplugin.advice.report import advice_document
from deviceplugin.cost.bill import Biller
from deviceplugin.cost.budget import budget_document
from deviceplugin.cost.report import bill_document
from deviceplugin.fleet.demand import Answers, Fleet, fleet_of
from deviceplugin.fleet.plan import Asked, Document, WhatIf, report_document
from deviceplugin.fleet.risk import risk_document
from deviceplugin.metrics.reply import Series
from tests.advice.examples import fleet as devices_of
from tests.advice.examples import hourly, steady
from tests.cost.examples import costs

HOUR = 3600.0
END = 1_774_000_800.0
DAYS = 30
H100, MI300 = "NVIDIA H100 80GB HBM3", "AMD Instinct MI300X"


def moments(days: int = DAYS) -> list[float]:
    return [END - HOUR * n for n in reversed(range(days * 24))]


def series(labels: Mapping[str, str], value: Callable[[int], float], days: int = DAYS) -> Series:
    values = {at: value(n) for n, at in enumerate(moments(days))}
    return Series(labels=dict(labels), values=values)


def swing(hour: int) -> float:
    return 4 + 2 * math.sin(hour / 24 * 2 * math.pi)


def answers() -> dict[str, tuple[Series, ...]]:
    """Two nodes of eight H100, one of eight MI300X of which nobody has one; no storage is told."""
    nodes = [
        {"vendor": "nvidia", "model": H100, "node": "n1"},
        {"vendor": "nvidia", "model": H100, "node": "n2"},
        {"vendor": "amd", "model": MI300, "instance": "n3:8080"},
    ]
    return {
        "gpu_used": (
            series({"vendor": "nvidia", "exported_namespace": "ml", "namespace": "gpu"}, swing),
            series({"vendor": "nvidia", "namespace": "web"}, lambda hour: hour / 120),
        ),
        "gpu_capacity": tuple(series(node, lambda _: 8.0) for node in nodes),
        "gpu_node_used": (series(nodes[0], lambda _: 6.0),),
        "memory_used": (series({"vendor": "nvidia"}, lambda _: 100e9),),
        "memory_capacity": tuple(series(node, lambda _: 8 * 80e9) for node in nodes[:2]),
    }


def fleet(found: Answers | None = None) -> Fleet:
    return fleet_of(answers() if found is None else found, END - (DAYS * 24 - 1) * HOUR, END)


def priced() -> Document:
    """A report with everything that it can have: the same fleet, a GPU that failed, a bill, a
    budget that is spent and advice."""
    section = costs(budgets=[{"name": "ml", "monthly": 300.0, "namespace": "ml"}])
    past = devices_of(hourly(steady("a"), days=8), hourly(steady("b"), of="GPU-1", days=8), gpus=2)
    biller = Biller(section)
    bill = biller.bill(past)
    failed = Series(labels={"uuid": "GPU-7", "node": "n2"}, values={END: 1.0})
    return report_document(fleet(), Asked(), WhatIf()) | {
        "health": risk_document({"remap_failed": (failed,)}, DAYS),
        "cost": bill_document(bill, "namespace", section.zone),
        "budgets": budget_document(bill, section),
        "advice": advice_document(Adviser(past, biller).advice(), "USD", 8),
    }
