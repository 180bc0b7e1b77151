"""While hardware changes nothing looks at it, and where its mode changes nothing has it open."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from deviceplugin.discovery.loop import LoopOptions, VendorLoop
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import ContainerEdits, Device, DeviceID, Discovery
from deviceplugin.vendor import HealthReport
from tests.rig import WAIT_S


class Watched:
    """A vendor with a health watch and a library; `seen` is what it was asked for, in order."""

    name = "a"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.watching = threading.Event()

    def discover(self) -> Discovery:
        self.seen.append("discover")
        return Discovery(devices=(Device(id=DeviceID("A"), vendor="a"),))

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        return ContainerEdits()

    def watch_health(
        self,
        devices: Sequence[Device],
        report: HealthReport,
        stop: threading.Event,
    ) -> None:
        self.watching.set()
        stop.wait()
        self.seen.append("watch ends")

    def close(self) -> None:
        self.seen.append("close")


@pytest.mark.parametrize(
    ("released", "before"), [(True, ["watch ends", "close"]), (False, [])], ids=["mode", "instance"]
)
async def test_a_mode_changes_with_the_library_closed_and_a_look_follows(
    released: bool, before: list[str]
) -> None:
    vendor = Watched()
    loop = VendorLoop(vendor, InventoryStore(lambda: 0.0), LoopOptions())
    running = asyncio.create_task(loop.run())
    try:
        assert await asyncio.to_thread(vendor.watching.wait, WAIT_S)
        vendor.seen.clear()
        async with loop.changing(released=released):
            loop.wake()  # what happens meanwhile is looked at afterwards
            assert vendor.seen == before
        assert vendor.seen == [*before, "discover"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await loop.close()
