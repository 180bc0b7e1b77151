"""What is remembered of events: a fault that was told once stands until what ends it; pure.

A source that can be asked again reports its faults itself. An event cannot be asked again: it is
kept here, by its class until a reset, a reboot or an operator ends it, or for a while when it
takes nothing away.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from deviceplugin.health.policy import name_of
from deviceplugin.model import DeviceID, Fault, FaultClass

OPERATOR = "deviceplugin.operator"
CORDON = "cordon"
MAX_FAULTS = 1000  # and as many histories of faults that came back after reboots
_ENDED_BY_REBOOT = frozenset({FaultClass.RESET, FaultClass.REBOOT})

Key = tuple[DeviceID, str, str]
BootTimes = tuple[tuple[str, float], ...]  # boot id, Unix seconds
Boots = Mapping[Key, BootTimes]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """An event that comes `count` times within `window_s` seconds is of the class `kind`."""

    count: int
    window_s: float
    kind: FaultClass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPolicy:
    """`told_s`: how long an event that takes nothing away is shown; `repeats` by fault name.

    A fault that comes back after `escalate_after_reboots` reboots within `boots_s` seconds asks
    for an inspection of the hardware.
    """

    told_s: float = 3600.0
    escalate_after_reboots: int = 2
    boots_s: float = 30 * 86400.0
    repeats: Mapping[str, Repeat] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something happened: Unix seconds and the kernel's boot id (None: it is not known)."""

    now: float
    boot: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A fault that was told, in which boot, at which reading of the driver's own clock, and when
    last; `times` holds as many times as its repeat rule counts."""

    fault: Fault
    boot: str | None
    mark: int | None
    times: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """An operator's word that a device is not to be used; `since` in Unix seconds."""

    reason: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Everything that is remembered; `boots` tells in which boots a fault came, `marks` the last
    reading of a counter that only a driver reload or a reset sets back."""

    faults: Mapping[Key, Remembered] = field(default_factory=lambda: MappingProxyType({}))
    boots: Boots = field(default_factory=lambda: MappingProxyType({}))
    cordons: Mapping[DeviceID, Cordon] = field(default_factory=lambda: MappingProxyType({}))
    marks: Mapping[DeviceID, int] = field(default_factory=lambda: MappingProxyType({}))


def remember(memory: Memory, fault: Fault, moment: Moment, policy: MemoryPolicy) -> Memory:
    """The memory after `fault` was told; a known one only moves its times.

    In a full memory what takes a device away drives out what merely was told, else it stays as
    it is.
    """
    known = memory.faults.get(fault.key)
    if known is None and len(memory.faults) >= MAX_FAULTS:
        room = _with_room(memory) if fault.kind.withdraws else memory
        return memory if room is memory else remember(room, fault, moment, policy)
    boots = _boots(memory.boots.get(fault.key, ()), fault, moment, policy)
    rule = policy.repeats.get(name_of(fault))
    times = (*(known.times if known else ()), moment.now)[-(rule.count if rule else 1) :]
    entry = Remembered(
        fault=_escalated(fault, len(boots), policy).stamped(moment.now),
        boot=moment.boot,
        mark=memory.marks.get(fault.device),
        times=times,
    )
    if known is not None and (known.fault.kind is entry.fault.kind or not boots):
        entry = replace(known, times=times)
    history = _recent(memory.boots, fault.key, boots, moment.now - policy.boots_s)
    return replace(memory, faults=_with(memory.faults, fault.key, entry), boots=history)


def _with_room(memory: Memory) -> Memory:
    """Without the oldest of what takes nothing away; the same where there is no such."""
    told = {key: r.times[-1] for key, r in memory.faults.items() if not r.fault.kind.withdraws}
    oldest = min(told, key=lambda key: (told[key], key), default=None)
    return memory if oldest is None else only(memory, lambda r: r.fault.key != oldest)


def _recent(history: Boots, key: Key, boots: BootTimes, since: float) -> Boots:
    """The history with `boots`, without what is older than `since` (Unix seconds): devices and
    codes come and go, and this is saved. At most MAX_FAULTS, the latest."""
    if not boots:
        return history
    kept = {k: b for k, b in history.items() if k != key and b and b[-1][1] > since}
    latest = sorted(kept, key=lambda k: kept[k][-1][1])[-(MAX_FAULTS - 1) :]
    return MappingProxyType({**{k: kept[k] for k in latest}, key: boots})


def _boots(old: BootTimes, fault: Fault, moment: Moment, policy: MemoryPolicy) -> BootTimes:
    """The boots in which a fault came that a reset or reboot should have ended."""
    if fault.kind not in _ENDED_BY_REBOOT or moment.boot is None:
        return old
    recent = tuple(b for b in old if b[1] > moment.now - policy.boots_s and b[0] != moment.boot)
    return (*recent, (moment.boot, moment.now))[-(policy.escalate_after_reboots + 1) :]


def _escalated(fault: Fault, boots: int, policy: MemoryPolicy) -> Fault:
    if boots <= policy.escalate_after_reboots:
        return fault
    return replace(
        fault,
        kind=FaultClass.HARDWARE,
        reason=f"{fault.reason}; it came back after {boots - 1} reboots",
        action="inspect or replace the hardware, then: deviceplugin uncordon --forget-faults",
    )


def after_boot(memory: Memory, boot: str | None) -> Memory:
    """Without what a reboot ends, if `boot` is another one; an unknown boot ends nothing."""
    if boot is None:
        return memory
    return _without(
        memory,
        lambda r: r.boot not in (None, boot) and r.fault.kind in _ENDED_BY_REBOOT,
    )


def after_reset(memory: Memory, devices: Collection[DeviceID]) -> Memory:
    """Without what a reset or driver reload of `devices` ends."""
    return _without(
        memory, lambda r: r.fault.device in devices and r.fault.kind is FaultClass.RESET
    )


def marked(memory: Memory, device: DeviceID, mark: int, parts: Collection[DeviceID]) -> Memory:
    """The memory after a reading of the driver's clock: one that went back tells of a reset."""
    before = memory.marks.get(device)
    if before == mark:
        return memory
    if before is not None and mark < before:
        memory = after_reset(memory, {device, *parts})
    return replace(memory, marks=_with(memory.marks, device, mark))


