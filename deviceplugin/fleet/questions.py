"""What is asked of the store: an hour's values at its end; and the rules that record them, pure.

Names are those of docs/metrics.md, and of node_exporter for network and storage.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_GPU = "deviceplugin_gpu_"
# A GPU that is cut into partitions cannot be had as a whole.
_CUT = (
    f'label_replace(max by (parent) (max_over_time({_GPU}info{{parent!=""}}[1h])),'
    ' "uuid", "$1", "parent", "(.+)")'
)
_WHERE = "uuid, vendor, model, node, instance"
# A share is weighted by the part of the hour in which its pod was there.
_PRESENT = f"max by (uuid) (count_over_time({_GPU}up[1h]))"


def _there(which: str) -> str:
    return f"max by ({_WHERE}) (max_over_time({_GPU}up{{{which}}}[1h]))"


def _held(which: str) -> str:
    share = f"sum_over_time({_GPU}pod_allocated_ratio{{{which}}}[1h])"
    return f"({share} / on (uuid) group_left () {_PRESENT})"


_OF_PODS = "vendor, namespace, exported_namespace"
_OF_NODES = "vendor, model, node, instance"
_WHOLE, _PARTS = 'partition=""', 'partition!=""'
_NETWORK = 'device!~"lo|veth.*|cali.*|cni.*|docker.*|flannel.*"'
_STORAGE = 'fstype!~"tmpfs|overlay|squashfs|ramfs"'
QUERIES: Mapping[str, str] = {
    "gpu_used": f"sum by ({_OF_PODS}) {_held(_WHOLE)}",
    "gpu_capacity": f"sum by ({_OF_NODES}) ({_there(_WHOLE)} unless on (uuid) {_CUT})",
    "gpu_node_used": f"sum by ({_OF_NODES}) {_held(_WHOLE)}",
    "partition_used": f"sum by ({_OF_PODS}) {_held(_PARTS)}",
    "partition_capacity": f"sum by ({_OF_NODES}) ({_there(_PARTS)})",
    "memory_used": (
        f"sum by (vendor) (max by (uuid, vendor)"
        f" (avg_over_time({_GPU}memory_used_bytes{{{_WHOLE}}}[1h])))"
    ),
    "memory_capacity": (
        f"sum by ({_OF_NODES}) (max by ({_WHERE})"
        f" (max_over_time({_GPU}memory_total_bytes{{{_WHOLE}}}[1h])))"
    ),
    "network_used": f"sum (rate(node_network_transmit_bytes_total{{{_NETWORK}}}[1h]))",
    "network_capacity": f"sum (max_over_time(node_network_speed_bytes{{{_NETWORK}}}[1h]) > 0)",
    "storage_used": (
        f"sum (avg_over_time(node_filesystem_size_bytes{{{_STORAGE}}}[1h])"
        f" - avg_over_time(node_filesystem_avail_bytes{{{_STORAGE}}}[1h]))"
    ),
    "storage_capacity": f"sum (max_over_time(node_filesystem_size_bytes{{{_STORAGE}}}[1h]))",
}
# Shorter than the five minutes for which a store shows a value.
INTERVAL = "4m"


def recorded(name: str) -> str:
    """The series under which the rules keep a query."""
    return f"deviceplugin_fleet:{name}:1h"


_BUDGET, _FULL = "deviceplugin_budget_", "deviceplugin_fleet_full_in_hours"
_MADE = "deviceplugin_fleet_report_timestamp_seconds"
RATIO = "deviceplugin_fleet:budget_spent:ratio"
# Of what `fleet serve` has at /metrics, or `fleet budget --format prometheus` writes.
ALERTS: Sequence[tuple[str, str, str, str]] = (
    (
        "GpuBudgetOver",
        f"{RATIO} > 1",
        "critical",
        "The budget {{ $labels.budget }} of this month is spent",
    ),
    (
        "GpuBudgetAlert",
        f"{_BUDGET}alert == 1",
        "warning",
        "{{ $labels.at }} of the budget {{ $labels.budget }} is spent",
    ),
    (
        "GpuBudgetOverrun",
        f"{_BUDGET}overrun_probability > 0.5",
        "warning",
        "The budget {{ $labels.budget }} is expected to be overrun by {{ $value }} of forecasts",
    ),
    (
        "GpuCapacityShort",
        f'{_FULL}{{edge="early"}} < 168',
        "warning",
        "{{ $labels.vendor }} {{ $labels.resource }} may be full in {{ $value }} h, by its band",
    ),
    (
        "GpuCapacityForecast",
        f'{_FULL}{{edge="median"}} < 168',
        "critical",
        "{{ $labels.vendor }} {{ $labels.resource }} are expected to be full in {{ $value }} h",
    ),
    (
        "GpuFleetReportOld",
        f"time() - {_MADE} > 86400",
        "warning",
        "The report of the fleet is a day old: what budgets and forecasts say is, too",
    ),
)


def rules() -> dict[str, Any]:
    """The recording and alerting rules, as Prometheus reads them."""
    found = [{"record": recorded(name), "expr": query} for name, query in QUERIES.items()]
    ratio = {"record": RATIO, "expr": f"{_BUDGET}spent / {_BUDGET}monthly"}
    alerts = [
        {
            "alert": name,
            "expr": expr,
            "for": "10m",
            "labels": {"severity": severity},
            "annotations": {"summary": summary},
        }
        for name, expr, severity, summary in ALERTS
    ]
    return {
        "groups": [
            {"name": "deviceplugin-fleet", "interval": INTERVAL, "rules": found},
            {"name": "deviceplugin-fleet-budgets", "rules": [ratio, *alerts]},
        ]
    }
