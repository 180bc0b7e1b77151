"""One vendor's discoveries: asks again when something happens, at the latest after five seconds.

Whatever the vendor does, raise, hang or lie, costs its own devices only.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from deviceplugin.errors import FilesError, UnavailableError, VendorError
from deviceplugin.inventory import InventoryStore
from deviceplugin.model import Device, Discovery, Fault, FaultClass, VendorStatus
from deviceplugin.supervise import DriverThread, start_guarded
from deviceplugin.vendor import CdiSource, HealthMonitor, Vendor

log = structlog.get_logger()

INTERVAL_S = 5.0
BURST_S = 0.2
DISCOVERY_S = 10.0

WriteFiles = Callable[[CdiSource, Sequence[Device]], None]


class VendorLoop:
    """Keeps the store's devices and faults of one vendor true.

    `write_files` writes what must be there before a device is announced; it runs on the vendor's
    thread. `discovered(vendor, seconds)` is told each discovery's time.
    """

    def __init__(
        self,
        vendor: Vendor,
        store: InventoryStore,
        write_files: WriteFiles,
        discovered: Callable[[str, float], None],
    ) -> None:
        self.vendor = vendor
        self.looked = False
        self._store, self._write_files, self._discovered = store, write_files, discovered
        self._thread = DriverThread(f"{vendor.name}-driver")
        self._wake = asyncio.Event()
        self._written: tuple[Device, ...] | None = None
        self._devices: Sequence[Device] = ()
        self._watch = _HealthWatch(vendor, store, self._wake)

    def wake(self) -> None:
        """Something may have changed: discover soon."""
        self._wake.set()

    async def once(self) -> None:
        """One discovery, then the wait for the next sign of change."""
        await self.look()
        self._watch.follow(self._devices)
        await self._pause()

    async def look(self) -> None:
        """One discovery, within its deadline, whatever comes of it."""
        started = time.perf_counter()
        try:
            discovery, problem = await self._thread.call(self._look, DISCOVERY_S)
        except VendorError as error:
            self._failed(error)
        else:
            self._succeeded(discovery, problem)
        self.looked = True
        self._discovered(self.vendor.name, time.perf_counter() - started)

    def stop(self) -> None:
        """Let the health watch end."""
        self._watch.stop()

    async def _pause(self) -> None:
        await asyncio.sleep(BURST_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL_S - BURST_S):
                await self._wake.wait()
        self._wake.clear()

    def _look(self) -> tuple[Discovery, FilesError | None]:
        discovery = self.vendor.discover()
        if not isinstance(self.vendor, CdiSource) or discovery.devices == self._written:
            return discovery, None
        try:
            self._write_files(self.vendor, discovery.devices)
        except FilesError as error:
            return discovery, error
        self._written = discovery.devices
        return discovery, None

    def _succeeded(self, discovery: Discovery, problem: FilesError | None) -> None:
        """Take it over; without their files new devices are not announced, gone ones still go."""
        name = self.vendor.name
        known = self._store.current.devices
        devices = [
            device
            for device in discovery.devices
            if self._own(device) and (problem is None or device.id in known)
        ]
        self._store.set_faults(f"{name}:driver", ())
        self._store.set_faults(f"{name}:discovery", discovery.faults)
        self._store.set_devices(name, devices)
        self._store.set_status(
            VendorStatus(
                name=name,
                driver_version=discovery.driver_version,
                library_version=discovery.library_version,
                error=str(problem) if problem else None,
            )
        )
        self._devices = devices

    def _own(self, device: Device) -> bool:
        """A vendor may speak of its own devices only, and not under another's id."""
        holder = self._store.current.devices.get(device.id)
        ours = device.vendor == self.vendor.name
        if ours and (holder is None or holder.vendor == self.vendor.name):
            return True
        log.error("foreign_device", vendor=self.vendor.name, device=device.id)
        return False

    def _failed(self, error: VendorError) -> None:
        """Keep the last devices, each faulted: a pod may hold them, and they may come back."""
        name = self.vendor.name
        known = [d for d in self._store.current.devices.values() if d.vendor == name]
        self._store.set_faults(f"{name}:driver", [_fault(device, error) for device in known])
        self._store.set_status(VendorStatus(name=name, error=str(error)))
        self._devices = []


async def look_once(vendor: Vendor, store: InventoryStore) -> None:
    """One discovery into the store, without files and without a health watch."""
    loop = VendorLoop(vendor, store, lambda *_: None, lambda *_: None)
    await loop.look()
    loop.stop()


class _HealthWatch:
    """The vendor's health monitor on its own thread, started anew when the devices change."""

    def __init__(self, vendor: Vendor, store: InventoryStore, wake: asyncio.Event) -> None:
        self._vendor, self._store, self._wake = vendor, store, wake
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._devices: Sequence[Device] = ()

    def follow(self, devices: Sequence[Device]) -> None:
        """Watch exactly these devices, none of them while the driver cannot be asked."""
        monitor = self._vendor
        if not devices or not isinstance(monitor, HealthMonitor):
            self.stop()
            return
        alive = self._thread is not None and self._thread.is_alive()
        if alive and devices == self._devices:
            return
        self.stop()
        self._stop, self._devices = threading.Event(), devices
        watch = partial(monitor.watch_health, devices, self, self._stop)
        self._thread = start_guarded(f"{self._vendor.name}-health", watch)

    def stop(self) -> None:
        """Ask the thread to end; it is not waited for."""
        self._stop.set()
        self._thread = None

    def faults(self, source: str, faults: Sequence[Fault]) -> None:
        """HealthReport: the whole set of a source."""
        reporter = f"{self._vendor.name}:{source}"
        self._loop.call_soon_threadsafe(self._store.set_faults, reporter, tuple(faults))

    def rediscover(self) -> None:
        """HealthReport: look now."""
        self._loop.call_soon_threadsafe(self._wake.set)


def _fault(device: Device, error: VendorError) -> Fault:
    absent = isinstance(error, UnavailableError)
    return Fault(
        device=device.id,
        source=f"{device.vendor}.driver",
        code="driver_absent" if absent else "driver_failed",
        reason=str(error),
        action="load the driver" if absent else "see the vendor's messages in the kernel log",
        kind=FaultClass.REBOOT,
    )
