"""A device that fails and recovers, by commands that the person gives."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TypeAlias

from msgspec import Struct, field

from deviceplugin.testing.admission import NotAllocatedError
from deviceplugin.testing.conformance.allocations import ANSWER_S
from deviceplugin.testing.conformance.losses import LostError, questioned
from deviceplugin.testing.conformance.refusals import refusal_problems
from deviceplugin.testing.conformance.session import Session
from deviceplugin.testing.conformance.spread import spread
from deviceplugin.testing.conformance.verdict import Finding, failed, judged, lost, skipped, timed
from deviceplugin.testing.devicemanager import HEALTHY
from deviceplugin.testing.plugin_client import PluginClient, RpcError
from deviceplugin.testing.pods import AdmissionError

LINES = (27, 28, 29, 31, 36, 37, 69)
SEEN_S = 1.0
MOST_PODS = 64
MOST_REFUSALS = 16

Healths: TypeAlias = dict[str, dict[str, str]]


class Witness(Struct):
    """A second stream of one resource: the healths of its last list."""

    resource: str
    client: PluginClient
    health: dict[str, str] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: bool = False

    async def watch(self) -> None:
        """Follow the stream until it ends."""
        try:
            async for message in self.client.lists():
                self.health = {device.ID: device.health for device in message.devices}
                self.news.set()
        except RpcError:
            pass  # what is missing in `health` tells
        self.has_ended = True
        self.news.set()

    async def shows(self, wanted: dict[str, str], timeout_s: float) -> bool:
        """Whether these healths, and no others, come in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.health != wanted and not self.has_ended:
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            return False
        return self.health == wanted


async def break_and_mend(session: Session) -> AsyncIterator[Finding]:
    """Findings about lines 27 to 29, 31, 36, 37, 45, 47 and 69."""
    if not session.settings.break_command:
        for line in LINES:
            yield skipped(line, "nothing fails: give --break")
        return
    if not session.offered():
        for line in LINES:
            yield lost(line, "no healthy device is listed that could fail")
        return
    session.record.touch(time.monotonic())
    pods = [pod async for pod in _hold(session)]
    try:
        async with _witnesses(session) as witnesses:
            healthy = _healths(session)
            async for finding in _break(session, witnesses):
                yield finding
            async for finding in _mend(session, healthy):
                yield finding
    finally:
        for pod in pods:
            session.stub.remove_pod(pod)
    await session.settle()
    await session.wait_all("after the second streams ended")
    session.unblamed()  # one that ends with a stream did not end with a device


async def _hold(session: Session) -> AsyncIterator[str]:
    """A pod for each healthy device, so that whatever fails is held."""
    for name, ids in session.offered():
        for number in range(min(len(ids), MOST_PODS)):
            pod = f"conformance-{name.replace('/', '-')}-{number}"
            try:
                await session.stub.admit(pod, {"main": {name: 1}})
            except AdmissionError:
                break
            yield pod


@asynccontextmanager
async def _witnesses(session: Session) -> AsyncIterator[list[Witness]]:
    witnesses = [Witness(n, PluginClient(n, session.endpoint(n))) for n in session.names]
    tasks = [asyncio.create_task(witness.watch()) for witness in witnesses]
    try:
        for witness in witnesses:  # a stream that opens after the failure tells nothing
            await witness.shows(_health(session, witness), session.settings.limit(SEEN_S))
        yield witnesses
    finally:
        for witness in witnesses:
            await witness.client.close()
        await asyncio.gather(*tasks)


async def _break(session: Session, witnesses: list[Witness]) -> AsyncIterator[Finding]:
    before = _healths(session)
    asking = asyncio.create_task(_allocate_on_and_on(session))
    try:
        started_s = await _run_command(session, session.settings.break_command)
        noticed = await _notices(session, before)
    finally:
        asking.cancel()
        await asyncio.wait([asking])
    if not noticed:
        reason = f"no device failed within {session.settings.timeout_s:g} s of --break's end"
        yield failed(69, reason)
        for line in set(LINES) - {36, 69}:
            yield lost(line, reason)
        return
    at_s = _changed_at_s(session, started_s)
    await session.settle()
    for finding in _judge_lists(session, before):
        yield finding
    async for finding in _judge_streams(session, witnesses):
        yield finding
    async for finding in _judge_refusals(session, _failed(session, before)):
        yield finding
    yield timed(69, "a failure was listed", [at_s], session.settings.limit(SEEN_S))


async def _notices(session: Session, before: Healths) -> bool:
    try:
        await session.wait(lambda: _failed(session, before), "no device failed")
    except LostError:
        return False
    return True


