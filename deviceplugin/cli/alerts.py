"""The command `alerts render`: rules and dashboards as documents."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import click
import yaml

from deviceplugin.alerts.condition import QUANTITIES
from deviceplugin.alerts.dashboards import dashboard
from deviceplugin.alerts.render import (
    pod_monitor,
    prometheus_rule,
    rule_groups,
    scrape_config,
    service,
    service_monitor,
)
from deviceplugin.alerts.section import MonitoringSection, monitoring_section

Document = dict[str, Any]
INTERVAL_S = 10.0  # between two rounds of samples, by default


def _board(name: str) -> Callable[[MonitoringSection, float], str]:
    def render(section: MonitoringSection, _: float) -> str:
        refresh: dict[str, str] = {one.name: one.refresh for one in section.dashboards}
        shown = frozenset(QUANTITIES[m].metric for m in section.metrics if m in QUANTITIES)
        return json.dumps(dashboard(name, refresh.get(name, ""), shown), indent=2) + "\n"

    return render


def _yaml(document: Document) -> str:
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, width=100)


class _Plain(yaml.SafeDumper):
    """Without anchors: not every reader of manifests likes them."""

    def ignore_aliases(self, data: object) -> bool:
        """Whatever it is, it is written again."""
        return True


RENDERERS: Mapping[str, Callable[[MonitoringSection, float], str]] = {
    "rules": lambda section, interval_s: _yaml(rule_groups(section.alerts, interval_s)),
    "prometheusrule": lambda section, interval_s: _yaml(
        prometheus_rule(rule_groups(section.alerts, interval_s))
    ),
    "podmonitor": lambda *_: _yaml(pod_monitor()),
    "service": lambda *_: _yaml(service()),
    "servicemonitor": lambda *_: _yaml(service_monitor()),
    "scrape": lambda *_: _yaml(scrape_config()),
    "gpu_overview": _board("gpu_overview"),
    "gpu_details": _board("gpu_details"),
    "gpu_scheduler": _board("gpu_scheduler"),
}


def render(what: str, sections: Mapping[str, Any]) -> None:
    """Print a document of the configuration."""
    interval_s = getattr(sections.get("telemetry"), "interval_s", INTERVAL_S)
    click.echo(RENDERERS[what](monitoring_section(sections), interval_s), nl=False)
