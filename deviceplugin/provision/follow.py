"""From declared layouts to GPUs that are cut so: what is held is waited for, one change at a time.

On the loop. The privileged process reads, plans and changes; here it is known what pods hold, and
what is given to whom.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.metrics.registry import Family
from deviceplugin.provision.held import names_of, touched
from deviceplugin.provision.ledger import Holds, held_now, kept_ids
from deviceplugin.provision.on_demand import OnDemand
from deviceplugin.provision.planner import selects
from deviceplugin.provision.protocol import (
    APPLY_S,
    LOOK_S,
    Answer,
    Apply,
    Look,
    NoHelperError,
    Recover,
    Request,
)
from deviceplugin.provision.section import Layout, Wanted
from deviceplugin.provision.standing import Standing, Table, document_of, families_of, notice_lines
from deviceplugin.provision.values import Held, Planned
from deviceplugin.provision.wiring import Wiring
from deviceplugin.runtime.part import Reply
from deviceplugin.vendor.partitions import Step, Verb

log = structlog.get_logger()

LOOK_AGAIN_S = 30.0
SILENT_S = 3.0  # until a process that does not answer is asked again
START_S = 5.0
SETTLE_S = 1.0  # a look reads every GPU: what happens at once is looked at once
BACK_OFF_S, BACK_OFF_MAX_S = 30.0, 600.0
# Their drivers must be let go: a client keeps the GPU from another mode.
_MODES = frozenset({Verb.MIG_MODE, Verb.COMPUTE, Verb.MEMORY, Verb.DRIVER})


class Follower:
    """Keeps the node's GPUs as they are wanted."""

    def __init__(self, wiring: Wiring, wanted: Wanted) -> None:
        self._wiring, self._wanted = wiring, wanted
        self._holds = Holds(wiring.store, wiring.ledger)
        self.on_demand = OnDemand(wiring, self._holds, self._recover)
        self.table = Table()
        self._woken = asyncio.Event()
        self._silent = ""
        self._again_at: dict[str, tuple[float, float]] = {}  # not before, and the pause after that
        self._drains: dict[str, float] = {}

    def use(self, wanted: Wanted) -> None:
        """Follow these layouts from now on."""
        self._wanted = wanted
        self._again_at.clear()
        self._drains.clear()
        self._woken.set()

    async def keep_begun(self) -> None:
        """Have the GPU of a change that is not over given to nobody; waits for a moment at most."""
        with contextlib.suppress(NoHelperError):
            answer = await self._ask(Look(), START_S)
            if answer.begun:
                self._holds.keep(answer.begun[0].gpu, kept_ids(answer.begun))

    async def run(self) -> None:
        """One round after the other, until cancelled. What is kept stays kept when a round fails:
        the next one sees what is over."""
        while True:
            if not await self._round():
                await self._pause()

    def families(self) -> list[Family]:
        """Metrics."""
        return families_of(self.table)

    def notices(self) -> list[str]:
        """What waits or is refused."""
        return [*([self._silent] if self._silent else []), *notice_lines(self.table)]

    def document(self) -> Reply:
        """How every GPU stands."""
        return {"on": not self._wanted.is_off, "problem": self._silent} | document_of(self.table)

    async def _pause(self) -> None:
        """Until something may be otherwise; who holds what matters where that is waited for."""
        store, ledger = self._wiring.store, self._wiring.ledger
        signs: list[Coroutine[Any, Any, object]] = [
            self._woken.wait(),
            store.latest.next(store.current),
        ]
        if any(row.state == "pending" for row in self.table.standings()):
            signs.append(ledger.usage.next(ledger.usage.value))
        waits = [asyncio.ensure_future(sign) for sign in signs]
        pause_s = SILENT_S if self._silent else LOOK_AGAIN_S
        await asyncio.wait(waits, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        self._woken.clear()
        await asyncio.sleep(SETTLE_S)

    async def _round(self) -> bool:
        """Whether anything was changed, so that it is worth to look again at once."""
        if self._wanted.is_off:
            await self._rest()
        sourced = await self._wiring.sourced(self._wanted.source)
        layouts = (*self._wanted.layouts, *sourced.layouts)
        try:
            answer = await self._ask(Look(layouts=layouts, held=self._held()), LOOK_S)
        except NoHelperError as error:
            self._tell_silent(str(error))
            return False
        self._tell_silent(sourced.problem or answer.error)
        if answer.busy:
            return False
        if answer.begun and not answer.owners:
            async with self.on_demand.lock:
                return await self._recover(answer.begun)
        if not self.on_demand.lock.locked():  # whoever has it keeps something
            self._holds.keep_only({step.gpu for step in answer.begun})
        return await self._settle(answer, layouts)

    async def _rest(self) -> None:
        """Ask nobody until something is declared again."""
        self.table.keep_only(())
        self.on_demand.see(Answer())
        self._holds.drain(())
        self._silent = ""
        while self._wanted.is_off:
            self._woken.clear()
            await self._woken.wait()

    async def _settle(self, answer: Answer, layouts: Sequence[Layout]) -> bool:
        self._drain(answer)
        self.on_demand.see(answer)
        changed = False
        for one in answer.planned:
            self.table.set(Standing.of(one, answer.owners))
        self.table.keep_only([one.gpu.id for one in answer.planned])
        for one in answer.planned:
            if one.state == "change" and not answer.owners and self._is_due(one.gpu.id):
                async with self.on_demand.lock:
                    changed |= await self._change(one, layouts)
            elif one.on_demand and not answer.owners:
                await self._tidy(one)
        await self._wiring.answered(self.table.standings())
        return changed

    async def _tidy(self, planned: Planned) -> None:
        try:
            await self.on_demand.tidy(planned)
        except DevicePluginError as error:  # the next round tries again
            self.table.set(Standing.failing(planned, str(error)))

    async def _change(self, planned: Planned, layouts: Sequence[Layout]) -> bool:
        """Whether the GPU is cut now; what is given meanwhile is not what goes."""
        gpu = planned.gpu
        layout = next(one for one in layouts if selects(one.select, gpu))
        if not await self._known():
            text = "the kubelet's PodResources API does not tell what pods hold"
            self.table.set(Standing.waiting(planned, text))
            return False
        if holder := self._holds.take(gpu, *touched(gpu, planned.steps)):
            self.table.set(Standing.waiting(planned, f"it is held by {holder}"))
            return False
        request = Apply(
            gpu=gpu.id,
            layout=layout,
            layouts=tuple(layouts),
            steps=planned.steps,
            held=self._held(),
        )
        return await self._changed(planned, request)

    async def _changed(self, planned: Planned, request: Apply) -> bool:
        """Nobody knows how far it came where none answers, or where it is not over: all of the
        GPUs are kept until then."""
        gpu, names = planned.gpu, names_of(planned.gpu, planned.steps)
        before = self._holds.devices(names)
        try:
            answer = await self._apply(gpu.vendor, planned.steps, request)
        except NoHelperError as error:
            self._holds.keep(gpu.id, {*before, *self._holds.devices(names)})
            self._tell_silent(str(error))
            return False
        except DevicePluginError as error:
            self._holds.release(gpu.id)
            self._failed(planned, str(error))
            return False
        if answer.begun:
            self._holds.keep(gpu.id, {*before, *self._holds.devices(names)})
        else:
            self._holds.release(gpu.id)
        return self._ended(planned, answer)

    async def _apply(self, vendor: str, steps: Sequence[Step], request: Request) -> Answer:
        released = any(step.verb in _MODES for step in steps)
        async with self._wiring.changing(vendor, released):
            return await self._ask(request, APPLY_S)

    def _ended(self, planned: Planned, answer: Answer) -> bool:
        gpu, outcome = planned.gpu, answer.outcome
        if outcome is None or outcome.state != "done":
            self._failed(planned, (outcome.reason if outcome else "") or answer.error)
            return False
        self._again_at.pop(gpu.id, None)
        self.table.count(gpu.vendor, "done")
        log.info("partitions_changed", vendor=gpu.vendor, device=gpu.id, wish=planned.wish)
        return True

    def _failed(self, planned: Planned, reason: str) -> None:
        gpu = planned.gpu
        _, pause_s = self._again_at.get(gpu.id, (0.0, BACK_OFF_S / 2))
        pause_s = min(2 * pause_s, BACK_OFF_MAX_S)
        self._again_at[gpu.id] = (self._wiring.monotonic() + pause_s, pause_s)
        self.table.count(gpu.vendor, "failed")
        self.table.set(Standing.failing(planned, reason))
        log.error(
            "partitions_not_changed",
            vendor=gpu.vendor,
            device=gpu.id,
            wish=planned.wish,
            reason=reason,
            retry_s=pause_s,
        )

    async def _recover(self, begun: Sequence[Step]) -> bool:
        """Finish or take back what was cut off; its GPU is given to nobody meanwhile."""
        gpu = begun[0].gpu
        if not self._is_due(gpu):
            return False
        device = self._holds.whole(gpu)
        wholes = [self._holds.whole(one) for one in kept_ids(begun)]
        self._holds.keep(gpu, {*kept_ids(begun), *(one.id for one in wholes if one is not None)})
        if not await self._known():
            return False
        self._again_at[gpu] = (self._wiring.monotonic() + BACK_OFF_S, BACK_OFF_S)
        request = Recover(held=self._held())
        try:
            answer = await self._apply(device.vendor if device else "", begun, request)
        except DevicePluginError as error:
            self._tell_silent(str(error))
            return False
        return self._recovered(gpu, answer)

    def _recovered(self, gpu: str, answer: Answer) -> bool:
        outcome = answer.outcome
        stuck = answer.busy or (outcome.state == "stuck" if outcome else bool(answer.begun))
        if not stuck:  # until then it is given to nobody
            self._again_at.pop(gpu)
            self._holds.release(gpu)
        tell = log.error if stuck else log.warning
        state = outcome.state if outcome else ("stuck" if stuck else "done")
        reason = (outcome.reason if outcome else "") or answer.error
        tell("partitions_recovered", device=gpu, state=state, reason=reason)
        return not stuck

    def _drain(self, answer: Answer) -> None:
        """Keep new pods away from what is waited for, as long as the operator says."""
        now, wait_s = self._wiring.monotonic(), answer.drain_wait_s
        waiting = [one for one in answer.planned if one.state == "pending" and not answer.owners]
        self._drains = {one.gpu.id: self._drains.get(one.gpu.id, now + wait_s) for one in waiting}
        draining = {gpu for gpu, until in self._drains.items() if now < until}
        self._holds.drain([one.gpu for one in waiting if one.gpu.id in draining])

    def _is_due(self, gpu: str) -> bool:
        return self._wiring.monotonic() >= self._again_at.get(gpu, (0.0, 0.0))[0]

    async def _known(self) -> bool:
        """Ask what pods hold now."""
        if not self._wiring.source.absent:
            await self._wiring.source.ask()
        return self._wiring.ledger.answered

    def _held(self) -> tuple[Held, ...]:
        return held_now(self._holds)

    async def _ask(self, request: Request, timeout_s: float) -> Answer:
        return await asyncio.to_thread(self._wiring.ask, self._wiring.socket, request, timeout_s)

    def _tell_silent(self, text: str) -> None:
        if text and text != self._silent:
            log.warning("partitions_wait", reason=text)
        self._silent = text
