"""An Allocate from ids to answer: what is reserved, who is told, and what a failure leaves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from deviceplugin.errors import AllocationError, CallTimeoutError, Refusal, VendorError
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Device,
    DeviceID,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.resources.allocation import Allocation, Request
from deviceplugin.resources.allocator import Allocator, Sources, log_allocation
from deviceplugin.resources.grants import Granted

GPU = ResourceName("example.com/gpu")
DEVICES = {DeviceID(i): Device(id=DeviceID(i), vendor="example", resource=GPU) for i in "ab"}
ENTRIES = {
    i: AdvertisedDevice(id=AdvertisedID(i), device=DeviceID(i), health=Health.HEALTHY) for i in "ab"
}
RESOURCE = Resource(name=GPU, vendor="example", devices=tuple(ENTRIES.values()))
BOTH = Request(RESOURCE, ENTRIES, ["b", "a"])


class Desk:
    """An allocator, and what happened to it in order."""

    def __init__(self, error: Exception | None = None) -> None:
        self.steps: list[str] = []
        self._error = error
        self.sources = Sources(devices=DEVICES, granted=self._shares, vendor_edits=self._vendor)
        self.allocator = Allocator(lambda: self.sources, self._reserving)

    @asynccontextmanager
    async def _reserving(
        self, resource: Resource, entries: Sequence[AdvertisedDevice]
    ) -> AsyncIterator[None]:
        assert (resource, [entry.id for entry in entries]) == (RESOURCE, ["a", "b"])
        self.steps.append("reserved")
        try:
            yield
        except BaseException:
            self.steps.append("released")
            raise

    def _shares(
        self, resource: Resource, entries: Sequence[AdvertisedDevice], devices: Sequence[Device]
    ) -> Granted:
        assert (resource, [entry.id for entry in entries]) == (RESOURCE, ["a", "b"])
        assert devices == tuple(DEVICES.values())
        self.steps.append("shares")
        return Granted(edits=ContainerEdits(env={"SHARE": "1"}))

    async def _vendor(self, devices: Sequence[Device], shares: Granted) -> ContainerEdits:
        self.steps.append("vendor")
        if self._error is not None:
            raise self._error
        return ContainerEdits(env={**shares.edits.env, "IDS": ",".join(d.id for d in devices)})

    def encode(self, edits: ContainerEdits) -> str:
        self.steps.append("encoded")
        return edits.env["IDS"]


async def test_an_allocation_goes_its_way_and_is_recorded_with_its_ids_last() -> None:
    desk, records = Desk(), []

    def record(allocation: Allocation) -> None:
        desk.steps.append("recorded")
        records.append(allocation)

    desk.allocator.listen("test", record)
    assert await desk.allocator.allocate(BOTH, desk.encode) == "a,b"
    assert desk.steps == ["reserved", "shares", "vendor", "encoded", "recorded"]
    (allocation,) = records
    assert allocation.resource.name == GPU
    assert allocation.ids == ["a", "b"]
    assert [device.id for device in allocation.devices] == ["a", "b"]
    assert allocation.edits.env == {"SHARE": "1", "IDS": "a,b"}


async def test_a_listener_that_raises_costs_itself() -> None:
    desk, heard = Desk(), []

    def broken(_: Allocation) -> None:
        raise RuntimeError("disk full")

    desk.allocator.listen("audit", broken)
    desk.allocator.listen("history", lambda allocation: heard.append(allocation.ids))
    with capture_logs() as logs:
        assert await desk.allocator.allocate(BOTH, desk.encode) == "a,b"
    assert heard == [["a", "b"]]
    assert [(entry["event"], entry["function"]) for entry in logs] == [
        ("plugin_function_failed", "allocation listener audit")
    ]


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (CallTimeoutError("slow"), Refusal.DEADLINE),
        (VendorError("broken"), Refusal.FAILED),
        (AllocationError(Refusal.MISSING_NODE, "no node"), Refusal.MISSING_NODE),
    ],
)
async def test_a_failure_is_a_refusal_that_releases_and_tells_nobody(
    error: Exception, refusal: Refusal
) -> None:
    desk = Desk(error)
    heard: list[Allocation] = []
    desk.allocator.listen("test", heard.append)
    with pytest.raises(AllocationError) as refused:
        await desk.allocator.allocate(BOTH, desk.encode)
    assert refused.value.refusal is refusal
    assert desk.steps[-1] == "released"
    assert heard == []


async def test_an_answer_that_cannot_be_sent_holds_nothing() -> None:
    desk = Desk()
    heard: list[Allocation] = []
    desk.allocator.listen("test", heard.append)

    def encode(_: ContainerEdits) -> str:
        raise AllocationError(Refusal.FAILED, "cannot be sent")

    with pytest.raises(AllocationError, match="cannot be sent"):
        await desk.allocator.allocate(BOTH, encode)
    assert desk.steps[-1] == "released"
    assert heard == []


async def test_every_refusal_is_given_to_those_who_listen_to_refusals() -> None:
    desk, told = Desk(VendorError("broken")), list[tuple[Request, AllocationError]]()

    def broken(_: Request, __: AllocationError) -> None:
        raise RuntimeError("a listener")

    desk.allocator.listen_to_refusals("broken", broken)
    desk.allocator.listen_to_refusals("test", lambda *refusal: told.append(refusal))
    unknown = Request(RESOURCE, ENTRIES, ["c"])
    for request in (BOTH, unknown):
        with pytest.raises(AllocationError):
            await desk.allocator.allocate(request, desk.encode)
    assert [request for request, _ in told] == [BOTH, unknown]
    assert [error.refusal for _, error in told] == [Refusal.FAILED, Refusal.UNKNOWN]


async def test_an_unknown_id_reserves_nothing() -> None:
    desk = Desk()
    with pytest.raises(AllocationError) as refused:
        await desk.allocator.allocate(Request(RESOURCE, ENTRIES, ["z"]), desk.encode)
    assert refused.value.refusal is Refusal.UNKNOWN
    assert desk.steps == []


async def test_the_log_has_the_ids_of_each_allocation() -> None:
    desk = Desk()
    desk.allocator.listen("log", log_allocation)
    with capture_logs() as logs:
        await desk.allocator.allocate(BOTH, desk.encode)
        await asyncio.sleep(0)
    (entry,) = logs
    assert (entry["event"], entry["resource"]) == ("allocated", GPU)
    assert entry["devices"] == ["a", "b"]
