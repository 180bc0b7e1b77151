"""Runs as the fleet's Prometheus has them: kube-state-metrics for when and whose, the daemons for
what was used. Blocks; it is called on a thread."""

import contextlib
import http.client
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from deviceplugin.errors import DevicePluginError
from deviceplugin.learning.runs import Run, owner_name
from deviceplugin.names import one_line

TIMEOUT_S = 60.0
MAX_BYTES = 64 << 20
GONE_S = 900.0  # a pod that nobody has seen for so long has ended
MAX_RUNS = 200_000
_GPUS = 'resource=~"nvidia_com_.*|amd_com_.*|gpu_intel_com_.*"'
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
Sample = tuple[Mapping[str, str], float]
Ask = Callable[[str], list[Sample]]
PodName = tuple[str, str]


class PrometheusError(DevicePluginError):
    """Prometheus did not answer, or not as it should."""


class Prometheus:
    """The HTTP API below a URL such as `http://prometheus.monitoring:9090`."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for what is no URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("http://HOST:PORT or https://HOST:PORT")
        self._host, self._port, self._tls = parts.hostname, parts.port, parts.scheme == "https"
        self._path = f"{parts.path.rstrip('/')}/api/v1/query"

    def __call__(self, query: str) -> list[Sample]:
        """The samples of an instant query; raises PrometheusError."""
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        try:
            with contextlib.closing(kind(self._host, self._port, timeout=TIMEOUT_S)) as connection:
                form = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", self._path, urlencode({"query": query}), form)
                answer = connection.getresponse()
                content = answer.read(MAX_BYTES)
            return list(_samples(json.loads(content)))
        except (OSError, http.client.HTTPException, ValueError) as error:
            text = one_line(f"{self._host}{self._path}: {query[:80]}: {error}")
            raise PrometheusError(text) from error


def _samples(document: Any) -> Iterator[Sample]:  # Any: whatever the server says
    if not isinstance(document, dict) or document.get("status") != "success":
        told = document.get("error") if isinstance(document, dict) else None
        raise ValueError(f"no result: {str(told)[:200]}")
    try:
        for one in document["data"]["result"]:
            value = float(one["value"][1])
            if math.isfinite(value):
                yield dict(one["metric"]), value
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError("the answer is no vector of samples") from error


def read_runs(ask: Ask, now: float, retention_s: float) -> list[Run]:
    """The runs with GPUs that have ended; raises PrometheusError."""
    window = f"{max(1, round(retention_s / 60))}m"
    found = {name: ask(query.format(w=window)) for name, query in QUERIES.items()}
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