def lapsed(memory: Memory, now: float, policy: MemoryPolicy) -> Memory:
    """Without the events that took nothing away and are old."""
    return _without(memory, lambda r: _ends_at(r, policy) <= now)


def cordoned(memory: Memory, device: DeviceID, cordon: Cordon) -> Memory:
    """The memory with an operator's cordon; a new reason replaces the old one."""
    return replace(memory, cordons=_with(memory.cordons, device, cordon))


def uncordoned(memory: Memory, device: DeviceID) -> Memory:
    """The memory without the cordon of `device`."""
    kept = {d: c for d, c in memory.cordons.items() if d != device}
    return replace(memory, cordons=MappingProxyType(kept))


def forgotten(memory: Memory, devices: Collection[DeviceID]) -> Memory:
    """The memory without any fault of `devices`: an operator says that they are well."""
    boots = {key: b for key, b in memory.boots.items() if key[0] not in devices}
    without = _without(memory, lambda r: r.fault.device in devices)
    return replace(without, boots=MappingProxyType(boots))


def only(memory: Memory, kept: Callable[[Remembered], bool]) -> Memory:
    """The memory with those faults alone that `kept` accepts."""
    faults = {key: entry for key, entry in memory.faults.items() if kept(entry)}
    if len(faults) == len(memory.faults):
        return memory
    return replace(memory, faults=MappingProxyType(faults))


def standing(memory: Memory, now: float, policy: MemoryPolicy) -> tuple[Fault, ...]:
    """The faults that memory says stand now, cordons among them, in order."""
    faults = [_current(r, now, policy) for r in memory.faults.values()]
    faults += [_cordon(device, cordon) for device, cordon in memory.cordons.items()]
    return tuple(sorted(faults, key=lambda fault: fault.key))


def next_lapse(memory: Memory, now: float, policy: MemoryPolicy) -> float | None:
    """When the next fault changes by time alone (Unix seconds), None where none does."""
    return min((at for at in _lapses(memory, policy) if at > now), default=None)


def _lapses(memory: Memory, policy: MemoryPolicy) -> Iterator[float]:
    for entry in memory.faults.values():
        if not entry.fault.kind.withdraws:
            yield _ends_at(entry, policy)
            if rule := policy.repeats.get(name_of(entry.fault)):
                yield entry.times[0] + rule.window_s


def _current(entry: Remembered, now: float, policy: MemoryPolicy) -> Fault:
    rule = policy.repeats.get(name_of(entry.fault))
    if rule is None or len(entry.times) < rule.count or now - entry.times[0] >= rule.window_s:
        return entry.fault
    reason = f"{entry.fault.reason}; {rule.count} times within {rule.window_s:g} s"
    return replace(entry.fault, kind=rule.kind, reason=reason)


def _ends_at(entry: Remembered, policy: MemoryPolicy) -> float:
    if entry.fault.kind.withdraws:
        return float("inf")
    rule = policy.repeats.get(name_of(entry.fault))
    return entry.times[-1] + (rule.window_s if rule else policy.told_s)


def _cordon(device: DeviceID, cordon: Cordon) -> Fault:
    return Fault(
        device=device,
        source=OPERATOR,
        code=CORDON,
        reason=f"cordoned by an operator: {cordon.reason}",
        action=f"deviceplugin uncordon {device}",
        kind=FaultClass.SETUP,
        since=cordon.since,
    )


def _without(memory: Memory, ended: Callable[[Remembered], bool]) -> Memory:
    return only(memory, lambda entry: not ended(entry))


def _with(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    return MappingProxyType({**mapping, key: value})
