"""What a vendor's health watch may report, and what becomes of it when the watch ends."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from msgspec import Struct, field
from structlog.testing import capture_logs

from deviceplugin.discovery.loop import LoopOptions, VendorLoop
from deviceplugin.discovery.watch import RETRY_S, HealthWatch
from deviceplugin.errors import VendorError
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import ContainerEdits, Device, DeviceID, Discovery, Fault, FaultClass
from deviceplugin.vendor import Finding, HealthReport

GPU = Device(id=DeviceID("v7-0"), vendor="v7")
PART = Device(id=DeviceID("v7-0-p1"), vendor="v7", parent=GPU.id)
NPU = Device(id=DeviceID("npu-0"), vendor="acme")
WAIT_S = 20.0


def fault(device: str = GPU.id, source: str = "v7.agent", code: str = "sick") -> Fault:
    kind = FaultClass.RESET
    return Fault(device=DeviceID(device), source=source, code=code, reason="r", kind=kind)


class Plain(Struct):
    """A vendor without a health watch."""

    name: str = "v7"
    devices: tuple[Device, ...] = (GPU, PART)

    def discover(self) -> Discovery:
        return Discovery(devices=self.devices)

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        return ContainerEdits()


Watch = Callable[[HealthReport, threading.Event], None]


def quiet(report: HealthReport, stop: threading.Event) -> None:
    """Sees nothing."""
    stop.wait(WAIT_S)


class Watched(Plain):
    """A vendor whose watch does what the test says."""

    watch: Watch = quiet
    runs: list[HealthReport] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def watch_health(
        self, devices: Sequence[Device], report: HealthReport, stop: threading.Event
    ) -> None:
        self.runs.append(report)
        try:
            self.watch(report, stop)
        finally:
            self.ended.set()


class Node:
    """A store with another vendor's device, its tracker, and loops that are made anew at will."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.store = InventoryStore(lambda: self.now_s)
        section = HealthSection(hold_s=0)
        self.tracker = FaultTracker(self.store, FaultPolicy(section=section), "boot")
        self.store.set_devices("acme", [NPU])
        self.loops: list[VendorLoop] = []

    async def serve(self, vendor: Plain, settle_s: float = WAIT_S) -> VendorLoop:
        """What a configuration does: discoveries of `vendor` beside those before."""
        options = LoopOptions(
            tracker=self.tracker, clock=lambda: self.now_s, settle_s=settle_s, order=("acme", "v7")
        )
        loop = VendorLoop(vendor, self.store, options)
        self.loops.append(loop)
        await loop.look()
        self.follow(loop)
        return loop

    def follow(self, loop: VendorLoop) -> None:
        watch: HealthWatch = loop._watch  # one step of its run()
        watch.follow(loop._devices)

    async def shows(self, *keys: tuple[str, str]) -> None:
        """Wait until exactly these faults (device, code) stand."""
        wanted = set(keys)
        async with asyncio.timeout(WAIT_S):
            while self.faults() != wanted:
                await self.store.latest.next(self.store.current)

    def faults(self) -> set[tuple[str, str]]:
        return {(f.device, f.code) for faults in self.store.current.faults.values() for f in faults}


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    yield node
    for loop in node.loops:
        loop.stop()


async def told(node: Node, report: HealthReport, faults: Sequence[Fault]) -> None:
    """Report a set from another thread, and wait until it is taken."""
    await asyncio.to_thread(report.faults, "v7.agent", faults)
    await asyncio.sleep(0)


SICK = (GPU.id, "sick")


async def test_a_set_ends_at_once_with_the_watch_of_a_vendor_that_has_none_any_more(
    node: Node,
) -> None:
    old = Watched()
    loop = await node.serve(old)
    await told(node, old.runs[0], [fault()])
    await node.shows(SICK)
    await node.serve(Plain())
    loop.stop()
    assert node.faults() == set()
    await told(node, old.runs[0], [fault()])
    assert node.faults() == set()


async def test_a_set_ends_when_the_next_watch_does_not_report_it(node: Node) -> None:
    old, new = Watched(), Watched()
    loop = await node.serve(old)
    await told(node, old.runs[0], [fault()])
    await node.shows(SICK)
    await node.serve(new, settle_s=0.01)
    loop.stop()
    await node.shows()


async def test_the_next_watchs_report_replaces_the_set_at_once(node: Node) -> None:
    old, new = Watched(), Watched()
    loop = await node.serve(old)
    await told(node, old.runs[0], [fault()])
    await node.serve(new)
    loop.stop()
    assert node.faults() == {SICK}
    await told(node, new.runs[0], [fault(code="worse")])
    await node.shows((GPU.id, "worse"))
    await told(node, old.runs[0], [])
    await told(node, old.runs[0], [fault()])
    assert node.faults() == {(GPU.id, "worse")}


async def test_the_last_word_at_stop_is_heard(node: Node) -> None:
    def until_stop(report: HealthReport, stop: threading.Event) -> None:
        report.faults("v7.agent", [fault()])
        stop.wait(WAIT_S)
        report.faults("v7.agent", [])
        report.faults("v7.other", [fault(source="v7.other", code="late")])

    old, new = Watched(watch=until_stop), Watched()
    loop = await node.serve(old)
    await node.shows(SICK)
    await node.serve(new)
    loop.stop()
    await node.shows()
    await asyncio.to_thread(old.ended.wait, WAIT_S)
    await asyncio.sleep(0)
    assert node.faults() == set()


