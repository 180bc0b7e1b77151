"""From answers of vendors to the view that everybody reads; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.model import Device, DeviceID, Resource, ResourceName
from deviceplugin.telemetry.around import Held
from deviceplugin.telemetry.catalogue import METRICS
from deviceplugin.telemetry.model import (
    DeviceView,
    Labels,
    Owner,
    ProcessUse,
    Reading,
    TelemetryView,
)
from deviceplugin.vendor import Measured, Sample

MAX_READINGS = 250  # of one device; the largest GPU has about 60
MAX_HOLDERS = 256
MAX_GONE = 64
STALE_ROUNDS = 3  # for so many rounds what a silent device said last is kept, with its age
_MAX_LABEL = 60

Holders = Mapping[DeviceID, tuple[tuple[Owner, ResourceName], ...]]
Shares = Mapping[DeviceID, tuple[tuple[Owner, float], ...]]


class Answer(Struct, frozen=True):
    """What a round brought of one device: `hangs` where it gave nothing in time."""

    up: bool
    measured: tuple[Measured, ...] = ()
    hangs: bool = False


def checked(
    group: Sequence[Device], sample: Sample
) -> tuple[Mapping[DeviceID, Answer], frozenset[str]]:
    """The answer of each device of a GPU, and the metrics that nobody knows; what is no finite
    number of one of these devices is left out."""
    found: dict[DeviceID, dict[tuple[str, object], Measured]] = {d.id: {} for d in group}
    strange = set()
    for one in sample.measured:
        metric = METRICS.get(one.metric)
        if metric is None or tuple(name for name, _ in one.labels) != metric.labels:
            strange.add(f"{one.metric}{[name for name, _ in one.labels]}")
        elif one.device in found and isfinite(one.value) and _is_short(one):
            found[one.device][one.metric, one.labels] = one
    lost = set(sample.lost)
    answers = {
        device: Answer(up=device not in lost, measured=tuple(values.values())[:MAX_READINGS])
        for device, values in found.items()
    }
    return answers, frozenset(strange)


def _is_short(one: Measured) -> bool:
    return all(len(value) <= _MAX_LABEL for _, value in one.labels)


def holders_of(held: Iterable[Held]) -> Holders:
    """Who holds each device or a share of it, sorted."""
    found: dict[DeviceID, set[tuple[Owner, ResourceName]]] = {}
    for who, resource, device in held:
        found.setdefault(device, set()).add((_owner(who), resource))
    return {device: tuple(sorted(owners)[:MAX_HOLDERS]) for device, owners in found.items()}


def shares_of(held: Iterable[Held], listed: Mapping[ResourceName, Resource]) -> Shares:
    """Which part of each device a container was given: its ids of a resource over all that the
    device has in it; of joined resources the larger part. What is in no list, as by a claim, is
    the whole if nobody else has the device, else not known."""
    counts = Counter((device, _owner(who), resource) for who, resource, device in held)
    names = {resource for _, _, resource in counts}
    totals = Counter(
        (one.device, name) for name in names if name in listed for one in listed[name].devices
    )
    holders: dict[DeviceID, set[Owner]] = {}
    for device, owner, _ in counts:
        holders.setdefault(device, set()).add(owner)
    found: dict[DeviceID, dict[Owner, float]] = {}
    for (device, owner, resource), count in counts.items():
        total = totals[device, resource]
        if total or len(holders[device]) == 1:
            mine = found.setdefault(device, {})
            mine[owner] = max(mine.get(owner, 0.0), min(1.0, count / total if total else 1.0))
    return {device: tuple(sorted(mine.items())[:MAX_HOLDERS]) for device, mine in found.items()}


def _owner(who: tuple[str, str, str]) -> Owner:
    namespace, pod, container = who
    return Owner(namespace=namespace, pod=pod, container=container)


def next_view(
    before: TelemetryView,
    devices: Mapping[DeviceID, Device],
    answers: Mapping[DeviceID, Answer],
    now: float,
) -> TelemetryView:
    """The view after a round; a whole GPU that is gone stays, lost, a partition does not."""
    views = {
        i: _device_view(before.devices.get(i), d, answers.get(i), (now, before.interval_s))
        for i, d in devices.items()
    }
    gone = [
        replace(old, up=False, readings=(), holders=(), shares=())
        for i, old in before.devices.items()
        if i not in devices and old.device.parent is None and old.seen_at is not None
    ]
    views |= {old.device.id: old for old in gone[-MAX_GONE:]}
    return replace(before, devices=MappingProxyType(views))


def _device_view(
    old: DeviceView | None, device: Device, answer: Answer | None, time: tuple[float, float]
) -> DeviceView:
    now, interval_s = time
    if answer is not None and answer.up:
        readings = tuple(
            Reading(metric=m.metric, device=m.device, value=m.value, at=now, labels=m.labels)
            for m in answer.measured
        )
        return DeviceView(device=device, up=True, seen_at=now, readings=readings)
    if old is None:
        return DeviceView(device=device, up=False)
    stale = old.seen_at is None or now - old.seen_at > STALE_ROUNDS * interval_s
    silent = answer is None or answer.hangs
    kept = old.readings if silent and not stale else ()
    up = old.up and answer is None and not stale
    return replace(old, device=device, up=up, readings=kept)


def with_users(
    view: TelemetryView,
    holders: Holders,
    shares: Shares,
    processes: tuple[ProcessUse, ...] | None,
) -> TelemetryView:
    """The view with who holds what, and with processes. Of a device whose vendor has no other way
    to tell what memory is in use, it is what its processes have."""
    by_device: dict[DeviceID, list[ProcessUse]] = {}
    for process in processes or ():
        by_device.setdefault(process.device, []).append(process)
    devices = {
        i: replace(
            one,
            holders=holders.get(i, ()),
            shares=shares.get(i, ()),
            readings=_with_sums(one, by_device.get(i), processes),
        )
        for i, one in view.devices.items()
    }
    return replace(view, devices=MappingProxyType(devices), processes=processes)


def _with_sums(
    view: DeviceView, own: list[ProcessUse] | None, asked: tuple[ProcessUse, ...] | None
) -> tuple[Reading, ...]:
    if asked is None or not view.up or view.seen_at is None:
        return view.readings
    used = [process for process in own or () if process.memory_bytes is not None]
    shares = [p.utilization_ratio for p in own or () if p.utilization_ratio is not None]
    sums: list[tuple[str, float, Labels]] = []
    if used and view.value("memory_used_bytes") is None:
        sums.append(("memory_used_bytes", float(sum(p.memory_bytes or 0 for p in used)), ()))
    if shares and view.value("utilization_ratio", engine="compute") is None:
        sums.append(("utilization_ratio", min(sum(shares), 1.0), (("engine", "compute"),)))
    return (
        *view.readings,
        *(
            Reading(metric=m, device=view.device.id, value=v, at=view.seen_at, labels=labels)
            for m, v, labels in sums
        ),
    )
