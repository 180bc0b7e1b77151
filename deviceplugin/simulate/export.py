"""A cluster as a trace: what kube-state-metrics told a Prometheus of nodes and pods; pure."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from deviceplugin.metrics.reply import Sample, StoreError, parse_instant, parse_range
from deviceplugin.scheduler.demand import WHOLE, Demand
from deviceplugin.scheduler.objects import Reading, gpus_of
from deviceplugin.scheduler.room import NodeState

NODES = "max_over_time(kube_node_status_allocatable[{w}])"
PODS = "max_over_time(kube_pod_container_resource_requests[{w}])"
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
    asked = _summed(samples, ("namespace", "pod"))
    return [_demand(amounts, reading) for _, amounts in sorted(asked.items())]


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
