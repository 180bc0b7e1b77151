"""A vendor's health watch on a thread of its own, and what it may report."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from deviceplugin.discovery.values import fault_problem
from deviceplugin.errors import VendorError
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.health.watch_reports import Run
from deviceplugin.model import Device, Fault
from deviceplugin.runtime.guard import start_guarded
from deviceplugin.vendor import HealthMonitor, Vendor

SETTLE_S = 10.0  # what a new run has not reported by then is dropped
RETRY_S, RETRY_MAX_S = 5.0, 300.0
REST_S = 3.0  # a watch looks at its end once a second
# A storm of events is taken in steps: the first at once, the next ones together after this pause.
STORM_S = 0.05
STEP = 256  # kinds of events that are taken together
MAX_KINDS = 4096  # that wait: no hardware has so many


class HealthWatch:
    """The vendor's health watch on its own thread, started again when the devices change.

    `clock` gives seconds; `settle_s` is how long an earlier run's sets wait for a new report.
    """

    def __init__(
        self,
        vendor: Vendor,
        tracker: FaultTracker,
        wake: asyncio.Event,
        clock: Callable[[], float] = time.monotonic,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._vendor, self._tracker, self._wake = vendor, tracker, wake
        self._clock, self._settle_s = clock, settle_s
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None
        self._devices: Sequence[Device] = ()
        self._retries = _Retries(clock)
        self._ended = False
        self._events = _Events()

    @property
    def alive(self) -> bool | None:
        """Whether it runs; None where there is nothing to run, or was nothing to watch yet."""
        if self._run is None or not isinstance(self._vendor, HealthMonitor):
            return None
        return self._is_alive()

    def follow(self, devices: Sequence[Device]) -> None:
        """Watch exactly these devices, none of them while the driver cannot be asked."""
        monitor = self._vendor
        if not isinstance(monitor, HealthMonitor):
            self._tracker.watches.drop(self._vendor.name)
        elif not devices:
            self.stop()
        elif devices != self._devices or not (self._is_alive() or self._must_wait()):
            self.stop()
            self._start(monitor, devices)

    def end(self) -> None:
        """Stop for good: later events are dropped, a set may still be emptied."""
        self._ended = True
        self.stop()

    def stop(self) -> None:
        """Ask the thread to end; it is not waited for."""
        if self._run is not None:
            self._run.ended = True
        self._stop.set()
        self._thread = None

    async def rest(self) -> None:
        """Stop, and wait until the thread has ended, REST_S at most; `follow` starts another."""
        thread = self._thread
        self.stop()
        if thread is not None:
            await asyncio.to_thread(thread.join, REST_S)

    def _start(self, monitor: HealthMonitor, devices: Sequence[Device]) -> None:
        self._stop, self._devices = threading.Event(), devices
        run = self._run = self._tracker.watches.begin(self._vendor.name)
        watch = partial(monitor.watch_health, devices, _Report(self, run), self._stop)
        self._retries.started()
        self._thread = start_guarded(
            f"{self._vendor.name}-health", watch, partial(self._retries.failed, run)
        )
        self._loop.call_later(self._settle_s, self._tracker.watches.settle, run)

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _must_wait(self) -> bool:
        return self._run is not None and self._run.failed and self._retries.must_wait()

    # From the thread

    def tell(self, call: Callable[[], None]) -> None:
        """Have `call` run on the loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(call)

    def add_event(self, fault: Fault) -> None:
        """An event; however many come, the loop is asked once to take them."""
        if self._events.add(fault):
            self.tell(self.take_events)

    def check(self, fault: object) -> None:
        """Raise VendorError for what is not a Fault."""
        if problem := fault_problem(fault):
            raise VendorError(f"{self._vendor.name}: {problem}")

    # On the loop

    def take_set(self, run: Run, source: str, faults: Sequence[Fault]) -> None:
        """A whole set of a source."""
        own = self._tracker.own(self._vendor.name, faults)
        self._tracker.watches.report(run, source, own)

    def take_events(self) -> None:
        """The events that wait; those that come meanwhile wait for STORM_S."""
        taken = self._events.take()
        if not taken:
            return
        if not self._ended:
            own = partial(self._tracker.own, self._vendor.name)
            self._tracker.record_events([(f, count) for f, count in taken if own((f,))])
        self._loop.call_later(STORM_S, self.take_events)

    def rediscover(self) -> None:
        """Look now."""
        if not self._ended:
            self._wake.set()


class _Events:
    """Events on their way from the thread to the loop: each kind once, with how often it came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str, str], tuple[Fault, int]] = {}
        self._asked = False

    def add(self, fault: Fault) -> bool:
        """Whether the loop must be asked to take them."""
        with self._lock:
            known, count = self._waiting.get(fault.key, (fault, 0))
            if count or len(self._waiting) < MAX_KINDS:
                self._waiting[fault.key] = (known, count + 1)
            asked, self._asked = self._asked, True
            return not asked

    def take(self) -> Sequence[tuple[Fault, int]]:
        """What waits; after nothing did, the loop must be asked again."""
        with self._lock:
            kinds = tuple(islice(self._waiting, STEP))
            self._asked = bool(kinds)
            return [self._waiting.pop(kind) for kind in kinds]


class _Report:
    """HealthReport of one run of the watch."""

    def __init__(self, watch: HealthWatch, run: Run) -> None:
        self._watch, self._run = watch, run

    def faults(self, source: str, faults: Sequence[Fault]) -> None:
        reported = tuple(faults)
        for fault in reported:
            self._watch.check(fault)
        self._watch.tell(partial(self._watch.take_set, self._run, str(source), reported))

    def event(self, fault: Fault) -> None:
        self._watch.check(fault)
        self._watch.add_event(fault)

    def happened(self, fault: Fault) -> None:
        self.event(fault)

    def rediscover(self) -> None:
        self._watch.tell(self._watch.rediscover)


class _Retries:
    """When a watch that raises may be started again: later each time, up to RETRY_MAX_S."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._count, self._started_at = 0, 0.0
        self._retry_at: float | None = None
        self._last_error = ""

    def started(self) -> None:
        self._started_at, self._retry_at = self._clock(), None

    def failed(self, run: Run, error: str) -> bool:
        """From the thread: the run raised; whether with the error of the run before."""
        known, self._last_error = error == self._last_error, error
        run.failed = True
        return known

    def must_wait(self) -> bool:
        now = self._clock()
        if self._retry_at is None:
            self._count = 0 if now - self._started_at > RETRY_MAX_S else self._count + 1
            delay_s = RETRY_S * 2 ** min(max(0, self._count - 1), 10)
            self._retry_at = now + min(RETRY_MAX_S, delay_s)
        return now < self._retry_at
