"""The condition of a device: healthy, suspect, unhealthy, recovering, healthy again; pure.

A fault makes a device Unhealthy at once; recovery is slower: after the last fault is gone the
device is held back, longer each time it fails again.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from msgspec import Struct

from deviceplugin.model import Device, DeviceID, Fault, FaultClass, Inventory

SOURCE = "deviceplugin.health"
RECOVERING = "recovering"
# What an operator or a missing file causes ends when it ends; only these leave a doubt behind.
_DOUBTFUL = frozenset({FaultClass.RESET, FaultClass.REBOOT, FaultClass.HARDWARE})


class Condition(StrEnum):
    """The condition of a device; UNHEALTHY and RECOVERING are Unhealthy for the kubelet."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    UNHEALTHY = "unhealthy"
    RECOVERING = "recovering"


class HoldPolicy(Protocol):
    """How long a device is held back: `hold_s`, doubled by each failure within `flap_window_s`.

    From `flap_limit` failures on it is `hold_max_s`, which is also the longest hold there is. The
    configuration section `health` is one; the defaults are there.
    """

    @property
    def hold_s(self) -> float:
        """Seconds after the first failure."""

    @property
    def hold_max_s(self) -> float:
        """Seconds, at most."""

    @property
    def flap_limit(self) -> int:
        """The number of failures from which on the hold is the longest."""

    @property
    def flap_window_s(self) -> float:
        """Seconds after which a failure does not count any more."""


class NoHold(NamedTuple):
    """The policy that holds nothing back."""

    hold_s: float = 0.0
    hold_max_s: float = 0.0
    flap_limit: int = 1
    flap_window_s: float = 0.0


class HoldState(Struct, frozen=True, kw_only=True):
    """What is known of a device's failures: whether it is failed now, when it failed, and the
    hold, if any: since when it is recovered and until when it is held (Unix seconds)."""

    failed: bool = False
    failures: tuple[float, ...] = ()
    recovered_at: float | None = None
    held_until: float | None = None


HoldStates = Mapping[DeviceID, HoldState]
Faults = Mapping[DeviceID, tuple[Fault, ...]]
NEVER_FAILED = HoldState()


def advance(states: HoldStates, faults: Faults, now: float, policy: HoldPolicy) -> HoldStates:
    """The states after `faults` stand at `now` (Unix seconds); devices without a failure are left
    out."""
    following = {
        device: _next(states.get(device, NEVER_FAILED), faults.get(device, ()), now, policy)
        for device in sorted(states.keys() | faults.keys())
    }
    return MappingProxyType({d: state for d, state in following.items() if state != NEVER_FAILED})


def _next(state: HoldState, faults: Iterable[Fault], now: float, policy: HoldPolicy) -> HoldState:
    failed = any(fault.kind in _DOUBTFUL for fault in faults)
    recent = [at for at in state.failures if now - policy.flap_window_s < at <= now]
    if failed and not state.failed:
        recent.append(now)
    failures = tuple(recent[-policy.flap_limit :])
    if failed:
        return HoldState(failed=True, failures=failures)
    recovered_at = now if state.failed else state.recovered_at
    until = now + hold_s(len(failures), policy) if state.failed else state.held_until
    # A clock that was set back must not hold a device longer than a hold can be.
    if until is None or not now < until <= now + policy.hold_max_s:
        return HoldState(failures=failures)
    return HoldState(failures=failures, recovered_at=recovered_at, held_until=until)


def hold_s(failures: int, policy: HoldPolicy) -> float:
    """How long a device is held back after its n-th failure within the window, in seconds."""
    if failures >= policy.flap_limit:
        return policy.hold_max_s
    return float(min(policy.hold_max_s, policy.hold_s * 2 ** max(0, failures - 1)))


def with_holds(faults: Faults, states: HoldStates) -> Faults:
    """`faults` and one more for each device that is held back."""
    held = {device: state for device, state in states.items() if state.held_until is not None}
    if not held:
        return faults
    merged = dict(faults)
    for device, state in held.items():
        merged[device] = (*faults.get(device, ()), _hold(device, state))
    return MappingProxyType(dict(sorted(merged.items())))


def _hold(device: DeviceID, state: HoldState) -> Fault:
    count = len(state.failures)
    return Fault(
        device=device,
        source=SOURCE,
        code=RECOVERING,
        reason=f"recovered, held back after failure {count} within the flap window",
        action="none: it becomes Healthy by itself",
        kind=FaultClass.RESET,
        since=state.recovered_at,
    )


def next_change(states: HoldStates) -> float | None:
    """When the next hold ends (Unix seconds), None where none runs."""
    return min((s.held_until for s in states.values() if s.held_until is not None), default=None)


def condition_of(inventory: Inventory, device: Device) -> Condition:
    """The device's condition by its own faults and its parent's."""
    faults = [fault for fault in inventory.faults_of(device) if fault.kind.withdraws]
    if any((fault.source, fault.code) != (SOURCE, RECOVERING) for fault in faults):
        return Condition.UNHEALTHY
    if faults:
        return Condition.RECOVERING
    if any(fault.kind is FaultClass.WARN for fault in inventory.faults_of(device)):
        return Condition.SUSPECT
    return Condition.HEALTHY
