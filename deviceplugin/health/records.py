"""Faults that came as events: each stands until what its class says ends it; pure.

A source that can be asked again reports its faults itself. An event cannot be asked again: it is
kept here until a reset, a reboot or an operator ends it, or for a while where it does not make its
device Unhealthy.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.health.policy import for_fault
from deviceplugin.health.section import HealthSection
from deviceplugin.model import DeviceID, Fault, FaultClass

OPERATOR = "deviceplugin.operator"
CORDON = "cordon"
MAX_FAULTS = 1000  # and as many histories of faults that came back after reboots
BOOTS_S = 30 * 86400.0  # a fault that came back after reboots longer ago does not escalate
_ENDED_BY_REBOOT = frozenset({FaultClass.RESET, FaultClass.REBOOT})

Key = tuple[DeviceID, str, str]
BootTimes = tuple[tuple[str, float], ...]  # boot id, Unix seconds
Boots = Mapping[Key, BootTimes]
K = TypeVar("K")
V = TypeVar("V")


class Timestamp(Struct, frozen=True, kw_only=True):
    """When something happened: Unix seconds and the kernel's boot id (None: it is not known)."""

    now: float
    boot: str | None


class Record(Struct, frozen=True, kw_only=True):
    """A fault that came as an event: in which boot, at which reading of the device's reset
    counter, and when last (Unix seconds); `times` holds as many as its repeat rule counts."""

    fault: Fault
    boot: str | None
    reset_counter: int | None
    times: tuple[float, ...]


class Cordon(Struct, frozen=True, kw_only=True):
    """An operator's order that a device is not to be used; `since` in Unix seconds."""

    reason: str
    since: float


class FaultRecords(Struct, frozen=True, kw_only=True):
    """Every fault that came as an event and every cordon. `boots` are the boots in which a fault
    came; `reset_counters` the last reading of a counter that only a driver reload or a reset sets
    back."""

    faults: Mapping[Key, Record] = field(default_factory=lambda: MappingProxyType({}))
    boots: Boots = field(default_factory=lambda: MappingProxyType({}))
    cordons: Mapping[DeviceID, Cordon] = field(default_factory=lambda: MappingProxyType({}))
    reset_counters: Mapping[DeviceID, int] = field(default_factory=lambda: MappingProxyType({}))


def with_event(
    records: FaultRecords, fault: Fault, at: Timestamp, section: HealthSection
) -> FaultRecords:
    """The records after the event `fault`; a known one only gets another time.

    When MAX_FAULTS are recorded, one that makes its device Unhealthy takes the place of the oldest
    that does not; any other is left out.
    """
    known = records.faults.get(fault.key)
    if known is None and len(records.faults) >= MAX_FAULTS:
        room = _with_room(records) if fault.kind.withdraws else records
        return records if room is records else with_event(room, fault, at, section)
    boots = _boots(records.boots.get(fault.key, ()), fault, at, section)
    rule = for_fault(section.repeats, fault)
    times = (*(known.times if known else ()), at.now)[-(rule.count if rule else 1) :]
    entry = Record(
        fault=_escalated(fault, len(boots), section).stamped(at.now),
        boot=at.boot,
        reset_counter=records.reset_counters.get(fault.device),
        times=times,
    )
    if known is not None and (known.fault.kind is entry.fault.kind or not boots):
        entry = replace(known, times=times)
    history = _recent(records.boots, fault.key, boots, at.now - BOOTS_S)
    return replace(records, faults=_with(records.faults, fault.key, entry), boots=history)


def _with_room(records: FaultRecords) -> FaultRecords:
    """Without the oldest that leaves its device Healthy; the same where there is no such."""
    mild = {key: r.times[-1] for key, r in records.faults.items() if not r.fault.kind.withdraws}
    oldest = min(mild, key=lambda key: (mild[key], key), default=None)
    return records if oldest is None else only(records, lambda r: r.fault.key != oldest)


def _recent(history: Boots, key: Key, boots: BootTimes, since: float) -> Boots:
    """The history with `boots`, without what is older than `since` (Unix seconds): devices and
    codes come and go, and this is saved. At most MAX_FAULTS, the latest."""
    if not boots:
        return history
    kept = {k: b for k, b in history.items() if k != key and b and b[-1][1] > since}
    latest = sorted(kept, key=lambda k: kept[k][-1][1])[-(MAX_FAULTS - 1) :]
    return MappingProxyType({**{k: kept[k] for k in latest}, key: boots})


def _boots(old: BootTimes, fault: Fault, at: Timestamp, section: HealthSection) -> BootTimes:
    """The boots in which a fault came that a reset or reboot should have ended."""
    if fault.kind not in _ENDED_BY_REBOOT or at.boot is None:
        return old
    recent = tuple(b for b in old if b[1] > at.now - BOOTS_S and b[0] != at.boot)
    return (*recent, (at.boot, at.now))[-(section.escalate_after_reboots + 1) :]