def _judge_lists(session: Session, before: Healths) -> Iterator[Finding]:
    now, worse = _healths(session), _failed(session, before)
    gone = [f"{name}: {device} left out" for name, device in worse if device not in now[name]]
    broken = [device for name, device in worse if device in now[name]]
    seen = f"{len(broken)} devices Unhealthy and listed: {broken[:3]}"
    for line in (27, 29):
        if set(worse) & set(_held(session)):
            yield judged(line, gone, seen)
        else:
            yield lost(line, f"no pod holds what failed: {worse[:3]}")
    if gone and not session.stub.crashes:
        yield skipped(28, "no Allocate ran just when an id was left out")
    else:
        yield judged(28, session.stub.crashes, f"Allocate of every device meanwhile; {seen}")
    emptied = [f"{name}: an empty list" for name in before if before[name] and not now[name]]
    others = spread(worse, before, session)
    yield judged(37, [*emptied, *others], f"no list became empty; {seen}")


async def _judge_streams(session: Session, witnesses: list[Witness]) -> AsyncIterator[Finding]:
    limit_s = session.settings.limit(SEEN_S)
    late = [w.resource for w in witnesses if not await w.shows(_health(session, w), limit_s)]
    problems = [f"{name}: a second stream shows something else" for name in late]
    yield judged(31, problems, f"two streams for each of {len(witnesses)} resources agree")


async def _judge_refusals(session: Session, worse: list[tuple[str, str]]) -> AsyncIterator[Finding]:
    now = _healths(session)
    broken = [(name, device) for name, device in worse if device in now[name]][:MOST_REFUSALS]
    times_s: list[float] = []
    if not broken:
        return
    problems = _accepted(session, broken, times_s)
    async for finding in questioned(47, problems, f"{len(broken)} Unhealthy ids refused", hangs=45):
        yield finding
    if times_s:
        limit_s = session.settings.limit(ANSWER_S)
        yield timed(45, "refused an Unhealthy id", times_s, limit_s)


async def _accepted(
    session: Session, broken: Iterable[tuple[str, str]], times_s: list[float]
) -> AsyncIterator[str]:
    for name, device in broken:
        started_s = time.monotonic()
        answer = await session.allocate(name, [device])
        times_s.append(time.monotonic() - started_s)
        for problem in refusal_problems(name, f"{device}, Unhealthy,", answer):
            yield problem


async def _mend(session: Session, healthy: Healths) -> AsyncIterator[Finding]:
    for end in session.unblamed():
        yield failed(37, str(end))
    if not session.settings.mend_command:
        yield skipped(36, "nothing recovers: give --mend")
        return
    is_worse = bool(_failed(session, healthy))
    started_s = await _run_command(session, session.settings.mend_command)
    try:
        await session.wait(lambda: _healths(session) == healthy, "the lists are not as before")
    except LostError as error:
        yield judged(36, [*map(str, session.unblamed()), str(error)], "")
        raise
    took_s = _changed_at_s(session, started_s)
    ends = session.unblamed()
    if is_worse or ends:
        seen = f"every device is listed as before after {took_s:.1f} s"
        yield judged(36, map(str, ends), seen)
    else:
        yield lost(36, "no device failed")


async def _run_command(session: Session, command: tuple[str, ...]) -> float:
    session.record.excuse()  # it may do anything
    return await run_command(command)


async def run_command(command: tuple[str, ...]) -> float:
    """Run a person's command to its end; when it ended. LostError where it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr
        )
    except OSError as error:
        raise LostError(f"{command[0]} cannot be started: {error}") from error
    if status := await process.wait():
        raise LostError(f"{' '.join(command)} ended with status {status}")
    return time.monotonic()


async def _allocate_on_and_on(session: Session) -> None:
    """Name every device in Allocate calls, again and again; the stub notes a crash."""
    offered = [(name, device) for name, ids in session.offered() for device in ids[:MOST_PODS]]
    while offered:
        for name, device in offered:
            try:
                await session.stub.allocate(name, [device], session.settings.call_timeout_s)
            except RpcError:
                await asyncio.sleep(0.01)  # refused: it is broken by now
            except NotAllocatedError:
                return  # the stream has ended


def _healths(session: Session) -> Healths:
    stub = session.stub
    return {n: {d.id: d.health for d in stub.devices(n).values()} for n in session.names}


def _health(session: Session, witness: Witness) -> dict[str, str]:
    return _healths(session)[witness.resource]


def _failed(session: Session, before: Healths) -> list[tuple[str, str]]:
    """What was healthy and is not any more, or not even listed."""
    now = _healths(session)
    return [
        (name, device)
        for name, healths in before.items()
        for device, health in healths.items()
        if health == HEALTHY and now[name].get(device) != HEALTHY
    ]


def _held(session: Session) -> Iterator[tuple[str, str]]:
    for holder, holding in session.stub.manager.held.items():
        yield from ((holder.resource, device) for device in holding.ids)


def _changed_at_s(session: Session, since_s: float) -> float:
    """Seconds from then to the last list, 0 for one that was faster than the command."""
    return max(0.0, max(listed.at_s for listed in session.record.listed) - since_s)
