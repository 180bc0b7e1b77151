"""One vendor's discoveries: asks again when something happens, at the latest after ten seconds.

Whatever the vendor does, raise, hang or lie, costs its own devices only.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

import structlog
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.discovery.admission import NotAdmitted, admitted, checked, checked_specs
from deviceplugin.discovery.change_check import ChangeCheck
from deviceplugin.discovery.probe import Prober
from deviceplugin.discovery.signs import ALONE_S, next_tick_s
from deviceplugin.discovery.watch import SETTLE_S, HealthWatch
from deviceplugin.errors import (
    CallTimeoutError,
    DevicePluginError,
    ExhaustedError,
    FilesError,
    UnavailableError,
    VendorError,
)
from deviceplugin.faults import DRIVER_ABSENT, DRIVER_FAILED, STALE_FILES
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import CdiSpec, Device, DeviceID, Discovery, Fault, VendorStatus
from deviceplugin.runtime.threads import DriverThread
from deviceplugin.vendor import CdiSource, Closable, Vendor

log = structlog.get_logger()

BURST_S = 0.2
DISCOVERY_S = 10.0
CLOSE_S = 5.0

T = TypeVar("T")
WriteFiles = Callable[[str, Sequence[CdiSpec]], None]


class LoopOptions(Struct, frozen=True, kw_only=True):
    """Callbacks of a vendor's discovery loop, and the vendor's priority.

    `write_files` writes what must be there before a device is announced; it runs on the vendor's
    thread. `discovered(vendor, seconds)` gets the time that each discovery took, `tracker` every
    health signal. `order` has all vendors: an id or a resource name that two report is the earlier
    one's. `clock` gives seconds. A probe of one device may take `call_deadline_s` seconds; faults
    that an ended health watch reported wait `settle_s` seconds for the next watch to report them.
    `interval_s(watched)` is the time between two looks to which nothing gave reason.
    """

    write_files: WriteFiles = lambda *_: None
    discovered: Callable[[str, float], None] = lambda *_: None
    tracker: FaultTracker | None = None
    order: Sequence[str] = ()
    clock: Callable[[], float] = time.monotonic
    call_deadline_s: float = HealthSection().call_deadline_s
    settle_s: float = SETTLE_S
    interval_s: Callable[[bool | None], float] = lambda _: ALONE_S


class VendorLoop:
    """Keeps the store's devices and faults of one vendor true."""

    def __init__(self, vendor: Vendor, store: InventoryStore, options: LoopOptions) -> None:
        self.vendor = vendor
        self.looked = asyncio.Event()
        self.files_problem = ""  # why files that devices need cannot be written
        self._ended = False
        self._store, self._options = store, options
        self._refused: frozenset[NotAdmitted] = frozenset()
        self._thread = DriverThread(f"{vendor.name}-driver")
        self._wake = asyncio.Event()
        self._quiet = asyncio.Lock()
        self._written: tuple[Device, ...] | None = None
        self._devices: Sequence[Device] = ()
        self._tracker = options.tracker or FaultTracker(store, FaultPolicy(), None)
        self._watch = HealthWatch(
            vendor, self._tracker, self._wake, options.clock, options.settle_s
        )
        self._prober = Prober(vendor, options.call_deadline_s)
        self._check = ChangeCheck(vendor, options.clock)

    @property
    def watched(self) -> bool | None:
        """Whether the driver tells of changes; None where the vendor has no way to hear it."""
        return self._watch.alive

    def wake(self) -> None:
        """Something may have changed: discover soon."""
        self._wake.set()

    async def run(self) -> None:
        """A discovery at every sign of change, until cancelled."""
        while True:
            async with self._quiet:
                await self.look()
                self._watch.follow(self._devices)
            await self._pause()

    @contextlib.asynccontextmanager
    async def changing(self, *, released: bool) -> AsyncIterator[None]:
        """No discovery runs while the hardware changes, and one has ended when it has; `released`,
        nothing here has the driver open meanwhile."""
        async with self._quiet:
            if released:
                await self._watch.rest()
            if released and isinstance(self.vendor, Closable):
                await self._thread.call(self.vendor.close, CLOSE_S)
            try:
                yield
            finally:
                self._check.forget()
                await self.look()

    async def look(self) -> None:
        """A discovery within its deadline, whatever comes of it, or a check that spares it."""
        if self._wake.is_set():
            self._check.forget()
        self._wake.clear()
        self._check.expect(self._listed())
        started = time.perf_counter()
        try:
            if self._check.due and await self._glanced():
                return
            looked = await self._thread.call(self._look, DISCOVERY_S)
        except DevicePluginError as error:
            self._failed(error)
        else:
            await self._found(*looked)
        self.looked.set()
        self._options.discovered(self.vendor.name, time.perf_counter() - started)

    async def _glanced(self) -> bool:
        """Whether nothing has changed; then health is asked too, in the same call of a thread where
        there are probes."""
        devices = self._devices
        if not self._prober.can_glance:
            if not await self._thread.call(self._check.unchanged, DISCOVERY_S):
                return False
            await self._probe(devices)
            return True
        if self._thread.busy:
            return False
        findings = await self._prober.glance(devices, self._check.unchanged)
        if findings is not None:
            self._tracker.record_probe(self.vendor.name, devices, findings)
        return findings is not None

    async def _found(
        self, discovery: Discovery, refused: tuple[NotAdmitted, ...], problem: FilesError | None
    ) -> None:
        found = self._admitted(discovery, refused)
        await self._probe(found.devices)
        self._succeeded(found, problem)
        if problem or found.faults or self._refused:
            self._check.forget()
        else:
            self._check.settle(self._listed())

    def _listed(self) -> Sequence[DeviceID]:
        devices = self._store.current.devices.values()
        return [device.id for device in devices if device.vendor == self.vendor.name]

    async def _probe(self, devices: Sequence[Device]) -> None:
        """Ask for their health before they are listed: none with a fault is ever listed Healthy."""
        findings = await self._prober.probe(devices)
        self._tracker.record_probe(self.vendor.name, devices, findings)

    async def call(self, function: Callable[[], T], deadline_s: float) -> T:
        """The result of `function`, run on the vendor's thread between its other calls.

        Raises VendorError where it fails or misses the deadline (seconds).
        """
        return await self._thread.call(function, deadline_s)

    def stop(self) -> None:
        """Let the health watch end; later events are dropped."""
        self._ended = True
        self._watch.end()

    async def idle(self) -> None:
        """Wait until no discovery runs, at most for its deadline."""
        with contextlib.suppress(CallTimeoutError):
            await self._thread.call(lambda: None, DISCOVERY_S)

    async def close(self) -> None:
        """Stop, let the driver go and end the threads; one that hangs ends when its call does."""
        self.stop()
        if isinstance(self.vendor, Closable):
            try:
                await self._thread.call(self.vendor.close, CLOSE_S)
            except VendorError as error:
                log.warning("vendor_not_closed", vendor=self.vendor.name, error=str(error))
        self._thread.close()
        self._prober.close()

    async def _pause(self) -> None:
        ended = time.monotonic()
        interval_s = self._options.interval_s(self.watched)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(next_tick_s(ended, interval_s, BURST_S)):
                await self._wake.wait()
        if (early_s := ended + BURST_S - time.monotonic()) > 0:
            await asyncio.sleep(early_s)

    def _look(self) -> tuple[Discovery, tuple[NotAdmitted, ...], FilesError | None]:
        """What a discovery finds, with its files written."""
        discovery, refused = checked(self.vendor.name, self.vendor.discover())
        known = self._ended or discovery.devices == self._written
        if known or not isinstance(self.vendor, CdiSource):
            return discovery, refused, None
        try:
            specs, strange = checked_specs(self.vendor.cdi_specs(discovery.devices))
            self._options.write_files(self.vendor.name, specs)
        except FilesError as error:
            return discovery, refused, error
        self._written = discovery.devices
        return discovery, refused + strange, None

    def _admitted(self, discovery: Discovery, refused: tuple[NotAdmitted, ...]) -> Discovery:
        """The discovery without what is another vendor's; weaker vendors give way at once."""
        devices = self._store.current.devices.values()
        admission = admitted(self.vendor.name, discovery, devices, self._options.order)
        for vendor, kept in admission.displaced.items():
            log.error("vendor_displaced", vendor=vendor, by=self.vendor.name)
            self._store.set_devices(vendor, kept)
        every = frozenset(refused + admission.refused)
        for one in sorted(every - self._refused, key=lambda r: (r.device, r.reason)):
            name = self.vendor.name
            about = {"vendor": name, "device": one.device, "reason": one.reason}
            log.error("vendor_conflict", was="claim_refused", **about)
        self._refused = every
        return replace(discovery, devices=admission.devices, faults=admission.faults)

    def _succeeded(self, discovery: Discovery, problem: FilesError | None) -> None:
        """Take it over; without their files new devices are not announced, gone ones still go."""
        name = self.vendor.name
        self.files_problem = str(problem or "")
        known = self._store.current.devices
        devices = [d for d in discovery.devices if problem is None or d.id in known]
        self._store.set_faults(f"{name}:driver", ())
        self._store.set_faults(f"{name}:discovery", discovery.faults)
        self._store.set_faults(f"{name}:files", self._stale(devices, problem))
        self._store.set_devices(name, devices)
        self._store.set_status(
            VendorStatus(
                name=name,
                driver_version=discovery.driver_version,
                library_version=discovery.library_version,
                error=str(problem) if problem else self._prober.problem,
                notes=discovery.notes,
            )
        )
        self._devices = devices

    def _stale(self, devices: Sequence[Device], problem: FilesError | None) -> list[Fault]:
        """Devices whose nodes are not those in their files, which cannot be written."""
        before = {device.id: device.nodes for device in self._written or ()}
        changed = [d for d in devices if before.get(d.id, d.nodes) != d.nodes]
        return [_stale_files(device, problem) for device in changed if problem]

    def _failed(self, error: DevicePluginError) -> None:
        """Keep the last devices, each faulted: a pod may hold them, and they may come back."""
        name = self.vendor.name
        self._check.forget()
        if isinstance(error, ExhaustedError):  # it says nothing about the devices: they stay
            self._store.set_status(VendorStatus(name=name, error=str(error)))
            return
        known = [d for d in self._store.current.devices.values() if d.vendor == name]
        self._store.set_faults(f"{name}:driver", [_fault(device, error) for device in known])
        self._store.set_status(VendorStatus(name=name, error=str(error)))
        self._devices = []
        if isinstance(error, UnavailableError):
            self._check.settle(self._listed())


async def look_once(vendor: Vendor, store: InventoryStore, order: Sequence[str] = ()) -> None:
    """One discovery into the store, without files and without a health watch."""
    loop = VendorLoop(vendor, store, LoopOptions(order=order))
    await loop.look()
    loop.stop()


def _stale_files(device: Device, problem: FilesError) -> Fault:
    return STALE_FILES.fault(device.id, f"{device.vendor}.files", str(problem))


def _fault(device: Device, error: DevicePluginError) -> Fault:
    common = DRIVER_ABSENT if isinstance(error, UnavailableError) else DRIVER_FAILED
    return common.fault(device.id, f"{device.vendor}.driver", str(error))