def _escalated(fault: Fault, boots: int, section: HealthSection) -> Fault:
    if boots <= section.escalate_after_reboots:
        return fault
    return replace(
        fault,
        kind=FaultClass.HARDWARE,
        reason=f"{fault.reason}; it came back after {boots - 1} reboots",
        action="inspect or replace the hardware, then: deviceplugin uncordon --forget-faults",
    )


def after_boot(records: FaultRecords, boot: str | None) -> FaultRecords:
    """Without what a reboot ends, if `boot` is another one; an unknown boot ends nothing."""
    if boot is None:
        return records
    return _without(
        records,
        lambda r: r.boot not in (None, boot) and r.fault.kind in _ENDED_BY_REBOOT,
    )


def after_reset(records: FaultRecords, devices: Collection[DeviceID]) -> FaultRecords:
    """Without what a reset or driver reload of `devices` ends."""
    return _without(
        records, lambda r: r.fault.device in devices and r.fault.kind is FaultClass.RESET
    )


def with_reset_counter(
    records: FaultRecords, device: DeviceID, reading: int, parts: Collection[DeviceID]
) -> FaultRecords:
    """The records after a reading of the reset counter: one that went back means a reset."""
    before = records.reset_counters.get(device)
    if before == reading:
        return records
    if before is not None and reading < before:
        records = after_reset(records, {device, *parts})
    return replace(records, reset_counters=_with(records.reset_counters, device, reading))


def lapsed(records: FaultRecords, now: float, section: HealthSection) -> FaultRecords:
    """Without the events that left their device Healthy and are old."""
    return _without(records, lambda r: _ends_at(r, section) <= now)


def cordoned(records: FaultRecords, device: DeviceID, cordon: Cordon) -> FaultRecords:
    """The records with an operator's cordon; a new reason replaces the old one."""
    return replace(records, cordons=_with(records.cordons, device, cordon))


def uncordoned(records: FaultRecords, device: DeviceID) -> FaultRecords:
    """The records without the cordon of `device`."""
    kept = {d: c for d, c in records.cordons.items() if d != device}
    return replace(records, cordons=MappingProxyType(kept))


def forgotten(records: FaultRecords, devices: Collection[DeviceID]) -> FaultRecords:
    """The records without any fault of `devices`: an operator says that they are well."""
    boots = {key: b for key, b in records.boots.items() if key[0] not in devices}
    without = _without(records, lambda r: r.fault.device in devices)
    return replace(without, boots=MappingProxyType(boots))


def only(records: FaultRecords, kept: Callable[[Record], bool]) -> FaultRecords:
    """The records with those faults alone that `kept` accepts."""
    faults = {key: entry for key, entry in records.faults.items() if kept(entry)}
    if len(faults) == len(records.faults):
        return records
    return replace(records, faults=MappingProxyType(faults))


def standing(records: FaultRecords, now: float, section: HealthSection) -> tuple[Fault, ...]:
    """The faults that stand now by the records, cordons among them, in order."""
    faults = [_current(r, now, section) for r in records.faults.values()]
    faults += [_cordon(device, cordon) for device, cordon in records.cordons.items()]
    return tuple(sorted(faults, key=lambda fault: fault.key))


def next_lapse(records: FaultRecords, now: float, section: HealthSection) -> float | None:
    """When the next fault changes by time alone (Unix seconds), None where none does."""
    return min((at for at in _lapses(records, section) if at > now), default=None)


def _lapses(records: FaultRecords, section: HealthSection) -> Iterator[float]:
    for entry in records.faults.values():
        if not entry.fault.kind.withdraws:
            yield _ends_at(entry, section)
            if rule := for_fault(section.repeats, entry.fault):
                yield entry.times[0] + rule.window_s


def _current(entry: Record, now: float, section: HealthSection) -> Fault:
    rule = for_fault(section.repeats, entry.fault)
    if rule is None or len(entry.times) < rule.count or now - entry.times[0] >= rule.window_s:
        return entry.fault
    reason = f"{entry.fault.reason}; {rule.count} times within {rule.window_s:g} s"
    return replace(entry.fault, kind=rule.kind, reason=reason)


def _ends_at(entry: Record, section: HealthSection) -> float:
    if entry.fault.kind.withdraws:
        return float("inf")
    rule = for_fault(section.repeats, entry.fault)
    return entry.times[-1] + (rule.window_s if rule else section.event_ttl_s)


UNDER_TEST = "active test "  # how the reason of a test's cordon begins
WAIT = "wait for its end, which lifts the cordon; Ctrl-C ends the test"


def _cordon(device: DeviceID, cordon: Cordon) -> Fault:
    tested = cordon.reason.startswith(UNDER_TEST)
    return Fault(
        device=device,
        source=OPERATOR,
        code=CORDON,
        reason=f"cordoned {'for an' if tested else 'by an operator:'} {cordon.reason}",
        action=WAIT if tested else f"deviceplugin uncordon {device}",
        kind=FaultClass.SETUP,
        since=cordon.since,
    )


def _without(records: FaultRecords, ended: Callable[[Record], bool]) -> FaultRecords:
    return only(records, lambda entry: not ended(entry))


def _with(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    return MappingProxyType({**mapping, key: value})
