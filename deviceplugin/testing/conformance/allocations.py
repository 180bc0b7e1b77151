"""Allocate, asked in every way the kubelet asks, and in ways that have to be refused."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Iterator

from msgspec import Struct, field

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.conformance.judge_answers import Answer, judge_answers, same_for_all
from deviceplugin.testing.conformance.losses import DiedError, HangingError, questioned
from deviceplugin.testing.conformance.preferences import STRANGER
from deviceplugin.testing.conformance.refusals import bad_texts, refusal_problems
from deviceplugin.testing.conformance.session import Session
from deviceplugin.testing.conformance.verdict import Finding, judged, lost, skipped, timed
from deviceplugin.testing.plugin_client import PRE_START_TIMEOUT_S, RpcError

LINES = (44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 57, 58, 59, 60, 61)
MOST_IDS = 16
ANSWER_S = 0.1
ROUNDS = 4


class Answers(Struct):
    """What one resource answered to requests for one device each, and how it refused.

    refuses: it survived the requests that it has to refuse.
    """

    session: Session
    resource: str
    by_id: dict[str, Answer] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    refusal_times_s: list[float] = field(default_factory=list)
    errors: list[RpcError] = field(default_factory=list)
    refuses: bool = False

    async def ask(self, *requests: list[str]) -> pluginapi.AllocateResponse | RpcError:
        """Allocate with a container request for each list of ids; HangingError, DiedError."""
        return await self.session.allocate(self.resource, *requests)


async def ask_allocations(session: Session) -> AsyncIterator[Finding]:
    """Findings about lines 44 to 55 and 57 to 61."""
    every: list[Answers] = []
    offered = session.offered()
    for name in sorted(set(session.names) - {name for name, _ in offered}):
        for line in (44,) if offered else LINES:
            yield lost(line, f"{name}: no healthy device is listed")
    hanging: HangingError | None = None
    try:
        for name, ids in offered:
            every.append(Answers(session, name))
            async for finding in _judge_resource(every[-1], ids[:MOST_IDS]):
                yield finding
        async for finding in _at_once(session, {one.resource for one in every if one.refuses}):
            yield finding
    except HangingError as error:
        hanging = error
    gathered = {one.resource: list(one.by_id.values()) for one in every}
    for finding in judge_answers(gathered, session.settings):
        yield finding
    if hanging:
        raise hanging


async def _judge_resource(answers: Answers, ids: list[str]) -> AsyncIterator[Finding]:
    name = answers.resource
    asked = f"{name}: {len(ids)} devices"
    async for finding in questioned(
        44, _each(answers, ids), f"{asked}, also {ROUNDS} in one request", hangs=45
    ):
        yield finding
    for line, problems, seen in (
        (46, _again(answers), f"{asked} twice"),
        (48, _orders(answers), f"{asked}, {ROUNDS} at once in {ROUNDS + 2} orders"),
        (47, _strangers(answers), f"{name}: refused"),
    ):
        if line != 47 and not answers.by_id:
            yield lost(line, f"{name}: no device was allocated")
            continue
        if line == 48 and len(answers.by_id) < 2:
            yield skipped(48, f"{name}: fewer than two devices")
            continue
        async for finding in questioned(line, problems, seen, hangs=45):
            yield finding
    for finding in _times(answers):
        yield finding
    yield _encoded(answers)
    yield _texts(answers)
    async for finding in _pre_start(answers):
        yield finding


async def _each(answers: Answers, ids: list[str]) -> AsyncIterator[str]:
    name = answers.resource
    for device in ids:
        started_s = time.monotonic()
        answer = await answers.ask([device])
        answers.times_s.append(time.monotonic() - started_s)
        if isinstance(answer, RpcError):
            answers.errors.append(answer)
            yield f"{name}: {device} is healthy and refused: {answer}"
        elif len(answer.container_responses) != 1:
            yield f"{name}: {len(answer.container_responses)} responses to one"
        else:
            answers.by_id[device] = answer.container_responses[0]
    async for problem in _several(answers):
        yield problem


async def _several(answers: Answers) -> AsyncIterator[str]:
    """Several container requests in one call, compared with each one's own answer."""
    ids = list(answers.by_id)[:ROUNDS]
    if len(ids) < 2:
        return
    together = await answers.ask(*([device] for device in ids))
    if isinstance(together, RpcError):
        yield f"{answers.resource}: {len(ids)} requests in one call: {together}"
        return
    responses = [same_for_all(answer) for answer in together.container_responses]
    alone = [same_for_all(answers.by_id[device]) for device in ids]
    if len(responses) != len(ids):
        yield f"{answers.resource}: {len(responses)} responses to {len(ids)} requests"
    elif responses != alone and sorted(map(str, responses)) == sorted(map(str, alone)):
        yield f"{answers.resource}: responses in another order than the requests"


