"""What of a round goes into history."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.telemetry.history import HOUR_S, Series
from deviceplugin.telemetry.keeping import Keeping
from deviceplugin.telemetry.model import DeviceView, Labels, Owner, Reading, TelemetryView

START = 1_700_000_000 - 1_700_000_000 % HOUR_S
GPU, PART = DeviceID("GPU-0"), DeviceID("MIG-0")
CORRECTED: Labels = (("kind", "corrected"), ("since", "driver"))
WHO = (Owner(namespace="a", pod="b", container="c"), ResourceName("nvidia.com/gpu"))


def device(name: DeviceID, parent: DeviceID | None = None) -> Device:
    return Device(id=name, vendor="nvidia", product="P", parent=parent)


def seen(
    values: Mapping[tuple[str, Labels], float],
    *,
    up: bool = True,
    holders: tuple[tuple[Owner, ResourceName], ...] = (),
) -> DeviceView:
    readings = tuple(
        Reading(metric=metric, device=GPU, value=value, at=START, labels=labels)
        for (metric, labels), value in values.items()
    )
    return DeviceView(device=device(GPU), up=up, seen_at=START, readings=readings, holders=holders)


class Kept:
    """One round a minute."""

    def __init__(self, folder: Path) -> None:
        self.keeping = Keeping(folder)
        self.inventory = InventoryStore(lambda: START).current
        self.rounds = 0

    def round(self, *views: DeviceView) -> None:
        view = TelemetryView(interval_s=60, devices={one.device.id: one for one in views})
        at = START + 60 * self.rounds
        self.rounds += 1
        asyncio.run(self.keeping.add(view, self.inventory, (), at))

    def means(self, metric: str) -> list[float]:
        asyncio.run(self.keeping.close(START + 60 * self.rounds))
        points = self.keeping.history.query(Series(metric, GPU), START, START + HOUR_S)
        self.keeping.history.close()
        return [point.mean for point in points]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    one = Kept(tmp_path)
    yield one
    one.keeping.history.close()


def test_of_a_counter_its_growth_is_kept_and_a_counter_that_starts_anew_has_not_grown(
    kept: Kept,
) -> None:
    for value in (5.0, 7.0, 7.0, 1.0, 4.0):
        kept.round(seen({("ecc_errors_total", CORRECTED): value}))
    assert kept.means("corrected_errors") == [2, 0, 0, 3]


def test_what_a_counter_grew_by_while_the_gpu_was_silent_is_not_lost(kept: Kept) -> None:
    kept.round(seen({("pcie_replays_total", ()): 1.0}))
    kept.round(seen({}, up=False))
    kept.round(seen({("pcie_replays_total", ()): 9.0}))
    assert kept.means("pcie_replays") == [8]
    assert kept.means("answered") == [1, 0, 1]


def test_links_are_summed(kept: Kept) -> None:
    for value in (1.0, 3.0):
        kinds = ("replay", "recovery")
        kept.round(
            seen({("link_errors_total", (("link", "nvlink"), ("kind", k))): value for k in kinds})
        )
    assert kept.means("link_errors") == [4]


def test_a_gpu_is_held_where_its_partition_is(kept: Kept) -> None:
    part = DeviceView(device=device(PART, GPU), up=True, seen_at=START)
    kept.round(seen({}), part)
    kept.round(seen({}), DeviceView(device=device(PART, GPU), up=True, holders=(WHO,)))
    kept.round(seen({}, holders=(WHO,)), part)
    assert kept.means("held") == [0, 1, 1]


def test_banks_with_few_spare_rows_are_counted_and_unknown_is_no_zero(kept: Kept) -> None:
    kept.round(seen({}))
    banks = {"max": 600.0, "low": 2.0, "none": 1.0}
    kept.round(seen({("row_banks", (("spare", s),)): n for s, n in banks.items()}))
    assert kept.means("worn_banks") == [3]
    assert kept.means("banks") == [603]
