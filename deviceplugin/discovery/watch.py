"""A vendor's health monitor on a thread of its own, and what it may tell."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from functools import partial

from deviceplugin.discovery.admission import fault_problem
from deviceplugin.errors import VendorError
from deviceplugin.health.tracker import HealthDesk
from deviceplugin.model import Device, Fault
from deviceplugin.runtime.guard import start_guarded
from deviceplugin.vendor import HealthMonitor, Vendor


class HealthWatch:
    """The vendor's health monitor on its own thread, started anew when the devices change."""

    def __init__(self, vendor: Vendor, desk: HealthDesk, wake: asyncio.Event) -> None:
        self._vendor, self._desk, self._wake = vendor, desk, wake
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._devices: Sequence[Device] = ()
        self._ended = False

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

    def end(self) -> None:
        """Stop for good; what the thread still reports is dropped."""
        self._ended = True
        self.stop()

    def stop(self) -> None:
        """Ask the thread to end; it is not waited for."""
        self._stop.set()
        self._thread = None

    def faults(self, source: str, faults: Sequence[Fault]) -> None:
        """HealthReport: the whole set of a source; VendorError for what is no fault."""
        reporter, told = f"{self._vendor.name}:{source}", tuple(faults)
        for fault in told:
            self._check(fault)
        self._tell(partial(self._desk.faults, reporter, told))

    def happened(self, fault: Fault) -> None:
        """HealthReport: an event; VendorError for what is no fault."""
        self._check(fault)
        self._tell(partial(self._desk.happened, fault))

    def _check(self, fault: Fault) -> None:
        if problem := fault_problem(fault):
            raise VendorError(f"{self._vendor.name}: {problem}")

    def rediscover(self) -> None:
        """HealthReport: look now."""
        self._tell(self._wake.set)

    def _tell(self, call: Callable[[], None]) -> None:
        if self._ended:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(call)