async def test_a_watch_whose_devices_change_keeps_its_sets_until_it_reports(node: Node) -> None:
    vendor = Watched()
    loop = await node.serve(vendor)
    await told(node, vendor.runs[0], [fault()])
    vendor.devices = (GPU,)
    loop.wake()
    await loop.look()
    node.follow(loop)
    assert len(vendor.runs) == 2
    assert node.faults() == {SICK}
    await told(node, vendor.runs[1], [])
    assert node.faults() == set()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (fault(device=NPU.id), "vendor acme"),
        (fault(device="GPU-nobody"), "no such device"),
        (fault(source="nvidia.xid"), "begins with"),
        (fault(source="v7"), "begins with"),
    ],
    ids=["another's device", "unknown device", "another's source", "no part"],
)
async def test_a_report_about_what_is_not_the_vendors_is_dropped_and_logged_once(
    node: Node, bad: Fault, reason: str
) -> None:
    vendor = Watched()
    await node.serve(vendor)
    with capture_logs() as logs:
        for _ in range(3):
            await asyncio.to_thread(vendor.runs[0].event, bad)
            await told(node, vendor.runs[0], [bad, fault(code="own")])
    assert node.faults() == {(GPU.id, "own")}
    assert node.tracker.records.value.faults == {}
    assert node.tracker.event_counts == {}
    (entry,) = (entry for entry in logs if entry["event"] == "foreign_device")
    assert (entry["vendor"], entry["device"], entry["source"]) == ("v7", bad.device, bad.source)
    assert reason in entry["reason"]


async def test_partitions_are_the_vendors_own_and_events_have_two_names(node: Node) -> None:
    vendor = Watched()
    await node.serve(vendor)
    await asyncio.to_thread(vendor.runs[0].event, fault(PART.id, code="one"))
    await asyncio.to_thread(vendor.runs[0].happened, fault(PART.id, code="two"))
    await node.shows((PART.id, "one"), (PART.id, "two"))
    assert len(node.tracker.records.value.faults) == 2


async def test_a_probe_speaks_of_its_own_devices_before_they_are_listed(node: Node) -> None:
    class Probed(Plain):
        def probe_health(self, device: Device) -> Finding:
            return Finding(
                faults=(fault(code="own"), fault(device=NPU.id)),
                events=(fault(PART.id, code="event"), fault(device=NPU.id, code="event")),
            )

    with capture_logs() as logs:
        await node.serve(Probed())
    assert node.faults() == {(GPU.id, "own"), (PART.id, "event")}
    assert [entry["event"] for entry in logs] == ["foreign_device"]


async def test_a_probe_that_finds_what_is_no_fault_has_failed(node: Node) -> None:
    class Confused(Plain):
        def probe_health(self, device: Device) -> Finding:
            return Finding(faults=("sick",))  # type: ignore[arg-type]  # a defect of the vendor

    await node.serve(Confused())
    assert node.faults() == {(GPU.id, "health_unreadable")}


async def test_what_is_no_fault_is_refused_to_its_reporter(node: Node) -> None:
    vendor = Watched()
    await node.serve(vendor)
    with pytest.raises(VendorError, match="is not a Fault"):
        vendor.runs[0].event("sick")  # type: ignore[arg-type]


async def test_a_watch_that_raises_is_started_again_later_and_later(node: Node) -> None:
    def broken(report: HealthReport, stop: threading.Event) -> None:
        raise ValueError("no agent")

    vendor = Watched(watch=broken)
    waits = []
    with capture_logs() as logs:
        loop = await node.serve(vendor, settle_s=0.01)
        for run in range(1, 9):
            await ended(vendor, loop)
            assert len(vendor.runs) == run
            node.follow(loop)  # notices the end, and waits from here on
            began_s = node.now_s
            while len(vendor.runs) == run:
                node.now_s += 1.0
                node.follow(loop)
            waits.append(node.now_s - began_s)
        await ended(vendor, loop)
    assert waits == [RETRY_S * factor for factor in (1, 2, 4, 8, 16, 32, 60, 60)]
    failures = [entry for entry in logs if entry["event"] == "thread_failed"]
    assert len(failures) == 9
    assert ["exc_info" in entry for entry in failures] == [True] + [False] * 8


async def ended(vendor: Watched, loop: VendorLoop) -> None:
    """Wait until the thread of the watch has ended."""
    thread = loop._watch._thread
    if thread is not None:
        await asyncio.to_thread(thread.join, WAIT_S)


async def test_the_last_known_set_stands_while_the_watch_fails(node: Node) -> None:
    broken = [False]

    def sometimes(report: HealthReport, stop: threading.Event) -> None:
        if broken[0]:
            raise ValueError("no agent")
        report.faults("v7.agent", [fault()])

    vendor = Watched(watch=sometimes)
    loop = await node.serve(vendor, settle_s=0.0)
    await node.shows(SICK)
    await ended(vendor, loop)
    broken[0] = True
    node.follow(loop)
    assert len(vendor.runs) == 2
    await ended(vendor, loop)
    for _ in range(3):
        await asyncio.sleep(0)
    assert node.faults() == {SICK}
