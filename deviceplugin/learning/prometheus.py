"""Runs as the fleet's Prometheus has them: kube-state-metrics for when and whose, the daemons for
what was used; pure but for whom it asks."""

from collections.abc import Callable, Iterable, Mapping

from deviceplugin.learning.runs import Run, owner_name
from deviceplugin.metrics.reply import Sample

GONE_S = 900.0  # a pod that nobody has seen for so long has ended
MAX_RUNS = 200_000
_GPUS = 'resource=~"(nvidia|amd|intel|gpu_intel)_com_.*"'
_ENGINE = 'engine="compute"'
# By what they are of, over the window `w`; a pod's last sample is the end of one that was deleted.
QUERIES: Mapping[str, str] = {
    "start": "last_over_time(kube_pod_start_time[{w}])",
    "completion": "last_over_time(kube_pod_completion_time[{w}])",
    "seen": "max_over_time(timestamp(kube_pod_start_time)[{w}:5m])",
    "owner": "last_over_time(kube_pod_owner[{w}])",
    "asked": f"max_over_time(kube_pod_container_resource_requests{{{{{_GPUS}}}}}[{{w}}])",
    "memory": 'max_over_time(deviceplugin_gpu_memory_used_bytes{{pod!=""}}[{w}])',
    "busy": f'quantile_over_time(0.9, deviceplugin_gpu_utilization_ratio{{{{pod!="",{_ENGINE}}}}}'
    "[{w}])",
}
Ask = Callable[[str], Iterable[Sample]]
PodName = tuple[str, str]


def read_runs(ask: Ask, now: float, retention_s: float) -> list[Run]:
    """The runs with GPUs that have ended; raises StoreError."""
    window = f"{max(1, round(retention_s / 60))}m"
    found = {name: list(ask(query.format(w=window))) for name, query in QUERIES.items()}
    start, completion, seen = (_by_pod(found[of]) for of in ("start", "completion", "seen"))
    owners = {_pod(labels): labels for labels, _ in found["owner"]}
    memory, busy = _by_container(found["memory"]), _by_container(found["busy"])
    runs = []
    for labels, _ in found["asked"][:MAX_RUNS]:
        pod, container = _pod(labels), labels.get("container", "")
        begun, ended = start.get(pod), completion.get(pod, _gone(seen.get(pod, now), now))
        if begun is None or ended is None or ended < begun:
            continue
        owner, peak = owners.get(pod, {}), memory.get((*pod, container))
        runs.append(
            Run(
                namespace=pod[0],
                owner=owner_name(owner.get("owner_kind", ""), owner.get("owner_name") or pod[1]),
                container=container,
                start=begun,
                seconds=max(1.0, ended - begun),
                peak_mib=None if peak is None else peak / (1 << 20),
                busy_ratio=busy.get((*pod, container)),
            )
        )
    return runs


def _gone(seen: float, now: float) -> float | None:
    return seen if now - seen > GONE_S else None


def _pod(labels: Mapping[str, str]) -> PodName:
    return labels.get("namespace", ""), labels.get("pod", "")


def _by_pod(samples: list[Sample]) -> dict[PodName, float]:
    return {_pod(labels): value for labels, value in samples}


def _by_container(samples: list[Sample]) -> dict[tuple[str, str, str], float]:
    """The most of a container's GPUs."""
    found: dict[tuple[str, str, str], float] = {}
    for labels, value in samples:
        key = (*_pod(labels), labels.get("container", ""))
        found[key] = max(value, found.get(key, value))
    return found
