"""A look at an unchanged node is a glance; whatever may have changed is discovered."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.discovery.change_check import FULL_S
from deviceplugin.discovery.loop import LoopOptions, VendorLoop
from deviceplugin.errors import DiscoveryError, FilesError, UnavailableError
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import (
    CdiSpec,
    ContainerEdits,
    Device,
    DeviceID,
    Discovery,
    Fault,
    FaultClass,
)
from deviceplugin.vendor import Finding
from tests.rig import WAIT_S

GPU = Device(id=DeviceID("gpu-0"), vendor="acme")


class Quiet(Struct):
    """A vendor of one GPU that counts what it is asked."""

    name: str = "acme"
    devices: tuple[Device, ...] = (GPU,)
    faults: tuple[Fault, ...] = ()
    error: Exception | None = None
    same: bool = True
    asked: list[str] = field(default_factory=list)
    returns: threading.Event | None = None  # what a glance waits for

    def discover(self) -> Discovery:
        self.asked.append("discover")
        if self.error:
            raise self.error
        return Discovery(devices=self.devices, faults=self.faults)

    def unchanged(self) -> bool:
        self.asked.append("glance")
        if self.returns:
            self.returns.wait(WAIT_S)
        return self.same

    def probe_health(self, device: Device) -> Finding:
        self.asked.append("probe")
        return Finding()

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        return ContainerEdits()

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        return ()


class Scene:
    """The vendor, its loop, a clock in our hands, and what writing files raises."""

    def __init__(self, vendor: Quiet | None = None) -> None:
        self.vendor = vendor or Quiet()
        self.now_s = 1000.0
        self.files: FilesError | None = None
        self.store = InventoryStore(lambda: 0.0)
        around = LoopOptions(
            write_files=self._write,
            clock=lambda: self.now_s,
            order=("best", "acme"),
            call_deadline_s=0.5,
        )
        self.loop = VendorLoop(self.vendor, self.store, around)

    def _write(self, vendor: str, specs: Sequence[CdiSpec]) -> None:
        if self.files:
            raise self.files

    async def look(self) -> list[str]:
        """What the vendor was asked at one look."""
        self.vendor.asked.clear()
        await self.loop.look()
        return list(self.vendor.asked)

    def listed(self) -> set[str]:
        return set(self.store.current.devices)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    scene.loop.stop()


async def test_an_unchanged_node_is_not_discovered_again_but_its_health_is_asked(
    scene: Scene,
) -> None:
    assert await scene.look() == ["discover", "probe"]
    for _ in range(3):
        assert await scene.look() == ["glance", "probe"]
    assert scene.listed() == {"gpu-0"}


async def test_what_a_glance_sees_is_discovered_at_once(scene: Scene) -> None:
    await scene.look()
    scene.vendor.same, scene.vendor.devices = False, ()
    assert await scene.look() == ["glance", "discover"]
    assert scene.listed() == set()


async def test_what_no_glance_sees_is_discovered_after_a_minute(scene: Scene) -> None:
    await scene.look()
    scene.vendor.devices = ()
    scene.now_s += FULL_S - 0.1
    assert "discover" not in await scene.look()
    scene.now_s += 0.1
    assert await scene.look() == ["discover"]
    assert scene.listed() == set()


async def test_a_wake_is_followed_by_a_discovery(scene: Scene) -> None:
    await scene.look()
    scene.loop.wake()
    assert await scene.look() == ["discover", "probe"]
    assert await scene.look() == ["glance", "probe"]


@pytest.mark.parametrize("error", [DiscoveryError("x"), ValueError("x")], ids=["told", "bug"])
async def test_after_a_failure_every_look_is_a_discovery(scene: Scene, error: Exception) -> None:
    scene.vendor.error = error
    await scene.look()
    assert await scene.look() == ["discover"]
    scene.vendor.error = None
    assert await scene.look() == ["discover", "probe"]
    assert await scene.look() == ["glance", "probe"]
    assert scene.store.current.faults == {}


async def test_a_failure_in_between_ends_the_glances(scene: Scene) -> None:
    await scene.look()
    scene.vendor.error = DiscoveryError("x")
    scene.loop.wake()
    await scene.look()
    assert await scene.look() == ["discover"]


async def test_the_absence_of_hardware_is_glanced_at_too(scene: Scene) -> None:
    scene.vendor.error = UnavailableError("no Acme GPU")
    assert await scene.look() == ["discover"]
    assert await scene.look() == ["glance"]
    assert scene.store.current.vendors["acme"].error == "no Acme GPU"
    scene.vendor.same, scene.vendor.error = False, None
    assert await scene.look() == ["glance", "discover", "probe"]


async def test_while_a_glance_hangs_no_gpu_is_well(scene: Scene) -> None:
    await scene.look()
    scene.vendor.returns = threading.Event()
    assert await scene.look() == ["glance", "discover"]
    for _ in range(2):  # a read that hangs is not asked again
        assert [fault.code for fault in scene.store.current.faults[GPU.id]] == ["no_answer"]
        assert "check for changes" in (scene.store.current.vendors["acme"].error or "")
        scene.loop.wake()
        assert await scene.look() == ["discover"]
    scene.vendor.returns.set()
    async with asyncio.timeout(WAIT_S):
        while scene.store.current.faults:
            scene.loop.wake()
            await scene.look()
    assert scene.store.current.vendors["acme"].error is None


async def test_after_a_fault_every_look_is_a_discovery(scene: Scene) -> None:
    said = Fault(device=GPU.id, source="acme.x", code="x", reason="y", action="z")
    fault = replace(said, kind=FaultClass.WARN)
    scene.vendor.faults = (fault,)
    await scene.look()
    assert await scene.look() == ["discover", "probe"]


async def test_files_that_could_not_be_written_are_tried_again(scene: Scene) -> None:
    scene.files = FilesError("full")
    await scene.look()
    assert scene.listed() == set()
    scene.files = None
    assert await scene.look() == ["discover", "probe"]
    assert scene.listed() == {"gpu-0"}


async def test_a_device_that_another_vendor_had_claimed_comes_back_with_the_next_look(
    scene: Scene,
) -> None:
    await scene.look()
    best = VendorLoop(
        Quiet("best", (Device(id=GPU.id, vendor="best"),)),
        scene.store,
        LoopOptions(order=("best", "acme")),
    )
    await best.look()
    assert [d.vendor for d in scene.store.current.devices.values()] == ["best"]
    assert await scene.look() == ["discover"]
    scene.store.set_devices("best", ())
    assert await scene.look() == ["discover", "probe"]
    assert [d.vendor for d in scene.store.current.devices.values()] == ["acme"]
    best.stop()


async def test_a_vendor_without_glances_is_discovered_at_every_look() -> None:
    scene = Scene(_without_glances())
    await scene.look()
    assert await scene.look() == ["discover", "probe"]
    scene.loop.stop()


def _without_glances() -> Quiet:
    class Plain(Quiet):
        unchanged: Callable[[], bool] = None  # type: ignore[assignment]  # a vendor that lacks it

    return Plain()
