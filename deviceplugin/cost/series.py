"""From series of a store of metrics to a history; pure.

QUERIES are what is asked of the store for every hour, at its end; `history_of` puts the answers
together. Names are those of docs/metrics.md, and of kube-state-metrics for owners and teams.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from deviceplugin.cost.history import Cell, Device, Grant, History, Readings
from deviceplugin.metrics.reply import Series

STEP_S = 3600.0
_GPU = "deviceplugin_gpu_"
_HASH = re.compile(r"-[a-z0-9]{6,10}$")
_SHARE = f"sum_over_time({_GPU}pod_allocated_ratio[1h])"
_PRESENT = f"count_over_time({_GPU}up[1h])"


def _mean(name: str) -> str:
    return f"max by (uuid) (avg_over_time({_GPU}{name}[1h]))"


# A share is weighted by the part of the hour in which the pod was there.
QUERIES: Mapping[str, str] = {
    "up": f"avg_over_time({_GPU}up[1h])",
    "info": f"max_over_time({_GPU}info[1h])",
    "memory_total": f"max by (uuid) (max_over_time({_GPU}memory_total_bytes[1h]))",
    "unhealthy": 'avg_over_time(deviceplugin_device_condition{condition="unhealthy"}[1h])',
    "share": f"{_SHARE} / on (uuid) group_left () max by (uuid) ({_PRESENT})",
    "pod_active": f"avg_over_time({_GPU}pod_utilization_ratio[1h])",
    "pod_memory": f"max_over_time({_GPU}pod_memory_used_bytes[1h])",
    "active": _mean('utilization_ratio{engine="compute"}'),
    "copying": _mean('utilization_ratio{engine="memory"}'),
    "memory": f"max by (uuid) (max_over_time({_GPU}memory_used_bytes[1h]))",
    "energy": f"max by (uuid) (increase({_GPU}energy_joules_total[1h]))",
    "power": _mean("power_watts"),
    "power_limit": _mean("power_limit_watts"),
    "clock": _mean('clock_hertz{clock=~"sm|graphics"}'),
    "temperature": _mean('temperature_celsius{sensor="gpu"}'),
    "throttled": _mean("throttled"),
    "owner": "max_over_time(kube_pod_owner[1h])",
    "labels": "max_over_time(kube_pod_labels[1h])",
}
NEEDED = ("up", "share")


Answers = Mapping[str, Sequence[Series]]
Who = tuple[str, str, str]


def history_of(answers: Answers, team_label: str = "team") -> History:
    """The history that answers to QUERIES tell; what has no answer was not measured."""
    return _Made(answers, team_label).history()


class _Made:
    """Answers by what they are about."""

    def __init__(self, answers: Answers, team_label: str) -> None:
        self._answers = answers
        self._by_uuid = {
            name: {one.labels.get("uuid", ""): one.values for one in found}
            for name, found in answers.items()
        }
        self._of_pods = {
            name: {(one.labels.get("uuid", ""), *_who(one.labels)): one.values for one in found}
            for name, found in answers.items()
            if name in ("pod_active", "pod_memory")
        }
        self._owners = dict(_owners(answers.get("owner", ())))
        self._teams = {
            _who(one.labels)[:2]: one.labels.get(f"label_{_label(team_label)}", "")
            for one in answers.get("labels", ())
        }
        self._unhealthy = {
            one.labels.get("device", ""): one.values for one in answers.get("unhealthy", ())
        }

    def history(self) -> History:
        devices = {one.id: one for one in self._devices()}
        grants: dict[tuple[str, float], list[tuple[Who, float]]] = {}
        for one in self._answers.get("share", ()):
            for at, share in one.values.items():
                if share > 0:
                    key = (one.labels.get("uuid", ""), at)
                    grants.setdefault(key, []).append((_who(one.labels), min(1.0, share)))
        cells = [
            self._cell(device, at, up, grants.get((device, at), ()))
            for device in devices
            for at, up in sorted(self._ups(device).items())
        ]
        return History(devices=devices, cells=tuple(cells))

    def _ups(self, device: str) -> Mapping[float, float]:
        """One device may have several series: its pod is a label of the metric."""
        found: dict[float, float] = {}
        for one in self._answers.get("up", ()):
            if one.labels.get("uuid") == device:
                for at, up in one.values.items():
                    found[at] = max(found.get(at, 0.0), up)
        return found

    def _devices(self) -> Iterator[Device]:
        infos = {one.labels.get("uuid", ""): one.labels for one in self._answers.get("info", ())}
        memory = self._by_uuid.get("memory_total", {})
        seen: set[str] = set()
        for one in self._answers.get("up", ()):
            name = one.labels.get("uuid", "")
            if name and name not in seen:
                seen.add(name)
                info = infos.get(name, {})
                size = max(memory.get(name, {}).values(), default=None)
                yield Device(
                    id=name,
                    node=one.labels.get("node") or one.labels.get("instance", ""),
                    vendor=one.labels.get("vendor", ""),
                    model=one.labels.get("model", ""),
                    parent=info.get("parent", ""),
                    profile=info.get("profile", ""),
                    memory_bytes=None if size is None else round(size),
                )

    def _cell(self, device: str, at: float, up: float, held: Iterable[tuple[Who, float]]) -> Cell:
        held = sorted(held)
        ill = self._unhealthy.get(device, {}).get(at, 0.0)
        return Cell(
            device=device,
            start=at - STEP_S,
            seconds=STEP_S,
            healthy=up >= 0.5 and ill < 0.5,
            grants=tuple(self._grant(device, at, one, alone=len(held) == 1) for one in held),
            readings=Readings(
                energy_joules=self._value("energy", device, at),
                power_watts=self._value("power", device, at),
                power_limit_watts=self._value("power_limit", device, at),
                clock_hertz=self._value("clock", device, at),
                temperature_celsius=self._value("temperature", device, at),
                throttled=self._value("throttled", device, at),
            ),
        )

    def _grant(self, device: str, at: float, one: tuple[Who, float], *, alone: bool) -> Grant:
        """Of a container that has a device alone what the device did is what it did."""
        who, share = one
        active = self._of_pods.get("pod_active", {}).get((device, *who), {}).get(at)
        memory = self._of_pods.get("pod_memory", {}).get((device, *who), {}).get(at)
        if alone:
            active = self._value("active", device, at) if active is None else active
            memory = self._value("memory", device, at) if memory is None else memory
        return Grant(
            namespace=who[0],
            pod=who[1],
            container=who[2],
            owner=self._owners.get(who[:2], ""),
            team=self._teams.get(who[:2], ""),
            share=share,
            active=None if active is None else min(1.0, active),
            copying=self._value("copying", device, at) if alone else None,
            memory_bytes=None if memory is None else round(memory),
        )

    def _value(self, name: str, device: str, at: float) -> float | None:
        return self._by_uuid.get(name, {}).get(device, {}).get(at)


def _who(labels: Mapping[str, str]) -> Who:
    """The pod of a series; a scrape without honorLabels has put `exported_` before its names."""

    def label(name: str) -> str:
        return labels.get(f"exported_{name}") or labels.get(name, "")

    return label("namespace"), label("pod"), label("container")


def _owners(found: Iterable[Series]) -> Iterator[tuple[tuple[str, str], str]]:
    """The owner of each pod; of a ReplicaSet the Deployment, whose name it has and a hash."""
    for one in found:
        name = one.labels.get("owner_name", "")
        if one.labels.get("owner_kind") == "ReplicaSet":
            name = _HASH.sub("", name)
        if name and name != "<none>":
            yield _who(one.labels)[:2], name


def _label(name: str) -> str:
    """A label's name as kube-state-metrics writes it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)
