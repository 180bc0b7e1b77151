"""What of each round goes into history: sums of minutes, and faults that come and go."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import structlog

from deviceplugin.model import DeviceID, Fault, Inventory
from deviceplugin.resources.usage import kind_of
from deviceplugin.telemetry.around import Held
from deviceplugin.telemetry.history import FAULT, MINUTE_S, Event, History, Point, Series, Sums
from deviceplugin.telemetry.model import DeviceView, TelemetryView

log = structlog.get_logger()

ALLOCATED = "allocated"  # ids that containers hold, of a resource; of all claims together
MAX_EVENTS = 1000  # of a minute
# Metric and the labels of its reading; of the sensors the first that a device has.
KEPT: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("utilization_ratio", {"engine": "compute"}),
    ("memory_used_bytes", {}),
    ("power_watts", {}),
    ("temperature_celsius", {}),
)
# Of whole GPUs: what a counter grew by from one round to the next, the sum of the series with these
# labels. A counter that starts anew has not grown; the mean times the count is the growth.
GROWTH: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "corrected_errors": ("ecc_errors_total", {"kind": "corrected", "since": "driver"}),
    "uncorrected_errors": ("ecc_errors_total", {"kind": "uncorrected", "since": "driver"}),
    "remapped_rows": ("remapped_rows_total", {}),
    "retired_pages": ("retired_pages", {"state": "retired"}),
    "pcie_replays": ("pcie_replays_total", {}),
    "link_errors": ("link_errors_total", {}),
    "throttled_seconds": ("throttled_seconds_total", {"reason": "thermal"}),
}
# Also of whole GPUs: 1 where it answered, where somebody holds it or a part of it; banks of memory
# that have used up most of their spare rows, and all of them.
ANSWERED, HELD, WORN_BANKS, BANKS = "answered", "held", "worn_banks", "banks"
_WORN = ("low", "none")
Counts = Mapping[Series, float]
Faults = Mapping[tuple[DeviceID, str, str], Fault]


class Keeping:
    """Collects for the minute that runs and writes it when it is over."""

    def __init__(self, state_dir: Path) -> None:
        self.history = History(state_dir)
        self._sums = Sums()
        self._events: list[Event] = []
        self._faults: Faults | None = None
        self._failing = False
        self._counts: Counts = {}

    async def add(
        self, view: TelemetryView, inventory: Inventory, held: Iterable[Held], now: float
    ) -> None:
        """One round more."""
        minute = int(now) - int(now) % MINUTE_S
        if minute != self._sums.at:
            await self._flush(now)
            self._sums.at = minute
        before = {s: v for s, v in self._counts.items() if s.subject in view.devices}
        counts = dict(_counters(view))
        self._counts = before | counts
        for series, value in (
            *_values(view),
            *_allocated(held),
            *_of_gpus(view),
            *_growth(before, counts),
        ):
            self._sums.add(series, value)
        self._compare(inventory, now)

    async def close(self, now: float) -> None:
        """Write what there is of the minute that runs."""
        await self._flush(now)
        await asyncio.to_thread(self.history.close)

    async def _flush(self, now: float) -> None:
        points = self._sums.take()
        events, self._events = self._events, []
        if points or events:
            await asyncio.to_thread(self._write, points, events, now)

    def _write(self, points: Mapping[Series, Point], events: list[Event], now: float) -> None:
        """What cannot be written is lost, and nothing else: once said."""
        try:
            self.history.write(points, events, now)
        except OSError as error:
            if not self._failing:
                log.warning("history_not_written", error=str(error))
            self._failing = True
        else:
            self._failing = False

    def _compare(self, inventory: Inventory, now: float) -> None:
        faults = {fault.key: fault for found in inventory.faults.values() for fault in found}
        before, self._faults = self._faults, faults
        if before is None:
            return
        for key in sorted(faults.keys() - before.keys()):
            self._note(FAULT, faults[key], now)
        for key in sorted(before.keys() - faults.keys()):
            self._note("recovery", before[key], now)

    def _note(self, kind: str, fault: Fault, now: float) -> None:
        if len(self._events) < MAX_EVENTS:
            text = f"{fault.source}/{fault.code}: {fault.reason}"
            self._events.append(Event(at=now, kind=kind, subject=fault.device, text=text))


def _values(view: TelemetryView) -> Iterator[tuple[Series, float]]:
    for device, one in view.devices.items():
        for metric, labels in KEPT:
            value = one.value(metric, **labels)
            if value is not None and one.seen_at is not None and one.up:
                yield Series(metric, device), value


def _allocated(held: Iterable[Held]) -> Iterator[tuple[Series, float]]:
    counts = Counter(kind_of(resource) for _, resource, _ in held)
    for resource, count in counts.items():
        yield Series(ALLOCATED, resource), float(count)


def _gpus(view: TelemetryView) -> Iterator[tuple[str, DeviceView]]:
    return ((i, one) for i, one in view.devices.items() if one.device.parent is None)


def _of_gpus(view: TelemetryView) -> Iterator[tuple[Series, float]]:
    held = {one.device.parent or i for i, one in view.devices.items() if one.holders}
    for gpu, one in _gpus(view):
        if one.seen_at is None:
            continue
        yield Series(ANSWERED, gpu), float(one.up)
        yield Series(HELD, gpu), float(gpu in held)
        banks = {dict(r.labels)["spare"]: r.value for r in one.readings if r.metric == "row_banks"}
        if one.up and banks:
            yield Series(WORN_BANKS, gpu), sum(banks.get(spare, 0.0) for spare in _WORN)
            yield Series(BANKS, gpu), sum(banks.values())


def _counters(view: TelemetryView) -> Iterator[tuple[Series, float]]:
    for gpu, one in _gpus(view):
        for name, (metric, labels) in GROWTH.items() if one.up else ():
            wanted = set(labels.items())
            values = [r.value for r in one.readings if r.metric == metric and wanted <= {*r.labels}]
            if values:
                yield Series(name, gpu), sum(values)


def _growth(before: Counts, after: Counts) -> Iterator[tuple[Series, float]]:
    for series, value in after.items():
        if series in before:
            yield series, max(0.0, value - before[series])
