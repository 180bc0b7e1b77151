"""The last minutes, and what of them a pod had; pure."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from deviceplugin.model import DeviceID
from deviceplugin.profiling.figures import METRICS, UNITS, Figures, figures_of
from deviceplugin.telemetry.model import Owner, TelemetryView

KEPT_S = 300.0
MAX_ROUNDS = 300
_TOTALS = frozenset({"kernel_execution_time", "memory_transfer_time"})
Document = dict[str, Any]
Held = tuple[Owner, str, DeviceID, float | None]


class Round(Struct, frozen=True, kw_only=True):
    """What one round brought: figures of each GPU, and the containers that held it, with the
    resource and which part of it they were given. `window_s` is the time since the round before."""

    at: float
    window_s: float
    figures: Mapping[DeviceID, Figures]
    held: tuple[Held, ...]


class Ring:
    """The rounds of the last KEPT_S seconds."""

    def __init__(self) -> None:
        self._rounds: deque[Round] = deque(maxlen=MAX_ROUNDS)

    def add(self, view: TelemetryView, at: float) -> Round:
        """One more; the first one stands for an interval, as no other is."""
        last = self._rounds[-1].at if self._rounds else at - view.interval_s
        window_s = min(max(at - last, 0.0), 2 * view.interval_s)
        made = _round(view, at, window_s)
        self._rounds.append(made)
        while self._rounds[0].at < at - KEPT_S:
            self._rounds.popleft()
        return made

    def last(self, seconds: float) -> Sequence[Round]:
        """The rounds of the last seconds before the newest, oldest first."""
        if not self._rounds:
            return ()
        since = self._rounds[-1].at - seconds
        return [one for one in self._rounds if one.at > since]


def _round(view: TelemetryView, at: float, window_s: float) -> Round:
    held = tuple(
        (owner, resource, device, dict(one.shares).get(owner))
        for device, one in view.devices.items()
        for owner, resource in one.holders
    )
    figures = {device: figures_of(one, window_s) for device, one in view.devices.items()}
    return Round(at=at, window_s=window_s, figures=figures, held=held)


def profile_of(rounds: Sequence[Round], pod: str, metrics: Sequence[str]) -> Document:
    """What the GPUs of a pod (`NAME` or `NAMESPACE/NAME`) did, of each container and device."""
    found: dict[tuple[Owner, DeviceID], list[tuple[Round, Held]]] = {}
    for one in rounds:
        for held in one.held:
            if _is(held[0], pod):
                found.setdefault((held[0], held[2]), []).append((one, held))
    return {
        "format": 1,
        "pod": pod,
        "rounds": len(rounds),
        "window_s": round(sum(one.window_s for one in rounds), 3),
        "containers": [_used(key, used, metrics) for key, used in sorted(found.items())],
    }


def _is(owner: Owner, pod: str) -> bool:
    return pod in (owner.pod, f"{owner.namespace}/{owner.pod}")


def _used(
    key: tuple[Owner, DeviceID], used: Sequence[tuple[Round, Held]], metrics: Sequence[str]
) -> Document:
    owner, device = key
    others = {held[0] for one, _ in used for held in one.held if held[2] == device} - {owner}
    rounds = [one for one, _ in used]
    return {
        "namespace": owner.namespace,
        "pod": owner.pod,
        "container": owner.container,
        "device": device,
        "resource": used[-1][1][1],
        "share": used[-1][1][3],
        "shared_with": len(others),  # the figures are of the whole device
        "window_s": round(sum(one.window_s for one in rounds), 3),
        "metrics": dict(_summaries(rounds, device, metrics)),
    }


def _summaries(
    rounds: Sequence[Round], device: DeviceID, metrics: Sequence[str]
) -> Iterator[tuple[str, Document]]:
    for name in metrics or METRICS:
        known = [f[name] for one in rounds if (f := one.figures.get(device)) is not None]
        values = [figure.value for figure in known if figure.value is not None]
        summary: Document = {"unit": UNITS[name], "samples": len(values)}
        if values and name in _TOTALS:
            summary |= {"total": sum(values)}
        elif values:
            mean = sum(values) / len(values)
            summary |= {"mean": mean, "low": min(values), "high": max(values)}
        else:
            reason = known[-1].reason if known else "the device was not measured"
            summary |= {"value": None, "reason": reason}
        yield name, summary


def lines_of(one: Round, metrics: Sequence[str], pods: bool) -> Iterator[Document]:
    """A round as it is written: a document for each device, with names of pods where `pods`."""
    for device, figures in one.figures.items():
        shown = {name: figures[name] for name in metrics or METRICS}
        line: Document = {
            "time": one.at,
            "window_s": round(one.window_s, 3),
            "device": device,
            **{name: figure.value for name, figure in shown.items()},
        }
        if why := {name: f.reason for name, f in shown.items() if f.value is None}:
            line["unknown"] = why
        if pods:
            who = [owner for owner, _, held, _ in one.held if held == device]
            line["held_by"] = [f"{o.namespace}/{o.pod}/{o.container}" for o in who]
        yield line
