"""How often is looked, and what an operator is told of it."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec import field

from deviceplugin.discovery.loop import LoopOptions, VendorLoop
from deviceplugin.discovery.signs import ALONE_S, WITH_SIGNS_S, Signs, next_tick_s
from deviceplugin.host.uevents import isolated_from_uevents
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device
from deviceplugin.vendor import Finding
from tests.discovery.test_change_check import Quiet
from tests.rig import WAIT_S


@pytest.mark.parametrize(
    ("now_s", "wanted_s"),
    [(0.0, 10.0), (3.0, 10.0), (9.7, 10.0), (9.9, 20.0), (10.0, 20.0), (12345.6, 12350.0)],
)
def test_all_vendors_look_at_the_same_moments(now_s: float, wanted_s: float) -> None:
    assert next_tick_s(now_s, 10.0, 0.2) == wanted_s


@pytest.mark.parametrize(
    ("uevents", "watched", "interval_s"),
    [
        (None, None, ALONE_S),
        (False, None, ALONE_S),
        (False, True, ALONE_S),
        (True, False, ALONE_S),
        (True, None, WITH_SIGNS_S),
        (True, True, WITH_SIGNS_S),
    ],
)
def test_it_is_looked_less_often_where_changes_are_told(
    uevents: bool | None, watched: bool | None, interval_s: float
) -> None:
    signs = Signs()
    signs.uevents.set(uevents)
    assert signs.interval_s(watched) == interval_s


@pytest.mark.parametrize(
    ("uevents", "watched", "told"),
    [
        (None, {}, ""),
        (True, {"acme": True}, ""),
        (False, {}, "the kernel's events are not available"),
        (True, {"b": False, "a": False, "c": True}, "the driver of a, b reports no events"),
    ],
)
def test_the_operator_is_told_where_it_is_looked_more_often(
    uevents: bool | None, watched: Mapping[str, bool], told: str
) -> None:
    signs = Signs()
    signs.uevents.set(uevents)
    notice = signs.notice(watched)
    assert notice == (f"changes are looked for every 5 s: {told}" if told else "")


@pytest.mark.parametrize(
    ("uid_map", "isolated"),
    [("         0          0 4294967295\n", False), ("0 100000 65536\n", True), (None, False)],
    ids=["the initial one", "another", "unknown"],
)
def test_a_user_namespace_of_its_own_hears_no_uevents(
    uid_map: str | None, isolated: bool, tmp_path: Path
) -> None:
    path = tmp_path / "uid_map"
    if uid_map is not None:
        path.write_text(uid_map)
    assert isolated_from_uevents(path) is isolated


class Slow(Quiet):
    """A vendor whose glance can hang, and which notes who asks."""

    threads: list[str] = field(default_factory=list)
    gate: threading.Event | None = None

    def unchanged(self) -> bool:
        self.threads.append(threading.current_thread().name)
        if self.gate is not None:
            self.gate.wait()
        return super().unchanged()

    def probe_health(self, device: Device) -> Finding:
        self.threads.append(threading.current_thread().name)
        return super().probe_health(device)


async def test_a_glance_and_the_probes_are_one_call_of_one_thread() -> None:
    vendor = Slow()
    loop = VendorLoop(vendor, InventoryStore(lambda: 0.0), LoopOptions())
    await loop.look()
    vendor.threads.clear()
    await loop.look()
    assert vendor.threads == ["acme-probe", "acme-probe"]
    loop.stop()


async def test_a_glance_does_not_run_beside_a_call_of_the_driver_thread() -> None:
    vendor, gate = Slow(), threading.Event()
    loop = VendorLoop(vendor, InventoryStore(lambda: 0.0), LoopOptions())
    await loop.look()
    vendor.threads.clear()
    hanging = asyncio.create_task(loop.call(gate.wait, WAIT_S))
    await asyncio.sleep(0)
    look = asyncio.create_task(loop.look())
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(look, hanging)
    assert vendor.asked[-2:] == ["discover", "probe"]
    loop.stop()
