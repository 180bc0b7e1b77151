"""What a vendor measures reaches the policies that choose by it, and is asked for them alone."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from deviceplugin.config.schema import decode_sections
from deviceplugin.discovery.loop import LoopOptions, VendorLoop
from deviceplugin.discovery.readings import ReadingsPoll
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import ContainerEdits, Device, DeviceID, Discovery, Preference
from deviceplugin.placement.section import SECTIONS
from deviceplugin.placement.service import Placement, Sources, settings_of
from deviceplugin.vendor import Reading
from tests.placement import boxes
from tests.placement.boxes import Box

BOX = Box(boxes.pcie_only(4))
MEASURED = {
    DeviceID("g00"): Reading(utilisation_percent=90.0, temperature_c=50.0, throttled=False),
    DeviceID("g01"): Reading(utilisation_percent=80.0, temperature_c=40.0, throttled=True),
    DeviceID("g02"): Reading(utilisation_percent=10.0, temperature_c=70.0, throttled=False),
    DeviceID("g03"): Reading(utilisation_percent=30.0, temperature_c=45.0, throttled=False),
}


class Measuring:
    """A vendor that reports readings."""

    name = "example"

    def __init__(self) -> None:
        self.answer: Any = MEASURED
        self.asked: list[Sequence[Device]] = []

    def discover(self) -> Discovery:
        return Discovery(devices=tuple(BOX.inventory.devices.values()))

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        return ContainerEdits()

    def readings(self, devices: Sequence[Device]) -> Mapping[DeviceID, Reading]:
        self.asked.append(devices)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]  # whatever a plug-in says


class Node:
    """A vendor, its loop, what it measures, and the placement that is told."""

    def __init__(self, tmp_path: Path, vendor: Any, policy: str | None) -> None:
        store = InventoryStore(lambda: 0.0)
        sections = decode_sections({"scheduling": {"policy": policy}}, SECTIONS)
        sources = Sources(readings=lambda: self.poll.latest)
        settings = settings_of(sections, "node-a")
        self.placement = Placement(Host(tmp_path), settings, tmp_path, sources)
        self.loop = VendorLoop(vendor, store, LoopOptions())
        self.poll = ReadingsPoll(
            [self.loop], lambda: self.placement.uses_readings, lambda: BOX.inventory
        )

    async def choice(self, size: int = 1) -> tuple[str, ...]:
        await self.placement.look(BOX.inventory)
        await self.placement.lay_out([BOX.resource])
        await self.poll.ask()
        asked = Preference(available=frozenset(BOX.ids), must_include=frozenset(), size=size)
        return tuple(self.placement.prefer(BOX.resource, asked))


@pytest.fixture
def vendor() -> Measuring:
    return Measuring()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("fair_share", ("g02", "g03")),
        ("real_time", ("g00", "g03")),
        ("round_robin", ("g00", "g01")),
    ],
)
async def test_policies_choose_by_what_a_vendor_measures(
    tmp_path: Path, vendor: Measuring, policy: str, expected: tuple[str, ...]
) -> None:
    node = Node(tmp_path, vendor, policy)
    assert await node.choice(2) == expected
    await node.loop.close()


async def test_nobody_is_asked_while_no_policy_needs_it(tmp_path: Path, vendor: Measuring) -> None:
    node = Node(tmp_path, vendor, None)
    await node.choice()
    assert node.poll.latest == {}
    assert vendor.asked == []
    await node.loop.close()


async def test_a_vendor_that_measures_nothing_is_not_asked(tmp_path: Path) -> None:
    silent = Measuring()
    silent.readings = None  # type: ignore[method-assign,assignment]  # as one without the method
    node = Node(tmp_path, silent, "fair_share")
    assert await node.choice() == ("g00",)
    await node.loop.close()


async def test_what_is_no_reading_of_an_own_device_is_left_out(
    tmp_path: Path, vendor: Measuring
) -> None:
    good = Reading(utilisation_percent=nan, temperature_c=30.0)
    vendor.answer = {"g03": good, "elsewhere": good, "g02": 7}
    node = Node(tmp_path, vendor, "real_time")
    assert await node.choice() == ("g03",)
    assert node.poll.latest == {"g03": Reading(temperature_c=30.0)}
    await node.loop.close()


async def test_a_vendor_that_fails_has_no_readings_and_is_told_once(
    tmp_path: Path, vendor: Measuring
) -> None:
    node = Node(tmp_path, vendor, "fair_share")
    await node.choice()
    assert node.poll.latest != {}
    vendor.answer = KeyError("bug")
    with capture_logs() as logs:
        assert await node.choice() == ("g00",)
        await node.poll.ask()
    assert [line["event"] for line in logs if line["event"] == "readings_failed"] == [
        "readings_failed"
    ]
    await node.loop.close()


async def test_only_whole_devices_are_asked_about(vendor: Measuring) -> None:
    node = Box(boxes.parts(boxes.pcie_only(2), 2)).inventory
    loop = VendorLoop(vendor, InventoryStore(lambda: 0.0), LoopOptions())
    await ReadingsPoll([loop], lambda: True, lambda: node).ask()
    assert [device.id for device in vendor.asked[0]] == ["g00", "g01"]
    await loop.close()
