"""MIG instances as claims have and ask for them, in the daemon: made, destroyed, and never guessed.

What claims have says what there is. So a process that ends at any point leaves nothing that the
next look does not see: an instance of ours that no claim has goes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID
from deviceplugin.provision.ledger import Holds, held_now
from deviceplugin.provision.protocol import FIT_S, Answer, Fit
from deviceplugin.provision.values import Held, Place, Planned
from deviceplugin.provision.wiring import Wiring
from deviceplugin.vendor.partitions import PartitionedGpu, Step

BUSY_S = 0.2  # until a process that does something else is asked again


class Claimed(Struct, frozen=True, kw_only=True):
    """What claims have or ask for of one GPU."""

    places: frozenset[Place] = frozenset()
    whole: bool = False


Claims = Callable[[DeviceID], Claimed]
Recover = Callable[[Sequence[Step]], Awaitable[bool]]


class Fitted(Struct, frozen=True, kw_only=True):
    """How a GPU is as claims ask: the instances of ours that the privileged process found there,
    and who has those that no claim asks for."""

    there: frozenset[Place] = frozenset()
    told: str = ""


class NotFittedError(DevicePluginError):
    """A GPU is not as claims ask."""


class OnDemand:
    """The GPUs of which claims have instances made; used on the loop.

    `lock` is had by whoever has anything changed; `recover` ends what was begun.
    """

    def __init__(self, wiring: Wiring, holds: Holds, recover: Recover) -> None:
        self._wiring, self._holds, self._recover = wiring, holds, recover
        self.gpus: Mapping[DeviceID, PartitionedGpu] = {}
        self.lock = asyncio.Lock()
        self._made: dict[DeviceID, frozenset[Place]] = {}
        self._unread: frozenset[str] | None = None  # vendors; None while no look counts
        self._claims: Claims | None = None
        self._changed: Callable[[], object] = lambda: None

    def follow(self, claims: Claims | None, changed: Callable[[], object]) -> None:
        """From now on these are what claims have, None while nobody knows; `changed` is told of
        another set of GPUs."""
        self._claims, self._changed = claims, changed

    def is_ours(self, device: Device) -> bool:
        """Whether it is an instance that was made for a claim."""
        return device.parent is not None and place_of(device) in self._made.get(
            device.parent, frozenset()
        )

    def is_left(self, gpu: DeviceID) -> bool:
        """Whether a look has shown that the GPU is not, or not any more, cut for claims."""
        if self._unread is None or gpu in self.gpus:
            return False
        device = self._wiring.store.current.devices.get(gpu)
        return device is None or device.vendor not in self._unread

    def see(self, answer: Answer) -> None:
        """What a look has shown of all GPUs that a layout is for; nothing where it failed, or while
        others partition the node."""
        failed = bool(answer.owners or answer.error)
        self._unread = None if failed else frozenset(answer.problems)
        planned = () if answer.owners else answer.planned
        usable = [one for one in planned if one.on_demand and one.state == "as-wanted"]
        self._made = {DeviceID(one.gpu.id): frozenset(one.made) for one in usable}
        self._show({DeviceID(one.gpu.id): _bare(one.gpu) for one in usable})

    async def tidy(self, planned: Planned) -> bool:
        """Destroy what no claim has; whether there was anything."""
        gpu = DeviceID(planned.gpu.id)
        mig = planned.gpu.mig
        if self._claims is None or mig is None or gpu not in self.gpus:
            return False
        there = {(one.profile, one.start) for one in mig.instances if not one.users}
        if not (there & set(planned.made)) - self._claims(gpu).places:
            return False
        await self.fit(gpu)
        return True

    async def fit(self, gpu: DeviceID) -> Fitted:
        """Have exactly what claims ask of a GPU; DevicePluginError where that does not come within
        FIT_S."""
        until = self._wiring.monotonic() + FIT_S
        try:
            async with asyncio.timeout(FIT_S):
                await self.lock.acquire()
        except TimeoutError as error:
            raise NotFittedError("another change of partitions runs") from error
        try:
            answer = await self._fitted(gpu, until)
            if answer.begun and answer.outcome is None and await self._recover(answer.begun):
                answer = await self._fitted(gpu, until)
        finally:
            self.lock.release()
        return _checked(answer, gpu)

    async def _fitted(self, gpu: DeviceID, until: float) -> Answer:
        while True:
            answer = await self._ask(gpu, until - self._wiring.monotonic())
            if not answer.busy or self._wiring.monotonic() >= until:
                return answer
            await asyncio.sleep(BUSY_S)

    async def _ask(self, gpu: DeviceID, left_s: float) -> Answer:
        """What goes is given to nobody meanwhile, nor afterwards while nobody knows how it went."""
        known = self.gpus.get(gpu)
        if known is None or known.mig is None or self._claims is None:
            raise NotFittedError(f"{gpu} is not, or not yet, a GPU of a layout with on_demand")
        claimed = self._claims(gpu)
        enabled = known.mig.enabled
        switches = enabled if claimed.whole else bool(claimed.places) and not enabled
        self._holds.keep(gpu, self._spare(gpu, claimed, whole=switches))
        request = Fit(
            gpu=gpu,
            places=tuple(sorted(claimed.places)),
            whole=claimed.whole,
            held=self._held(known, claimed),
        )
        async with self._wiring.changing(known.vendor, switches):
            wiring, timeout_s = self._wiring, max(left_s, 1.0)
            answer = await asyncio.to_thread(wiring.ask, wiring.socket, request, timeout_s)
            self._take(gpu, answer)
        if not answer.begun:
            self._holds.release(gpu)
        return answer

    def _take(self, gpu: DeviceID, answer: Answer) -> None:
        for one in answer.planned:
            self._made[gpu] = frozenset(one.made)
            self._show({**self.gpus, gpu: _bare(one.gpu)})

    def _show(self, gpus: Mapping[DeviceID, PartitionedGpu]) -> None:
        if gpus != self.gpus:
            self.gpus = gpus
            self._changed()

    def _spare(self, gpu: DeviceID, claimed: Claimed, *, whole: bool) -> list[DeviceID]:
        """What no claim asks for and nobody has."""
        holders = self._holds.holders()
        devices = self._wiring.store.current.devices.values()
        parts = [d for d in devices if d.parent == gpu and place_of(d) not in claimed.places]
        found = [one.id for one in parts if one.id not in holders]
        return [*found, gpu] if whole and gpu not in holders else found

    def _held(self, known: PartitionedGpu, claimed: Claimed) -> tuple[Held, ...]:
        """A claim that asks for the whole GPU has it already, and is not in its own way."""
        held = held_now(self._holds)
        return tuple(one for one in held if not (claimed.whole and one.device == known.id))


def place_of(device: Device) -> Place | None:
    """Where a MIG instance is, None where that is not known."""
    start = device.attributes.get("placement_start", "")
    if device.profile is None or not start.isdecimal():
        return None
    return device.profile, int(start)


def _bare(gpu: PartitionedGpu) -> PartitionedGpu:
    """What can be made of it, without what is there: that changes with each claim."""
    mig = gpu.mig and replace(gpu.mig, instances=())
    return replace(gpu, mig=mig, users=())


def _checked(answer: Answer, gpu: DeviceID) -> Fitted:
    outcome = answer.outcome
    if outcome is not None and outcome.state != "done":
        raise NotFittedError(outcome.reason)
    if answer.error or answer.busy:
        raise NotFittedError(answer.error or "another change of partitions runs")
    if any(gpu in step.gpus for step in answer.begun):  # its end may make again what is gone now
        raise NotFittedError("a change of it that was cut off is not over")
    reasons = "; ".join(one.reason for one in answer.planned if one.reason)
    if any(one.state != "as-wanted" for one in answer.planned):
        raise NotFittedError(reasons or "it is not as claims ask")
    there = {place for one in answer.planned for place in _ours(one)}
    return Fitted(there=frozenset(there), told=reasons)


def _ours(planned: Planned) -> set[Place]:
    """The instances of ours that are there."""
    instances = planned.gpu.mig.instances if planned.gpu.mig else ()
    return {(one.profile, one.start) for one in instances} & set(planned.made)
