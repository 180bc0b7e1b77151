"""Collects every health signal on the event loop: probe results, events, operators' orders.

The tracker applies the configured policy, records what must outlive its report, and gives the
store whole sets. The store stays the only writer of the inventory.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.health import records as recording
from deviceplugin.health.file import NO_DOCUMENT, read_state, saved, write_state
from deviceplugin.health.ownership import Ownership
from deviceplugin.health.policy import FaultPolicy, apply_policy, for_fault
from deviceplugin.health.records import Cordon, FaultRecords, Timestamp
from deviceplugin.health.watch_reports import WatchReports
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, Fault
from deviceplugin.runtime.latest import Latest
from deviceplugin.vendor import Finding

log = structlog.get_logger()

REPORTER = "deviceplugin.memory"
MAX_COUNTED = 1000  # series; devices and codes come and go
ONE_RESET_S = 60.0
OTHERS = ("other", "other", "other")
MAX_WAIT_S = 60.0  # the clock may be set while a wait runs
SAVE_S = 3.0


class FaultTracker:
    """Takes every health signal and passes it to `store`, whose clock it shares.

    `boot` is the kernel's boot id, None where it is not known.
    """

    def __init__(self, store: InventoryStore, policy: FaultPolicy, boot: str | None) -> None:
        self._store, self._now, self._boot = store, store.now, boot
        self._policy = policy
        self._ownership = Ownership(store)
        self._document = NO_DOCUMENT  # what the file held, later versions' keys included
        self.records = Latest(FaultRecords())
        # What is saved, or why it is not.
        self._kept: Latest[tuple[FaultRecords, str] | None] = Latest(None)
        self.event_counts: Counter[tuple[str, str, str]] = Counter()
        self.reset_counts: Counter[DeviceID] = Counter()
        self._reset_at: dict[DeviceID, float] = {}
        self.watches = WatchReports(self.faults)
        self._full = False

    @property
    def call_deadline_s(self) -> float:
        """How long a probe may take, in seconds."""
        return self._policy.section.call_deadline_s

    def use(self, policy: FaultPolicy) -> None:
        """Apply another policy from now on, also to what is recorded."""
        self._policy = policy
        self._store.hold_by(policy.section)
        self._record(self._still_wanted(self.records.value))

    # From vendors, agents and the kernel

    def faults(self, reporter: str, faults: Iterable[Fault]) -> None:
        """The whole set of `reporter`, which can be asked again."""
        kept = (apply_policy(fault, self._policy) for fault in faults)
        self._store.set_faults(reporter, [fault for fault in kept if fault is not None])

    def own(
        self, vendor: str, faults: Iterable[Fault], devices: Iterable[Device] = ()
    ) -> tuple[Fault, ...]:
        """The faults that `vendor` may report; `devices` are those of it that may not be listed
        yet. Others are logged once."""
        return self._ownership.own(vendor, faults, devices)

    def record_event(self, fault: Fault) -> None:
        """Something happened once: it is recorded until what its class says ends it."""
        self.record_events([(fault, 1)])

    def record_events(self, events: Iterable[tuple[Fault, int]]) -> None:
        """Events and how often each came: a storm of them is one change of what is recorded."""
        records = self.records.value
        for fault, count in events:
            kept = apply_policy(fault, self._policy)
            if kept is not None:
                self._count(kept, count)
                records = self._with_event(records, kept, count)
                self._log_full(kept, records)
        self._record(records)

    def _count(self, fault: Fault, count: int) -> None:
        known = fault.key in self.event_counts or len(self.event_counts) < MAX_COUNTED
        self.event_counts[fault.key if known else OTHERS] += count

    def _with_event(self, records: FaultRecords, fault: Fault, count: int) -> FaultRecords:
        """As often as its repeat rule counts."""
        section = self._policy.section
        rule = for_fault(section.repeats, fault)
        at = Timestamp(now=self._now(), boot=self._boot)
        for _ in range(min(count, rule.count if rule else 1)):
            records = recording.with_event(records, fault, at, section)
        return records

    def _log_full(self, fault: Fault, records: FaultRecords) -> None:
        """Once, until there is room again."""
        left_out = fault.key not in records.faults
        if left_out and not self._full:
            log.error(
                "fault_memory_full",
                faults=len(records.faults),
                device=fault.device,
                reason=f"{fault.source}/{fault.code} is not recorded: {fault.reason}",
                action="see deviceplugin health; uncordon --forget-faults what is well",
            )
        full = len(records.faults) >= recording.MAX_FAULTS
        self._full = full and (left_out or self._full)

    def record_probe(
        self, vendor: str, devices: Sequence[Device], findings: Mapping[DeviceID, Finding]
    ) -> None:
        """What a vendor's probe of each of its GPUs found; `devices` are all that it has."""
        for device, finding in findings.items():
            for event in self.own(vendor, finding.events, devices):
                self.record_event(event)
            self._resets(device, [d.id for d in devices if d.parent == device], finding)
        faults = (fault for finding in findings.values() for fault in finding.faults)
        self.faults(f"{vendor}:probe", self.own(vendor, faults, devices))

    def record_reset(self, device: DeviceID, parts: Sequence[DeviceID]) -> None:
        """The device was reset, or its driver loaded again."""
        self._resets(device, parts, Finding(reset=True))

    def _resets(self, device: DeviceID, parts: Sequence[DeviceID], finding: Finding) -> None:
        records, reading = self.records.value, finding.reset_counter
        if finding.reset or _went_back(records, device, reading):
            self._count_reset(device)
        if finding.reset:
            records = recording.after_reset(records, {device, *parts})
        if reading is not None:
            records = recording.with_reset_counter(records, device, reading, parts)
        if records is not self.records.value:
            self._record(records)

    def _count_reset(self, device: DeviceID) -> None:
        """One reset is seen by the kernel's event and by counters that went back."""
        now = self._now()
        if now - self._reset_at.get(device, -ONE_RESET_S) >= ONE_RESET_S:
            self.reset_counts[device] += 1
        self._reset_at[device] = now

    # From operators

    def cordon(self, device: Device, reason: str) -> None:
        """Keep a device Unhealthy until `uncordon`."""
        cordon = Cordon(reason=reason, since=self._now())
        log.warning("cordoned", device=device.id, reason=reason)
        self._record(recording.cordoned(self.records.value, device.id, cordon))

    def uncordon(self, device: Device) -> None:
        """End a cordon: the device is as healthy as its faults allow."""
        log.warning("uncordoned", device=device.id)
        self._record(recording.uncordoned(self.records.value, device.id))

    def forget(self, device: Device) -> None:
        """Drop the recorded faults of a device and its partitions: an operator says that they are
        well."""
        parts = [d.id for d in self._store.current.devices.values() if d.parent == device.id]
        log.warning("faults_forgotten", device=device.id)
        self._record(recording.forgotten(self.records.value, {device.id, *parts}))
        self._store.forgive([device.id, *parts])

    # By time

    def review(self) -> None:
        """Drop what has lapsed."""
        self._record(recording.lapsed(self.records.value, self._now(), self._policy.section))

    async def watch_time(self) -> None:
        """Review whenever time alone changes something; runs until cancelled."""
        while True:
            seen = self._store.current
            self.review()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._store.latest.next(seen)

    def _wait_s(self) -> float:
        now = self._now()
        lapse = recording.next_lapse(self.records.value, now, self._policy.section)
        changes = [at for at in (self._store.next_change(), lapse) if at is not None]
        return min(max(0.01, min(changes, default=now + MAX_WAIT_S) - now), MAX_WAIT_S)

    def _record(self, records: FaultRecords) -> None:
        self.records.set(records)
        faults = recording.standing(records, self._now(), self._policy.section)
        self._store.set_faults(REPORTER, faults)
        self._store.review()

    # What outlives this process

    async def load(self, state_dir: Path) -> None:
        """Take over the records of earlier processes, less what a reboot has ended since."""
        try:
            state = await asyncio.to_thread(read_state, state_dir)
        except OSError as error:
            log.warning("state_unreadable", state_dir=str(state_dir), problem=str(error))
            return
        self._document = state.document
        self._record(self._still_wanted(recording.after_boot(state.records, self._boot)))

    def _still_wanted(self, records: FaultRecords) -> FaultRecords:
        """Without what is disabled: the policy may have changed since."""
        return recording.only(records, lambda r: apply_policy(r.fault, self._policy) is not None)

    async def keep_saved(self, state_dir: Path) -> None:
        """Write the records after each change that must outlive us; runs until cancelled."""
        written: bytes | None = None
        self._kept.set(self._kept.value or (FaultRecords(), ""))
        async for records in self.records.changes():
            content = saved(records, self._document)
            if content != written:
                await self._write(state_dir, records, content)
                written = content
            self._kept.set((records, ""))

    async def _write(self, state_dir: Path, records: FaultRecords, content: bytes) -> None:
        try:
            await asyncio.to_thread(write_state, state_dir, content)
        except OSError as error:
            self._kept.set((records, f"{state_dir}: {error.strerror}"))
            text = f"{state_dir}: {error.strerror}: faults are not remembered across a restart"
            raise DevicePluginError(text) from error

    async def settled(self) -> str:
        """Wait until the records are in their file, where a task saves them; why they are not, if
        so."""
        try:
            async with asyncio.timeout(SAVE_S):
                kept = await self._kept.until(self._is_settled)
        except TimeoutError:
            return f"the state directory does not answer within {SAVE_S:g} s"
        return kept[1] if kept else ""

    def _is_settled(self, kept: tuple[FaultRecords, str] | None) -> bool:
        return kept is None or bool(kept[1]) or kept[0] == self.records.value


def _went_back(records: FaultRecords, device: DeviceID, reading: int | None) -> bool:
    before = records.reset_counters.get(device)
    return before is not None and reading is not None and reading < before
