"""The dashboards for Grafana, made of one list of panels; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from deviceplugin.alerts.of_scheduler import SCHEDULER
from deviceplugin.alerts.panel import LEGEND, Panel, Query
from deviceplugin.telemetry.metric import PREFIX as GPU

Document = dict[str, Any]
_OF = 'instance=~"$instance"'
_ONE = 'instance=~"$instance",uuid=~"$uuid"'
REFRESH: Mapping[str, str] = {"gpu_overview": "30s", "gpu_details": "10s", "gpu_scheduler": "30s"}
_WIDTH, _HEIGHT = 12, 8


def _sum(series: str) -> Query:
    return Query(f"sum({series})", "")


_OVERVIEW: Sequence[Panel] = (
    Panel(
        title="Devices by health",
        unit="short",
        queries=(
            Query(
                f"sum by (resource, health) (deviceplugin_devices{{{_OF}}})",
                "{{resource}} {{health}}",
            ),
        ),
    ),
    Panel(
        title="Conditions",
        unit="short",
        queries=(
            Query(f"sum by (condition) (deviceplugin_device_condition{{{_OF}}})", "{{condition}}"),
        ),
        kind="stat",
    ),
    Panel(
        title="Mean utilisation by model",
        unit="percentunit",
        metric="utilization_ratio",
        queries=(
            Query(
                f'avg by (model) ({GPU}utilization_ratio{{{_OF},engine="compute"}})', "{{model}}"
            ),
        ),
    ),
    Panel(
        title="Memory in use, of all",
        unit="percentunit",
        metric="memory_used_bytes",
        queries=(
            Query(
                f'sum by (model) ({GPU}memory_used_bytes{{{_OF},partition=""}}) / sum by (model)'
                f' ({GPU}memory_total_bytes{{{_OF},partition=""}})',
                "{{model}}",
            ),
        ),
    ),
    Panel(
        title="Power",
        unit="watt",
        metric="power_watts",
        queries=(_sum(f"{GPU}power_watts{{{_OF}}}"),),
        kind="stat",
    ),
    Panel(
        title="Hottest GPUs",
        unit="celsius",
        metric="temperature_celsius",
        queries=(Query(f'topk(10, {GPU}temperature_celsius{{{_OF},sensor="gpu"}})'),),
    ),
    Panel(
        title="GPUs that answer",
        unit="short",
        queries=(Query(f"sum by (vendor) ({GPU}up{{{_OF}}})", "{{vendor}}"),),
        kind="stat",
    ),
    Panel(
        title="Allocations per minute",
        unit="short",
        queries=(
            Query(
                f"60 * sum by (resource) (rate(deviceplugin_allocations_total{{{_OF}}}[5m]))",
                "{{resource}}",
            ),
        ),
    ),
)
_DETAILS: Sequence[Panel] = (
    Panel(
        title="Utilisation by engine",
        unit="percentunit",
        metric="utilization_ratio",
        queries=(Query(f"{GPU}utilization_ratio{{{_ONE}}}", f"{LEGEND} {{{{engine}}}}"),),
    ),
    Panel(
        title="Memory",
        unit="bytes",
        metric="memory_used_bytes",
        queries=(
            Query(f"{GPU}memory_used_bytes{{{_ONE}}}", f"{LEGEND} used"),
            Query(f"{GPU}memory_total_bytes{{{_ONE}}}", f"{LEGEND} total"),
        ),
    ),
    Panel(
        title="Temperatures",
        unit="celsius",
        metric="temperature_celsius",
        queries=(Query(f"{GPU}temperature_celsius{{{_ONE}}}", f"{LEGEND} {{{{sensor}}}}"),),
    ),
    Panel(
        title="Power and its limit",
        unit="watt",
        metric="power_watts",
        queries=(
            Query(f"{GPU}power_watts{{{_ONE}}}"),
            Query(f"{GPU}power_limit_watts{{{_ONE}}}", f"{LEGEND} limit"),
        ),
    ),
    Panel(
        title="Clocks",
        unit="hertz",
        metric="clock_hertz",
        queries=(Query(f"{GPU}clock_hertz{{{_ONE}}}", f"{LEGEND} {{{{clock}}}}"),),
    ),
    Panel(
        title="Held down by",
        unit="short",
        metric="throttled",
        queries=(Query(f"{GPU}throttled{{{_ONE}}} == 1 or vector(0)", f"{LEGEND} {{{{reason}}}}"),),
    ),
    Panel(
        title="Memory errors per hour",
        unit="short",
        metric="ecc_errors_total",
        queries=(
            Query(f"3600 * rate({GPU}ecc_errors_total{{{_ONE}}}[5m])", f"{LEGEND} {{{{kind}}}}"),
        ),
    ),
    Panel(
        title="Age of readings",
        unit="s",
        metric="reading_age_seconds",
        queries=(Query(f"{GPU}reading_age_seconds{{{_ONE}}}"),),
    ),
)
BOARDS: Mapping[str, tuple[str, Sequence[Panel]]] = {
    "gpu_overview": ("GPUs: overview", _OVERVIEW),
    "gpu_details": ("GPUs: details", _DETAILS),
    "gpu_scheduler": ("GPUs: scheduler", SCHEDULER),
}


def dashboard(name: str, refresh: str = "", metrics: frozenset[str] = frozenset()) -> Document:
    """A dashboard to import; with `metrics` only the panels that are about one of these, and those
    about no metric of GPUs."""
    title, all_panels = BOARDS[name]
    panels = [p for p in all_panels if not metrics or not p.metric or p.metric in metrics]
    return {
        "uid": f"deviceplugin-{name.replace('_', '-')}",
        "title": title,
        "tags": ["gpu", "deviceplugin"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": refresh or REFRESH[name],
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables(name))},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _variables(board: str) -> Sequence[Document]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}
    if board == "gpu_scheduler":
        query = "label_values(deviceplugin_scheduler_objects, instance)"
        return (source, _choice("instance", query, "Replica"))
    nodes = _choice("instance", "label_values(deviceplugin_devices, instance)", "Node")
    if board == "gpu_overview":
        return (source, nodes)
    query = f'label_values({GPU}up{{instance=~"$instance"}}, uuid)'
    return (source, nodes, _choice("uuid", query, "Device"))


def _choice(name: str, query: str, label: str) -> Document:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _panel(number: int, panel: Panel) -> Document:
    return {
        "id": number + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": {
            "x": (number % 2) * _WIDTH,
            "y": number // 2 * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}}
        if panel.kind == "timeseries"
        else {"reduceOptions": {"calcs": ["lastNotNull"]}},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
            }
            for place, query in enumerate(panel.queries)
        ],
    }