async def _again(answers: Answers) -> AsyncIterator[str]:
    for device, before in answers.by_id.items():
        answer = await answers.ask([device])
        if isinstance(answer, RpcError):
            yield f"{answers.resource}: {device} asked for again: {answer}"
        elif [same_for_all(one) for one in answer.container_responses] != [same_for_all(before)]:
            yield f"{answers.resource}: {device} has another answer the second time"


async def _orders(answers: Answers) -> AsyncIterator[str]:
    ids, name = list(answers.by_id)[:ROUNDS], answers.resource
    dice, seen = random.Random(0), []  # noqa: S311  # repeatable orders
    for asked in (ids, ids[::-1], *(dice.sample(ids, len(ids)) for _ in range(ROUNDS))):
        answer = await answers.ask(asked)
        if isinstance(answer, RpcError):
            answers.errors.append(answer)
            return  # that so many are refused is no matter of their order
        alike = [same_for_all(one) for one in answer.container_responses]
        if alike not in seen:
            seen.append(alike)
    if len(seen) > 1:
        yield f"{name}: {len(seen)} answers to orders of {ids}"


async def _strangers(answers: Answers) -> AsyncIterator[str]:
    """Requests that have to be refused as a whole."""
    known = list(answers.by_id)[:1]
    requests = {
        "an unknown id": [[STRANGER]],
        "a known and an unknown id": [[*known, STRANGER]],
        "a good request and one with an unknown id": [known, [STRANGER]],
    }
    for what, asked in requests.items():
        started_s = time.monotonic()
        answer = await answers.ask(*asked)
        answers.refusal_times_s.append(time.monotonic() - started_s)
        if isinstance(answer, RpcError):
            answers.errors.append(answer)
        for problem in refusal_problems(answers.resource, what, answer):
            yield problem
    answers.refuses = True


def _times(answers: Answers) -> Iterator[Finding]:
    limit_s = answers.session.settings.limit(ANSWER_S)
    if answers.times_s:
        yield timed(45, f"{answers.resource}: answered", answers.times_s, limit_s)
    if answers.refusal_times_s:
        yield timed(45, f"{answers.resource}: refused", answers.refusal_times_s, limit_s)


def _encoded(answers: Answers) -> Finding:
    unreadable = [str(e) for e in answers.errors if "failed to unmarshal" in str(e)]
    return judged(59, unreadable, f"{len(answers.by_id)} answers were readable")


def _texts(answers: Answers) -> Finding:
    texts = [error.detail for error in answers.errors]
    if not texts:
        return skipped(58, f"{answers.resource}: no call was refused")
    return judged(58, bad_texts(texts), f"{answers.resource}: {texts[-1]!r}")


async def _pre_start(answers: Answers) -> AsyncIterator[Finding]:
    name = answers.resource
    if not (await answers.session.stub.options(name)).pre_start_required:
        yield skipped(61, f"{name}: PreStartContainer is not asked for")
        return
    async for finding in questioned(61, _twice(answers), f"{name}: answered twice"):
        yield finding


async def _twice(answers: Answers) -> AsyncIterator[str]:
    name, session = answers.resource, answers.session
    request = pluginapi.PreStartContainerRequest(devices_ids=list(answers.by_id)[:1])
    kind = pluginapi.PreStartContainerResponse
    for when in ("first", "second"):
        started_s = time.monotonic()
        answer = await session.call(name, "PreStartContainer", request, kind)
        if isinstance(answer, RpcError):
            yield f"{name}: the {when} PreStartContainer: {answer}"
        if time.monotonic() - started_s > session.settings.limit(PRE_START_TIMEOUT_S):
            yield f"{name}: the {when} PreStartContainer took too long"


async def _at_once(session: Session, refusing: set[str]) -> AsyncIterator[Finding]:
    """Everything the kubelet may call, for all resources at once, but not what one died of."""
    calls: list[Awaitable[object]] = []
    for name, ids in session.offered() * ROUNDS:
        calls.append(session.allocate(name, ids[:1]))
        if name in refusing:
            calls.append(session.allocate(name, [STRANGER]))
        if (await session.stub.options(name)).get_preferred_allocation_available:
            calls.append(session.prefer(name, ids[:MOST_IDS], [], 1))
    unanswered = [text for text in await asyncio.gather(*map(_unanswered, calls)) if text]
    live = {name: session.stub.live_streams(name) for name in session.names}
    closed = [f"{name}: no open stream" for name, count in live.items() if not count]
    if calls:
        seen = f"{len(calls)} calls at once, {sum(live.values())} streams open"
        yield judged(60, [*unanswered, *closed], seen)


async def _unanswered(call: Awaitable[object]) -> str:
    try:
        await call
    except (HangingError, DiedError) as error:
        return str(error)
    return ""
