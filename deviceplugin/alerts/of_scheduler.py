"""The panels about the extender of kube-scheduler; pure."""

from collections.abc import Sequence

from deviceplugin.alerts.panel import Panel, Query

_NAME = "deviceplugin_scheduler_"
_OF = 'instance=~"$instance"'


def _rates(title: str, metric: str, label: str) -> Panel:
    """How often a counter rises in a minute, by a label."""
    expr = f"60 * sum by ({label}) (rate({_NAME}{metric}{{{_OF}}}[5m]))"
    return Panel(title=title, unit="short", queries=(Query(expr, f"{{{{{label}}}}}"),))


def _quantile(part: float) -> Query:
    series = f"rate({_NAME}request_seconds_bucket{{{_OF}}}[5m])"
    legend = f"{{{{verb}}}} p{round(100 * part)}"
    return Query(f"histogram_quantile({part}, sum by (le, verb) ({series}))", legend)


# Each replica knows the whole cluster: their largest figure is one that is up to date.
def _whole(expr: str, legend: str) -> Query:
    return Query(f"max by (kind) ({_NAME}{expr})", legend)


SCHEDULER: Sequence[Panel] = (
    Panel(
        title="GPUs",
        unit="short",
        queries=(_whole(f"gpus{{{_OF}}}", "{{kind}}"),),
    ),
    Panel(
        title="Free GPUs that the expected pods cannot use, of all",
        unit="percentunit",
        queries=(
            Query(
                f'max({_NAME}gpus{{{_OF},kind="fragment"}})'
                f' / max({_NAME}gpus{{{_OF},kind="capacity"}})',
                "",
            ),
        ),
        kind="stat",
    ),
    _rates("Decisions per minute", "decisions_total", "path"),
    _rates(
        "Pods with GPUs that got a node, by whether the replica was asked",
        "bindings_total",
        "asked",
    ),
    Panel(title="How long a call takes", unit="s", queries=(_quantile(0.5), _quantile(0.99))),
    _rates("Calls per minute", "requests_total", "outcome"),
    _rates("Who ordered the nodes, per minute", "orders_total", "by"),
    Panel(
        title="The model's error, and that of the rolling median (factor)",
        unit="short",
        queries=(_whole(f'model{{{_OF},kind=~"factor|rolling_factor"}}', "{{kind}}"),),
    ),
    Panel(
        title="Why the model does not speak",
        unit="short",
        queries=(Query(f"max by (reason) ({_NAME}model_silent{{{_OF}}})", "{{reason}}"),),
    ),
    Panel(
        title="Known",
        unit="short",
        queries=(_whole(f"objects{{{_OF}}}", "{{kind}}"),),
    ),
    Panel(
        title="Since the API server was last heard, of the replica that hears least",
        unit="s",
        queries=(_whole(f"watch_age_seconds{{{_OF}}}", "{{kind}}"),),
    ),
)
