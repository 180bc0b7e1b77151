"""Where all word of health arrives, on the loop: monitors' faults, events, operators' orders.

The desk judges by the operator's policy, remembers what must be remembered, and gives the store
whole sets. The store stays the only writer of the inventory.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.health import records as remembering
from deviceplugin.health.file import read_memory, saved, write_memory
from deviceplugin.health.policy import Verdicts, judged
from deviceplugin.health.records import Cordon, Memory, MemoryPolicy, Moment, Repeat
from deviceplugin.health.section import HealthSection
from deviceplugin.inventory.conditions import HoldPolicy
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, Fault
from deviceplugin.runtime.latest import Latest
from deviceplugin.vendor import Finding

log = structlog.get_logger()

REPORTER = "deviceplugin.memory"
MAX_TOLD = 1000  # series; devices and codes come and go
OTHERS = ("other", "other", "other")
MAX_WAIT_S = 60.0  # the clock may be set while a wait runs
SAVE_S = 3.0


def hold_policy(section: HealthSection) -> HoldPolicy:
    """The part of the section that the store needs."""
    return HoldPolicy(
        hold_s=section.hold_s,
        hold_max_s=section.hold_max_s,
        flap_limit=section.flap_limit,
        flap_window_s=section.flap_window_s,
    )


class HealthDesk:
    """Takes word of health and passes it to `store`, whose clock it shares.

    `boot` is the kernel's boot id, None where it is not known.
    """

    def __init__(self, store: InventoryStore, section: HealthSection, boot: str | None) -> None:
        self._store, self._now, self._boot = store, store.now, boot
        self.memory = Latest(Memory())
        self._kept: Latest[tuple[Memory, str] | None] = Latest(None)  # what is saved, or why not
        self.told: Counter[tuple[str, str, str]] = Counter()
        self._full = False
        self._take(section)

    def use(self, section: HealthSection) -> None:
        """Judge by another section from now on, what is remembered included."""
        self._take(section)
        self._store.hold_by(hold_policy(section))
        self._remember(self._judged_anew(self.memory.value))

    def _take(self, section: HealthSection) -> None:
        self.call_deadline_s = section.call_deadline_s
        self._policy = _memory_policy(section)
        self._verdicts = Verdicts(
            disabled=frozenset(section.disable),
            enabled=frozenset(section.enable),
            classes=MappingProxyType(dict(section.classes)),
        )

    # What monitors tell

    def faults(self, reporter: str, faults: Iterable[Fault]) -> None:
        """The whole set of `reporter`, which can be asked again."""
        kept = (judged(fault, self._verdicts) for fault in faults)
        self._store.set_faults(reporter, [fault for fault in kept if fault is not None])

    def happened(self, fault: Fault) -> None:
        """Something happened once: it is remembered until what its class says ends it."""
        kept = judged(fault, self._verdicts)
        if kept is None:
            return
        known = kept.key in self.told or len(self.told) < MAX_TOLD
        self.told[kept.key if known else OTHERS] += 1
        moment = Moment(now=self._now(), boot=self._boot)
        memory = remembering.remember(self.memory.value, kept, moment, self._policy)
        self._tell_full(kept, memory)
        self._remember(memory)

    def _tell_full(self, fault: Fault, memory: Memory) -> None:
        """Once, until there is room again."""
        left_out = fault.key not in memory.faults
        if left_out and not self._full:
            log.error(
                "fault_memory_full",
                faults=len(memory.faults),
                device=fault.device,
                reason=f"{fault.source}/{fault.code} is not remembered: {fault.reason}",
                action="deviceplugin health shows what is; uncordon --forget-faults what is well",
            )
        full = len(memory.faults) >= remembering.MAX_FAULTS
        self._full = full and (left_out or self._full)

    def found(
        self, vendor: str, devices: Sequence[Device], findings: Mapping[DeviceID, Finding]
    ) -> None:
        """What a vendor's probe of each of its GPUs found; `devices` are all that it has."""
        for device, finding in findings.items():
            for event in finding.events:
                self.happened(event)
            self._clocks(device, [d.id for d in devices if d.parent == device], finding)
        self.faults(f"{vendor}:probe", [f for found in findings.values() for f in found.faults])

    def found_reset(self, device: DeviceID, parts: Sequence[DeviceID]) -> None:
        """The device was reset, or its driver loaded anew."""
        self._clocks(device, parts, Finding(reset=True))

    def _clocks(self, device: DeviceID, parts: Sequence[DeviceID], finding: Finding) -> None:
        memory = self.memory.value
        if finding.reset:
            memory = remembering.after_reset(memory, {device, *parts})
        if finding.mark is not None:
            memory = remembering.marked(memory, device, finding.mark, parts)
        if memory is not self.memory.value:
            self._remember(memory)

    # What operators tell

    def cordon(self, device: Device, reason: str) -> None:
        """Take a device away until `uncordon`."""
        cordon = Cordon(reason=reason, since=self._now())
        log.warning("cordoned", device=device.id, reason=reason)
        self._remember(remembering.cordoned(self.memory.value, device.id, cordon))

    def uncordon(self, device: Device) -> None:
        """Give a device back as far as its faults allow."""
        log.warning("uncordoned", device=device.id)
        self._remember(remembering.uncordoned(self.memory.value, device.id))

    def forget(self, device: Device) -> None:
        """Forget what events said of a device and its parts: an operator says they are well."""
        parts = [d.id for d in self._store.current.devices.values() if d.parent == device.id]
        log.warning("faults_forgotten", device=device.id)
        self._remember(remembering.forgotten(self.memory.value, {device.id, *parts}))
        self._store.forgive([device.id, *parts])

    # What time does

    def review(self) -> None:
        """Let go of what has lapsed."""
        self._remember(remembering.lapsed(self.memory.value, self._now(), self._policy))

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
        lapse = remembering.next_lapse(self.memory.value, now, self._policy)
        changes = [at for at in (self._store.next_change(), lapse) if at is not None]
        return min(max(0.01, min(changes, default=now + MAX_WAIT_S) - now), MAX_WAIT_S)

    def _remember(self, memory: Memory) -> None:
        self.memory.set(memory)
        faults = remembering.standing(memory, self._now(), self._policy)
        self._store.set_faults(REPORTER, faults)
        self._store.review()

    # What outlives this process

    async def load(self, state_dir: Path) -> None:
        """Take up the memory of earlier processes, less what a reboot has ended since."""
        try:
            memory = await asyncio.to_thread(read_memory, state_dir)
        except OSError as error:
            log.warning("state_unreadable", state_dir=str(state_dir), problem=str(error))
            return
        self._remember(self._judged_anew(remembering.after_boot(memory, self._boot)))

    def _judged_anew(self, memory: Memory) -> Memory:
        """The policy may have changed since."""
        return remembering.only(memory, lambda r: judged(r.fault, self._verdicts) is not None)

    async def keep_saved(self, state_dir: Path) -> None:
        """Write the memory after each change that must outlive us; runs until cancelled."""
        written: bytes | None = None
        self._kept.set(self._kept.value or (Memory(), ""))
        async for memory in self.memory.changes():
            content = saved(memory)
            if content != written:
                await self._write(state_dir, memory, content)
                written = content
            self._kept.set((memory, ""))

    async def _write(self, state_dir: Path, memory: Memory, content: bytes) -> None:
        try:
            await asyncio.to_thread(write_memory, state_dir, content)
        except OSError as error:
            self._kept.set((memory, f"{state_dir}: {error.strerror}"))
            text = f"{state_dir}: {error.strerror}: faults are not remembered across a restart"
            raise DevicePluginError(text) from error

    async def settled(self) -> str:
        """Wait until the memory is in its file, where somebody keeps it; why it is not, if so."""
        try:
            async with asyncio.timeout(SAVE_S):
                kept = await self._kept.until(self._is_settled)
        except TimeoutError:
            return f"the state directory does not answer within {SAVE_S:g} s"
        return kept[1] if kept else ""

    def _is_settled(self, kept: tuple[Memory, str] | None) -> bool:
        return kept is None or bool(kept[1]) or kept[0] == self.memory.value


def _memory_policy(section: HealthSection) -> MemoryPolicy:
    repeats = {
        name: Repeat(count=rule.count, window_s=rule.window_s, kind=rule.kind)
        for name, rule in section.repeats.items()
    }
    return MemoryPolicy(
        told_s=section.told_s,
        escalate_after_reboots=section.escalate_after_reboots,
        repeats=MappingProxyType(repeats),
    )
