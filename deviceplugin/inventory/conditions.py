"""The course of a device's health: suspect, unhealthy, recovering, healthy again; pure.

A fault takes a device away at once; what gives it back is slower: after the last fault is gone the
device is held back, longer each time it falls again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from deviceplugin.model import Device, DeviceID, Fault, FaultClass, Inventory

SOURCE = "deviceplugin.health"
RECOVERING = "recovering"
# What an operator or a missing file causes ends when it ends; only these leave a doubt behind.
_DOUBTFUL = frozenset({FaultClass.RESET, FaultClass.REBOOT, FaultClass.HARDWARE})


class Condition(StrEnum):
    """Where a device stands; from UNHEALTHY on the kubelet is told Unhealthy."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    UNHEALTHY = "unhealthy"
    RECOVERING = "recovering"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPolicy:
    """How long a device is held back: `hold_s`, doubled by each fall within `flap_window_s`.

    From `flap_limit` falls on it is `hold_max_s`, which is also the longest hold there is.
    """

    hold_s: float = 3.0
    hold_max_s: float = 600.0
    flap_limit: int = 6
    flap_window_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is remembered of a device: whether it is down, when it fell, and the hold, if any:
    since when it is well and until when it is held."""

    down: bool = False
    falls: tuple[float, ...] = ()
    well: float | None = None
    until: float | None = None


Courses = Mapping[DeviceID, Course]
Faults = Mapping[DeviceID, tuple[Fault, ...]]
UNTROUBLED = Course()


def advance(courses: Courses, faults: Faults, now: float, policy: HoldPolicy) -> Courses:
    """The courses after `faults` stand at `now` (Unix seconds); untroubled devices are left out."""
    followed = {
        device: _follow(courses.get(device, UNTROUBLED), faults.get(device, ()), now, policy)
        for device in sorted(courses.keys() | faults.keys())
    }
    return MappingProxyType({d: course for d, course in followed.items() if course != UNTROUBLED})


def _follow(course: Course, faults: Iterable[Fault], now: float, policy: HoldPolicy) -> Course:
    down = any(fault.kind in _DOUBTFUL for fault in faults)
    recent = [at for at in course.falls if now - policy.flap_window_s < at <= now]
    if down and not course.down:
        recent.append(now)
    falls = tuple(recent[-policy.flap_limit :])
    if down:
        return Course(down=True, falls=falls)
    well = now if course.down else course.well
    until = now + hold_s(len(falls), policy) if course.down else course.until
    # A clock that was set back must not hold a device longer than a hold can be.
    if until is None or not now < until <= now + policy.hold_max_s:
        return Course(falls=falls)
    return Course(falls=falls, well=well, until=until)


def hold_s(falls: int, policy: HoldPolicy) -> float:
    """How long a device is held back after its n-th fall within the window."""
    if falls >= policy.flap_limit:
        return policy.hold_max_s
    return float(min(policy.hold_max_s, policy.hold_s * 2 ** max(0, falls - 1)))


def with_holds(faults: Faults, courses: Courses) -> Faults:
    """`faults` and one more for each device that is held back."""
    held = {device: course for device, course in courses.items() if course.until is not None}
    if not held:
        return faults
    merged = dict(faults)
    for device, course in held.items():
        merged[device] = (*faults.get(device, ()), _hold(device, course))
    return MappingProxyType(dict(sorted(merged.items())))


def _hold(device: DeviceID, course: Course) -> Fault:
    return Fault(
        device=device,
        source=SOURCE,
        code=RECOVERING,
        reason=f"well again, held back after fall {len(course.falls)} within the flap window",
        action="none: it is listed again by itself",
        kind=FaultClass.RESET,
        since=course.well,
    )


def next_change(courses: Courses) -> float | None:
    """When the next hold ends (Unix seconds), None where none runs."""
    return min((c.until for c in courses.values() if c.until is not None), default=None)


def condition_of(inventory: Inventory, device: Device) -> Condition:
    """Where the device stands by its own faults and its parent's."""
    faults = [fault for fault in inventory.faults_of(device) if fault.kind.withdraws]
    if any((fault.source, fault.code) != (SOURCE, RECOVERING) for fault in faults):
        return Condition.UNHEALTHY
    if faults:
        return Condition.RECOVERING
    if any(fault.kind is FaultClass.WARN for fault in inventory.faults_of(device)):
        return Condition.SUSPECT
    return Condition.HEALTHY
