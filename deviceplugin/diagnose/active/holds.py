"""GPUs that are under test, as the daemon sees them: cordoned, and kept from pods and claims.

The cordon outlives the daemon and says by its reason that a test made it; nothing else is ever
lifted here. What is kept stands in the ledger, as what claims hold does: from the same step on the
loop in which nobody was found to hold the GPU, no Allocate and no claim gets it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import structlog
from msgspec import Struct

from deviceplugin.diagnose.active.lock import is_taken
from deviceplugin.health.operations import device_named
from deviceplugin.health.records import UNDER_TEST, Cordon
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, Resource, ResourceName
from deviceplugin.resources.ledger import Ledger, UsageSource
from deviceplugin.resources.usage import RESERVED, TESTED
from deviceplugin.runtime.control import ControlError
from deviceplugin.runtime.part import Reply

SOURCE = "deviceplugin.active_test"
log = structlog.get_logger()


class Around(Struct, frozen=True, kw_only=True):
    """What the tests are held against. `alive` says whether a process of a test lives."""

    store: InventoryStore
    tracker: FaultTracker
    ledger: Ledger
    source: UsageSource
    listed: Callable[[], Mapping[ResourceName, Resource]]
    alive: Callable[[], Awaitable[bool]]


def living(state_dir: Path) -> Callable[[], Awaitable[bool]]:
    """By the lock in the state directory."""
    return lambda: asyncio.to_thread(is_taken, state_dir)


class Holds:
    """Takes a GPU for a test and gives it back; on the loop."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._kept: dict[DeviceID, str] = {}
        self._taking: set[str] = set()

    async def begin(self, name: str, token: str) -> Reply:
        """Cordon the GPU, saved, and keep it, where nobody holds it; else it is as it was.

        Raises ControlError: the GPU is held, is in parts, or nobody can say who holds it.
        """
        device, mark = self._whole(name), f"{UNDER_TEST}{token}"
        if not await self._around.alive():
            raise ControlError(f"{device.id}: the test does not hold the lock of its node")
        self._give_back(self._known)  # the lock is that of who asks: no other test lives
        self._taking.add(mark)
        try:
            ours = device.id not in self._cordons
            if ours:
                await self._cordon(device, mark)
            await self._take(device, mark)
        except BaseException:
            self._lift(device, mark)
            raise
        finally:
            self._taking.discard(mark)
        log.info("active_test_began", device=device.id, by_operator=not ours)
        return {**_described(device), "cordoned": ours}

    async def end(self, name: str, token: str, keep: str) -> Reply:
        """The test is over: the GPU is given back, or stays cordoned with `keep` as the reason.

        A cordon of an operator stays as it is.
        """
        device, mark = device_named(self._around.store, name), f"{UNDER_TEST}{token}"
        self._release(device.id)
        ours = self._reason(device.id) == mark
        if ours and keep:
            self._around.tracker.cordon(device, keep)
        elif ours:
            self._around.tracker.uncordon(device)
        problem = await self._around.tracker.settled()
        log.info("active_test_ended", device=device.id, kept=keep, problem=problem)
        return {"device": device.id, "cordoned": device.id in self._cordons, "problem": problem}

    async def give_back_of_the_dead(self) -> None:
        """Give back what tests have left whose processes have ended; keep what those that live
        have, also from before our time."""
        before = self._known
        if not before:
            return
        if await self._around.alive():
            found = {device: mark for device, mark in self._marked() if mark not in self._taking}
            self._publish({**self._kept, **found})
            return
        self._give_back(before)

    def _give_back(self, before: Mapping[DeviceID, str]) -> None:
        """What was known of before the lock was found free, and is so still: a test that has begun
        since is another one."""
        for device, mark in before.items():
            if mark in self._taking or self._known.get(device) != mark:
                continue
            self._release(device)
            if self._reason(device) == mark:
                self._cut_off(device)

    def _cut_off(self, device: DeviceID) -> None:
        known = self._around.store.current.devices.get(device)
        if known is None:  # its driver has not answered yet: it is looked for again
            return
        log.warning("active_test_cut_off", device=device)
        self._around.tracker.uncordon(known)

    @property
    def any(self) -> bool:
        """Whether there is anything to give back, now or later."""
        return bool(self._known)

    @property
    def _known(self) -> Mapping[DeviceID, str]:
        """The mark of each test that has, or had, a GPU."""
        return {**self._kept, **dict(self._marked())}

    def _whole(self, name: str) -> Device:
        device = device_named(self._around.store, name)
        devices = self._around.store.current.devices.values()
        if device.parent is not None:
            raise ControlError(f"{device.id} is a part of {device.parent}: whole GPUs are tested")
        if any(one.parent == device.id for one in devices):
            text = "whole GPUs are tested; deviceplugin preflight tests a part in a pod"
            raise ControlError(f"{device.id} is in parts: {text}")
        return device

    async def _cordon(self, device: Device, mark: str) -> None:
        self._around.tracker.cordon(device, mark)
        if problem := await self._around.tracker.settled():
            raise ControlError(f"{device.id}: its cordon cannot be saved ({problem}): not tested")

    async def _take(self, device: Device, mark: str) -> None:
        """Nothing waits between the look and the keeping."""
        await self._around.source.ask()
        if not self._around.ledger.answered:
            text = "the kubelet's PodResources API does not tell who holds it"
            raise ControlError(f"{device.id}: {text}: not tested")
        if holder := self._holder(device.id):
            raise ControlError(f"{device.id} is in use by {holder}: not tested")
        self._publish({**self._kept, device.id: mark})

    def _holder(self, device: DeviceID) -> str:
        """A pod where it is known, else the name of the resource; empty for nobody."""
        ledger = self._around.ledger
        used = {name for name, _ in ledger.usage.value.of(device)} - {TESTED, RESERVED}
        pods = sorted(f"{who[0]}/{who[1]}" for who, _, held in ledger.held() if held == device)
        if used:
            return pods[0] if pods else min(used)
        for name, resource in self._around.listed().items():
            keys = [(name, entry.id) for entry in resource.devices if entry.device == device]
            if any(map(ledger.is_held, keys)):
                return f"a request for {name}"
        return ""

    def _lift(self, device: Device, mark: str) -> None:
        self._release(device.id)
        if self._reason(device.id) == mark:
            self._around.tracker.uncordon(device)

    def _release(self, device: DeviceID) -> None:
        self._publish({one: mark for one, mark in self._kept.items() if one != device})

    def _publish(self, kept: Mapping[DeviceID, str]) -> None:
        if kept != self._kept:
            self._kept = dict(kept)
            self._around.ledger.claim(SOURCE, dict.fromkeys(kept, (TESTED,)))

    @property
    def _cordons(self) -> Mapping[DeviceID, Cordon]:
        return self._around.tracker.records.value.cordons

    def _reason(self, device: DeviceID) -> str:
        cordon = self._cordons.get(device)
        return cordon.reason if cordon else ""

    def _marked(self) -> Iterator[tuple[DeviceID, str]]:
        for device, cordon in sorted(self._cordons.items()):
            if cordon.reason.startswith(UNDER_TEST):
                yield device, cordon.reason


def _described(device: Device) -> Reply:
    return {
        "device": device.id,
        "vendor": device.vendor,
        "product": device.product,
        "pci_address": device.pci_address,
        "index": device.index,
    }
