"""Who uses more of a device than was granted, and what is told of it."""

from pathlib import Path

import pytest

from deviceplugin.enforcement.events import causes_of
from deviceplugin.enforcement.held import grants_of
from deviceplugin.enforcement.metrics import series_of
from deviceplugin.enforcement.section import EnforcementSection, ExcessSection
from deviceplugin.enforcement.watch import Use, breaches, uses_of
from deviceplugin.kubernetes.story import event
from deviceplugin.model import DeviceID
from deviceplugin.resources.entries import Holder
from deviceplugin.telemetry.model import Owner, ProcessUse, TelemetryView
from tests.enforcement.builders import GPU, World
from tests.enforcement.kernel import GIB

MAIN = Holder(namespace="ml", pod="train", container="main")
SIDE = Holder(namespace="ml", pod="train", container="side")


def process(size: int | None, holder: Holder | None = MAIN, container: str = "main") -> ProcessUse:
    owner = None
    if holder is not None:
        owner = Owner(namespace=holder.namespace, pod=holder.pod, container=container)
    return ProcessUse(pid=1, device=GPU.id, memory_bytes=size, owner=owner)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.held_by(MAIN, GPU, 0, 1, 2, 3)
    return world


def use_of(world: World, *processes: ProcessUse) -> Use | None:
    granted = grants_of(world.entries, world.listed(), world.devices)
    return uses_of(granted, processes).get((MAIN, GPU.id))


def test_what_all_processes_of_a_container_have_is_held_against_its_slices(world: World) -> None:
    assert use_of(world, process(GIB), process(2 * GIB)) == Use(
        granted_bytes=4 * GIB, used_bytes=3 * GIB
    )


def test_processes_of_others_and_of_nobody_do_not_count(world: World) -> None:
    other = Holder(namespace="ml", pod="else", container="main")
    found = use_of(world, process(9 * GIB, other), process(9 * GIB, None))
    assert found == Use(granted_bytes=4 * GIB, used_bytes=0)


def test_a_process_of_which_the_memory_is_unknown_is_no_use_of_zero(world: World) -> None:
    assert use_of(world, process(GIB), process(None)) is None


def test_a_process_whose_container_is_unknown_is_the_only_holders_of_its_pod(world: World) -> None:
    assert use_of(world, process(5 * GIB, container="")) == Use(
        granted_bytes=4 * GIB, used_bytes=5 * GIB
    )
    world.held_by(SIDE, GPU, 4)
    assert use_of(world, process(5 * GIB, container="")) == Use(granted_bytes=4 * GIB, used_bytes=0)


@pytest.mark.parametrize(
    ("used", "tolerance", "over"),
    [(104, 5, False), (105, 5, False), (106, 5, True), (101, 0, True), (100, 0, False)],
)
def test_what_is_let_pass_is_let_pass(used: int, tolerance: int, over: bool) -> None:
    use = Use(granted_bytes=100, used_bytes=used)
    assert bool(breaches({(MAIN, GPU.id): use}, tolerance)) == over


@pytest.mark.parametrize(
    ("policy", "reason"), [("warn", "SliceLimitExceeded"), ("evict-request", "EvictionRequested")]
)
def test_an_event_on_the_pod_says_what_is_to_be_done(policy: str, reason: str) -> None:
    over = {(MAIN, GPU.id): Use(granted_bytes=4 * GIB, used_bytes=5 * GIB)}
    (cause,) = causes_of(over, policy)
    written = event("node-1", cause.pods[0], cause, well=False, now=0.0)
    assert written["reason"] == reason
    assert written["involvedObject"]["name"] == "train"
    assert "the 4096 MiB that were granted" in written["message"]
    again = event("node-1", None, cause, well=True, now=9.0)
    assert again["reason"] == "SliceLimitKept"


async def test_excess_is_seen_counted_and_over_when_it_is_over(world: World) -> None:
    section = EnforcementSection(excess=ExcessSection(watch=True))
    enforcer = world.enforcer(section)
    world.view = TelemetryView(interval_s=10.0, processes=(process(5 * GIB),))
    await enforcer.look()
    lines = [line for family in series_of(enforcer, world.around()) for line in family.lines()]
    assert f'deviceplugin_slices_exceeded{{device="{GPU.id}"}} 1.0' in lines
    used = f'container="main",device="{GPU.id}",namespace="ml",pod="train"'
    assert f"deviceplugin_slice_used_bytes{{{used}}} {float(5 * GIB)}" in lines
    world.view = TelemetryView(interval_s=10.0, processes=(process(GIB),))
    await enforcer.look()
    assert not enforcer.over


async def test_nothing_is_said_where_nobody_can_know(world: World) -> None:
    enforcer = world.enforcer(EnforcementSection(excess=ExcessSection(watch=True)))
    await enforcer.look()
    assert not enforcer.uses
    assert world.devices[DeviceID(GPU.id)]
