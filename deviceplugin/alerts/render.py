"""Rules and monitors as documents for Prometheus and its operator; pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from deviceplugin.alerts.condition import parse_condition, unmeasured
from deviceplugin.alerts.defaults import Rule, default_rules
from deviceplugin.alerts.section import AlertSection

Document = dict[str, Any]
_LABELS = {"app.kubernetes.io/name": "deviceplugin"}
PORT = "metrics"
INTERVAL_S = 30


def rule_groups(alerts: Iterable[AlertSection], interval_s: float) -> Document:
    """A rule file: the rules for all, and those of the section `monitoring`."""
    groups = [{"name": "deviceplugin", "rules": [_rule(r) for r in default_rules(interval_s)]}]
    own = [_rule(rule) for rule in rules_of(alerts)]
    if own:
        groups.append({"name": "deviceplugin-monitoring", "rules": own})
    return {"groups": groups}


def rules_of(alerts: Iterable[AlertSection]) -> Sequence[Rule]:
    """The section's alerts; those that nobody can judge are left out."""
    return [
        Rule(
            name=alert.name,
            expr=parse_condition(alert.condition).query(),
            duration=alert.duration,
            severity=alert.severity,
            summary=f"{alert.condition} on {{{{ $labels.uuid }}}}",
            action="this alert is of the section monitoring of the configuration",
        )
        for alert in alerts
        if not unmeasured(alert.condition)
    ]


def _rule(rule: Rule) -> Document:
    return {
        "alert": rule.name,
        "expr": rule.expr,
        "for": rule.duration,
        "labels": {"severity": rule.severity},
        "annotations": {"summary": rule.summary, "description": rule.action},
    }


def prometheus_rule(groups: Document) -> Document:
    """The same for Prometheus' operator."""
    return _monitor("PrometheusRule", groups)


def pod_monitor() -> Document:
    """What the operator scrapes: each pod of the DaemonSet."""
    selector = {"selector": {"matchLabels": _LABELS}}
    return _monitor("PodMonitor", {**selector, "podMetricsEndpoints": [_endpoint("pod")]})


def service() -> Document:
    """A Service without an address, for who scrapes Services."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "deviceplugin", "namespace": "kube-system", "labels": _LABELS},
        "spec": {
            "clusterIP": "None",
            "selector": _LABELS,
            "ports": [{"name": PORT, "port": 9440, "targetPort": PORT}],
        },
    }


def service_monitor() -> Document:
    """What the operator scrapes through the Service."""
    selector = {"selector": {"matchLabels": _LABELS}}
    return _monitor("ServiceMonitor", {**selector, "endpoints": [_endpoint("pod")]})


def _endpoint(role: str) -> Document:
    node = {"sourceLabels": [f"__meta_kubernetes_{role}_node_name"], "targetLabel": "node"}
    return {
        "port": PORT,
        "interval": f"{INTERVAL_S}s",
        "honorLabels": True,
        "relabelings": [node],
    }


def _monitor(kind: str, spec: Document) -> Document:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind,
        "metadata": {"name": "deviceplugin", "namespace": "kube-system", "labels": _LABELS},
        "spec": spec,
    }


def scrape_config() -> Document:
    """For a Prometheus without the operator, in the cluster. The labels of series are kept: `pod`
    is who holds a GPU there, never the daemon's own."""
    pod = "__meta_kubernetes_pod"
    keep = [
        {"source_labels": [f"{pod}_label_app_kubernetes_io_name"], "regex": "deviceplugin"},
        {"source_labels": [f"{pod}_container_port_name"], "regex": PORT},
    ]
    relabel = [{"action": "keep", **one} for one in keep]
    node = {"source_labels": [f"{pod}_node_name"], "target_label": "node"}
    job = {
        "job_name": "deviceplugin",
        "honor_labels": True,
        "scrape_interval": f"{INTERVAL_S}s",
        "kubernetes_sd_configs": [{"role": "pod"}],
        "relabel_configs": [*relabel, node],
    }
    return {"scrape_configs": [job]}
