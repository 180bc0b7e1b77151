"""A cluster as a trace: what kube-state-metrics told a Prometheus of nodes and pods; pure."""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from deviceplugin.metrics.reply import Sample, Series, StoreError, parse_instant, parse_range
from deviceplugin.scheduler.demand import WHOLE, Demand
from deviceplugin.scheduler.objects import Reading, gpus_of
from deviceplugin.scheduler.room import NodeState
from deviceplugin.simulate.coming import Coming, pending

NODES = "max_over_time(kube_node_status_allocatable[{w}])"
PODS = "max_over_time(kube_pod_container_resource_requests[{w}])"
# Of pods with times: a pod's last sample is the end of one that was deleted.
TIMES: Mapping[str, str] = {
    "created": "last_over_time(kube_pod_created[{w}])",
    "start": "last_over_time(kube_pod_start_time[{w}])",
    "completion": "last_over_time(kube_pod_completion_time[{w}])",
    "seen": "max_over_time(timestamp(kube_pod_created)[{w}:5m])",
}
GONE_S = 900.0  # a pod that nobody has seen for so long before the last sample of all has left
Ask = Callable[[str], Iterable[Sample]]
Spans = Mapping[str, tuple[float, float, float | None]]  # by pod: created, started, ended
_POD = ("namespace", "pod")
Amounts = dict[str, dict[str, float]]


def samples_of(content: bytes) -> Sequence[Sample]:
    """The samples of an answer of query, or of query_range, of whose series the largest value;
    raises StoreError."""
    try:
        return parse_instant(content)
    except StoreError:
        series = parse_range(content)
    return [(one.labels, max(one.values.values())) for one in series if one.values]


def exported_nodes(samples: Iterable[Sample], reading: Reading) -> Sequence[NodeState]:
    """The nodes; their GPUs' models are not among what is asked for."""
    given = _summed(samples, ("node",))
    nodes = []
    for name, amounts in sorted(given.items()):
        whole, shared = _gpus(amounts, reading)
        nodes.append(
            NodeState(
                name=name,
                model="",
                cpu_milli=math.floor(1000 * amounts.get("cpu", 0)),
                memory_mib=math.floor(amounts.get("memory", 0) / (1 << 20)),
                free=[WHOLE] * max(whole, shared // WHOLE),
            )
        )
    return nodes


def exported_pods(samples: Iterable[Sample], reading: Reading) -> Sequence[Demand]:
    """What the pods asked for, by name."""
    asked = _summed(samples, _POD)
    return [_demand(amounts, reading) for _, amounts in sorted(asked.items())]


def spans_asked(ask: Ask, window: str) -> Spans:
    """When each pod came, started and ended; raises StoreError."""
    found = {of: _by_pod(ask(query.format(w=window))) for of, query in TIMES.items()}
    created, start, seen = found["created"], found["start"], found["seen"]
    now = max(seen.values(), default=0.0)
    ends = {pod: at for pod, at in seen.items() if now - at > GONE_S} | found["completion"]
    return {pod: (at, start.get(pod, at), ends.get(pod)) for pod, at in created.items()}


def spans_seen(series: Sequence[Series]) -> Spans:
    """The same of an answer of query_range: a pod is there from its first sample to its last. It
    stays if that is the last of all, but for a sample."""
    moments = sorted({at for one in series for at in one.values})
    if not moments:
        return {}
    step = min((b - a for a, b in itertools.pairwise(moments)), default=0.0)
    spans: dict[str, tuple[float, float]] = {}
    for one in series:
        name = "/".join(one.labels.get(label, "") for label in _POD)
        if one.values and name.strip("/"):
            first, last = spans.get(name, (math.inf, -math.inf))
            spans[name] = min(first, *one.values), max(last, *one.values)
    until = moments[-1] - step
    return {
        n: (first, first, None if last >= until else last) for n, (first, last) in spans.items()
    }


def exported_coming(samples: Iterable[Sample], spans: Spans, reading: Reading) -> Sequence[Coming]:
    """The pods with their times; one of which no time is known is left out. Raises ValueError."""
    asked, found = _summed(samples, _POD), []
    for name, (at, start, end) in sorted(spans.items()):
        if name not in asked:
            continue
        if not 0 <= at <= start or (end is not None and end < start):
            raise ValueError(f"pod {name}: made {at:.0f}, started {start:.0f}, ended {end}")
        namespace, _, pod = name.partition("/")
        found.append(
            Coming(
                at=at,
                pod=pending((namespace, pod), at),
                demand=_demand(asked[name], reading),
                seconds=None if end is None else end - start,
            )
        )
    return found


def _by_pod(samples: Iterable[Sample]) -> dict[str, float]:
    return {"/".join(labels.get(one, "") for one in _POD): value for labels, value in samples}


def _demand(amounts: Mapping[str, float], reading: Reading) -> Demand:
    gpus, milli = gpus_of(*_gpus(amounts, reading))
    return Demand(
        cpu_milli=math.ceil(1000 * amounts.get("cpu", 0)),
        memory_mib=math.ceil(amounts.get("memory", 0) / (1 << 20)),
        gpus=gpus,
        gpu_milli=milli,
    )


def _gpus(amounts: Mapping[str, float], reading: Reading) -> tuple[int, int]:
    """Whole GPUs, and thousandths of shared ones."""
    whole = sum(int(amounts.get(_told(name), 0)) for name in reading.gpus)
    shared = sum(int(amounts.get(_told(n), 0)) * milli for n, milli in reading.shares.items())
    return whole, shared


def _told(resource: str) -> str:
    """The name as kube-state-metrics has it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", resource)


def _summed(samples: Iterable[Sample], names: Sequence[str]) -> Amounts:
    """By what the labels name, and by resource: the sum over containers."""
    found: Amounts = {}
    for labels, value in samples:
        of, resource = "/".join(labels.get(name, "") for name in names), labels.get("resource", "")
        if of.strip("/") and resource:
            amounts = found.setdefault(of, {})
            amounts[resource] = amounts.get(resource, 0.0) + value
    return found
