"""The course of a device's health: what takes it away, what holds it back, what gives it back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.conditions import (
    Condition,
    advance,
    condition_of,
    hold_s,
    next_change,
)
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, Health
from deviceplugin.vendor import Finding, Repeat

GPU, PART, OTHER = DeviceID("GPU-a"), DeviceID("MIG-a"), DeviceID("GPU-b")
POLICY = HealthSection(hold_s=10, hold_max_s=100, flap_limit=4, flap_window_s=1000)
DEVICES = (
    Device(id=GPU, vendor="nvidia"),
    Device(id=PART, vendor="nvidia", parent=GPU),
    Device(id=OTHER, vendor="nvidia"),
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def fault(kind: FaultClass = FaultClass.RESET, device: DeviceID = GPU, code: str = "1") -> Fault:
    return Fault(device=device, source="nvidia.test", code=code, reason="r", action="a", kind=kind)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> InventoryStore:
    store = InventoryStore(clock, POLICY)
    store.set_devices("nvidia", DEVICES)
    return store


def health(store: InventoryStore, device: DeviceID = GPU) -> Health:
    return store.current.health_of(store.current.devices[device])


def condition(store: InventoryStore, device: DeviceID = GPU) -> Condition:
    return condition_of(store.current, store.current.devices[device])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FaultClass.INFO, Condition.HEALTHY),
        (FaultClass.APP, Condition.HEALTHY),
        (FaultClass.WARN, Condition.SUSPECT),
        (FaultClass.SETUP, Condition.UNHEALTHY),
        (FaultClass.RESET, Condition.UNHEALTHY),
        (FaultClass.REBOOT, Condition.UNHEALTHY),
        (FaultClass.HARDWARE, Condition.UNHEALTHY),
    ],
)
def test_the_class_of_a_fault_decides(
    store: InventoryStore, kind: FaultClass, expected: Condition
) -> None:
    store.set_faults("s", [fault(kind)])
    assert condition(store) is expected
    assert (health(store) is Health.UNHEALTHY) == kind.withdraws


def test_a_fault_of_the_whole_reaches_its_parts_and_never_upwards(store: InventoryStore) -> None:
    store.set_faults("s", [fault(device=PART)])
    assert (health(store), health(store, PART)) == (Health.HEALTHY, Health.UNHEALTHY)
    store.set_faults("s", [fault(device=GPU)])
    assert health(store, PART) is Health.UNHEALTHY
    assert health(store, OTHER) is Health.HEALTHY


def test_a_device_is_held_back_after_its_last_fault(store: InventoryStore, clock: Clock) -> None:
    store.set_faults("s", [fault()])
    store.set_faults("s", [])
    assert condition(store) is Condition.RECOVERING
    assert store.next_change() == 1010.0
    clock.now_s = 1009.9
    store.review()
    assert health(store) is Health.UNHEALTHY
    clock.now_s = 1010.0
    store.review()
    assert condition(store) is Condition.HEALTHY


def test_a_setup_fault_leaves_no_hold_behind(store: InventoryStore) -> None:
    store.set_faults("s", [fault(FaultClass.SETUP)])
    store.set_faults("s", [])
    assert condition(store) is Condition.HEALTHY


def test_each_fall_within_the_window_doubles_the_hold_up_to_the_longest(
    store: InventoryStore, clock: Clock
) -> None:
    waits = []
    for _ in range(6):
        store.set_faults("s", [fault()])
        store.set_faults("s", [])
        until = store.next_change()
        assert until is not None
        waits.append(until - clock.now_s)
        clock.now_s = until
        store.review()
    assert waits == [10.0, 20.0, 40.0, 100.0, 100.0, 100.0]


def test_falls_out_of_the_window_do_not_count(store: InventoryStore, clock: Clock) -> None:
    for _ in range(3):
        store.set_faults("s", [fault()])
        store.set_faults("s", [])
        clock.now_s += 2000
        store.review()
    store.set_faults("s", [fault()])
    store.set_faults("s", [])
    assert store.next_change() == clock.now_s + 10


def test_a_clock_that_is_set_back_holds_nothing_for_longer_than_the_longest_hold(
    store: InventoryStore, clock: Clock
) -> None:
    store.set_faults("s", [fault()])
    store.set_faults("s", [])
    clock.now_s = -1e9
    store.review()
    assert health(store) is Health.HEALTHY


def test_untroubled_devices_are_not_remembered(store: InventoryStore, clock: Clock) -> None:
    courses = advance({}, {GPU: (fault(),)}, 0.0, POLICY)
    courses = advance(courses, {}, 1.0, POLICY)
    assert next_change(courses) == 11.0
    assert advance(courses, {}, 5000.0, POLICY) == {}


def test_a_hold_is_never_longer_than_the_longest() -> None:
    assert [hold_s(n, POLICY) for n in range(6)] == [10, 10, 20, 40, 100, 100]


KINDS = st.sampled_from(list(FaultClass))
TARGETS = st.sampled_from([GPU, PART, OTHER])
STEPS = st.one_of(
    st.tuples(st.just("report"), st.sampled_from("xy"), st.lists(st.tuples(TARGETS, KINDS))),
    st.tuples(st.just("event"), TARGETS, KINDS),
    st.tuples(st.just("reset"), st.sampled_from([GPU, OTHER])),
    st.tuples(st.just("cordon"), TARGETS),
    st.tuples(st.just("uncordon"), TARGETS),
    st.tuples(st.just("forget"), TARGETS),
    st.tuples(st.just("wait"), st.floats(min_value=0, max_value=200)),
)


class World:
    """The desk, and beside it the simplest account of which faults stand."""

    def __init__(self) -> None:
        self.clock = Clock()
        section = HealthSection(
            hold_s=10,
            hold_max_s=100,
            flap_limit=4,
            event_ttl_s=50,
            repeats={"nvidia.event/app": Repeat(count=9, window_s=50, kind=FaultClass.WARN)},
        )
        self.store = InventoryStore(self.clock, section)
        self.desk = FaultTracker(self.store, FaultPolicy(section=section), "boot")
        self.store.set_devices("nvidia", DEVICES)
        self.reported: dict[str, set[tuple[DeviceID, FaultClass]]] = {}
        self.events: set[tuple[DeviceID, FaultClass]] = set()
        self.cordons: set[DeviceID] = set()

    def step(self, name: str, *arguments: object) -> None:
        getattr(self, name)(*arguments)
        self.check()

    def report(self, source: str, found: list[tuple[DeviceID, FaultClass]]) -> None:
        self.reported[source] = set(found)
        faults = [fault(kind, device, f"{source}-{kind}") for device, kind in set(found)]
        self.desk.faults(source, faults)

    def event(self, device: DeviceID, kind: FaultClass) -> None:
        self.events.add((device, kind))
        told = Fault(
            device=device, source="nvidia.event", code=kind, reason="r", action="a", kind=kind
        )
        self.desk.record_event(told)

    def reset(self, device: DeviceID) -> None:
        ended = {device} | ({PART} if device == GPU else set())
        self.events -= {e for e in self.events if e[0] in ended and e[1] is FaultClass.RESET}
        self.desk.record_probe("nvidia", DEVICES, {device: Finding(reset=True)})

    def cordon(self, device: DeviceID) -> None:
        self.cordons.add(device)
        self.desk.cordon(self.store.current.devices[device], "reason")

    def uncordon(self, device: DeviceID) -> None:
        self.cordons.discard(device)
        self.desk.uncordon(self.store.current.devices[device])

    def forget(self, device: DeviceID) -> None:
        ended = {device} | ({PART} if device == GPU else set())
        self.events -= {e for e in self.events if e[0] in ended}
        self.desk.forget(self.store.current.devices[device])

    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds
        self.desk.review()

    def stands(self, device: Device) -> bool:
        everything = set().union(*self.reported.values(), self.events)
        withdrawing = {d for d, kind in everything if kind.withdraws} | self.cordons
        return device.id in withdrawing or device.parent in withdrawing

    def check(self) -> None:
        for device in DEVICES:
            if self.stands(device):
                assert health(self.store, device.id) is Health.UNHEALTHY


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_a_standing_fault_is_never_listed_healthy_and_none_is_forgiven_in_bounded_time(
    steps: list[tuple[object, ...]],
) -> None:
    world = World()
    for step in steps:
        world.step(*step)  # type: ignore[arg-type]
    world.wait(100.0)
    for device in DEVICES:
        expected = Health.UNHEALTHY if world.stands(device) else Health.HEALTHY
        assert health(world.store, device.id) is expected


@settings(max_examples=50, deadline=None)
@given(st.lists(STEPS, max_size=20))
def test_time_alone_lets_go_at_the_moment_that_was_announced(
    steps: list[tuple[object, ...]],
) -> None:
    world = World()
    for step in steps:
        world.step(*step)  # type: ignore[arg-type]
    while (until := world.store.next_change()) is not None:
        assert until > world.clock.now_s
        world.clock.now_s = until
        world.desk.review()
    for device in DEVICES:
        assert world.stands(device) or health(world.store, device.id) is Health.HEALTHY


def test_an_operators_word_ends_a_hold_and_not_a_standing_fault() -> None:
    world = World()
    device = DEVICES[0]
    world.event(GPU, FaultClass.RESET)
    world.forget(GPU)
    assert condition_of(world.store.current, device) is Condition.HEALTHY
    world.report("x", [(GPU, FaultClass.RESET)])
    world.forget(GPU)
    assert condition_of(world.store.current, device) is Condition.UNHEALTHY
