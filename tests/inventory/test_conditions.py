"""How long a recovered device is held back: each failure counted once, within its window."""

from types import MappingProxyType
from typing import NamedTuple

import pytest

from deviceplugin.inventory.conditions import (
    NEVER_FAILED,
    HoldState,
    HoldStates,
    NoHold,
    advance,
    hold_s,
    next_change,
    with_holds,
)
from deviceplugin.model import DeviceID, Fault, FaultClass

A, B = DeviceID("a"), DeviceID("b")
NOTHING: MappingProxyType[DeviceID, tuple[Fault, ...]] = MappingProxyType({})


class Policy(NamedTuple):
    hold_s: float = 10.0
    hold_max_s: float = 100.0
    flap_limit: int = 5
    flap_window_s: float = 60.0


POLICY = Policy()


def failing(
    *devices: DeviceID, kind: FaultClass = FaultClass.RESET
) -> dict[DeviceID, tuple[Fault, ...]]:
    return {d: (Fault(device=d, source="s", code="c", reason="r", kind=kind),) for d in devices}


def after(*steps: tuple[float, bool], policy: Policy | NoHold = POLICY) -> HoldState | None:
    """The state of a device that fails, or does not, at these times."""
    states: HoldStates = {}
    for now, fails in steps:
        states = advance(states, failing(A) if fails else NOTHING, now, policy)
    return states.get(A)


def test_a_device_that_never_failed_has_no_state() -> None:
    assert advance({A: NEVER_FAILED}, NOTHING, 5.0, POLICY) == {}
    assert after((5.0, False)) is None


def test_a_warning_is_no_failure() -> None:
    assert advance({}, failing(A, kind=FaultClass.WARN), 5.0, POLICY) == {}


def test_a_failure_that_stands_is_counted_once() -> None:
    assert after((5.0, True), (6.0, True), (7.0, True)) == HoldState(failed=True, failures=(5.0,))


def test_a_device_that_recovers_is_held_from_then_on() -> None:
    held = HoldState(failures=(5.0,), recovered_at=8.0, held_until=18.0)
    assert after((5.0, True), (8.0, False)) == held
    assert after((5.0, True), (8.0, False), (17.0, False)) == held


def test_a_hold_ends_at_its_time_and_the_failure_is_remembered_for_its_window() -> None:
    assert after((5.0, True), (8.0, False), (18.0, False)) == HoldState(failures=(5.0,))
    assert after((5.0, True), (8.0, False), (64.0, False)) == HoldState(failures=(5.0,))
    assert after((5.0, True), (8.0, False), (65.0, False)) is None


def test_each_failure_within_the_window_doubles_the_hold() -> None:
    again = after((5.0, True), (8.0, False), (9.0, True), (10.0, False))
    assert again == HoldState(failures=(5.0, 9.0), recovered_at=10.0, held_until=30.0)


def test_a_clock_that_was_set_back_forgets_what_is_to_come_and_holds_nobody() -> None:
    assert after((1000.0, True), (1001.0, False), (5.0, False)) is None
    assert after((1000.0, True), (5.0, True)) == HoldState(failed=True)


def test_no_more_failures_are_kept_than_count() -> None:
    steps = [(float(n), n % 2 == 0) for n in range(40)]
    state = after(*steps)
    assert state is not None
    assert state.failures == (30.0, 32.0, 34.0, 36.0, 38.0)
    assert state.held_until == 39.0 + 100.0


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 10.0), (1, 10.0), (2, 20.0), (4, 80.0), (5, 100.0), (9, 100.0)]
)
def test_a_hold_doubles_up_to_the_limit(failures: int, seconds: float) -> None:
    assert hold_s(failures, POLICY) == seconds


def test_a_hold_is_never_longer_than_the_longest() -> None:
    assert hold_s(4, POLICY._replace(hold_max_s=30.0)) == 30.0


def test_without_a_policy_a_device_that_recovers_is_back_at_once() -> None:
    state = after((5.0, True), (5.5, False), policy=NoHold())
    assert state is None


def test_a_device_that_is_held_has_one_more_fault_since_it_recovered() -> None:
    states = {B: HoldState(failures=(1.0, 2.0), recovered_at=8.0, held_until=18.0)}
    found = with_holds(failing(A), states)
    assert list(found) == [A, B]
    (fault,) = found[B]
    assert (fault.device, fault.kind, fault.since) == (B, FaultClass.RESET, 8.0)
    assert "after failure 2 within" in fault.reason
    assert with_holds(NOTHING, {A: HoldState(failed=True)}) is NOTHING


def test_the_next_change_is_the_first_hold_to_end() -> None:
    held = {A: HoldState(held_until=20.0), B: HoldState(held_until=18.0)}
    assert next_change({**held, DeviceID("c"): HoldState(failed=True)}) == 18.0
    assert next_change({A: HoldState(failed=True)}) is None
