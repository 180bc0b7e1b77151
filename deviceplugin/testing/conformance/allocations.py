"""Allocate, asked in every way the kubelet asks, and in ways that have to be refused."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.conformance.judge_answers import Answer, judge_answers
from deviceplugin.testing.conformance.preferences import STRANGER
from deviceplugin.testing.conformance.session import HangingError, Session
from deviceplugin.testing.conformance.verdict import Finding, failed, judged, skipped, timed
from deviceplugin.testing.plugin_client import PRE_START_TIMEOUT_S, RpcError

LINES = (44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 57, 58, 59, 60, 61)
MOST_IDS = 16
ANSWER_S = 0.1
TEXT_MAX = 300
ROUNDS = 4
REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


@dataclass(slots=True)
class Answers:
    """What one resource answered to requests for one device each."""

    resource: str
    by_id: dict[str, Answer] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    errors: list[RpcError] = field(default_factory=list)


async def ask_allocations(session: Session) -> AsyncIterator[Finding]:
    """Findings about lines 44 to 55 and 57 to 61."""
    gathered: dict[str, list[Answer]] = {}
    if not (offered := session.offered()):
        for line in LINES:
            yield skipped(line, "no healthy device is listed")
        return
    hanging: HangingError | None = None
    try:
        for name, ids in offered:
            answers = await _ask_each(session, name, ids[:MOST_IDS])
            gathered[name] = list(answers.by_id.values())
            async for finding in _judge_resource(session, answers):
                yield finding
        async for finding in _at_once(session):
            yield finding
    except HangingError as error:
        hanging = error
        yield failed(45, str(error))
    for finding in judge_answers(gathered, session.settings):
        yield finding
    if hanging:
        raise hanging


async def _ask_each(session: Session, name: str, ids: Sequence[str]) -> Answers:
    answers = Answers(name)
    for device in ids:
        started_s = time.monotonic()
        answer = await session.allocate(name, [device])
        answers.times_s.append(time.monotonic() - started_s)
        if isinstance(answer, RpcError):
            answers.errors.append(answer)
            answers.problems.append(f"{name}: {device} is healthy and refused: {answer}")
        elif len(answer.container_responses) != 1:
            answers.problems.append(f"{name}: {len(answer.container_responses)} responses to one")
        else:
            answers.by_id[device] = answer.container_responses[0]
    return answers


async def _judge_resource(session: Session, answers: Answers) -> AsyncIterator[Finding]:
    name = answers.resource
    several = [problem async for problem in _several(session, answers)]
    asked = f"{name}: {len(answers.times_s)} devices"
    yield judged(44, [*answers.problems, *several], f"{asked}, also {ROUNDS} in one request")
    limit_s = session.settings.limit(ANSWER_S)
    yield timed(45, f"{name}: answered", answers.times_s, limit_s)
    if answers.by_id:
        yield judged(46, [p async for p in _again(session, answers)], f"{asked} twice")
    yield await _orders(session, answers)
    yield _encoded(answers)
    async for finding in _strangers(session, answers):
        yield finding
    yield await _pre_start(session, answers)


async def _several(session: Session, answers: Answers) -> AsyncIterator[str]:
    """Several container requests in one call, compared with each one's own answer."""
    ids = list(answers.by_id)[:ROUNDS]
    if len(ids) < 2:
        return
    together = await session.allocate(answers.resource, *([device] for device in ids))
    if isinstance(together, RpcError):
        yield f"{answers.resource}: {len(ids)} requests in one call: {together}"
        return
    responses = list(together.container_responses)
    if len(responses) != len(ids):
        yield f"{answers.resource}: {len(responses)} responses to {len(ids)} requests"
    elif sorted(map(str, responses)) == sorted(str(answers.by_id[d]) for d in ids) and any(
        response != answers.by_id[d] for response, d in zip(responses, ids, strict=True)
    ):
        yield f"{answers.resource}: responses in another order than the requests"


async def _again(session: Session, answers: Answers) -> AsyncIterator[str]:
    for device, before in answers.by_id.items():
        answer = await session.allocate(answers.resource, [device])
        if isinstance(answer, RpcError):
            yield f"{answers.resource}: {device} asked for again: {answer}"
        elif list(answer.container_responses) != [before]:
            yield f"{answers.resource}: {device} has another answer the second time"


async def _orders(session: Session, answers: Answers) -> Finding:
    ids, name = list(answers.by_id)[:ROUNDS], answers.resource
    if len(ids) < 2:
        return skipped(48, f"{name}: fewer than two healthy devices")
    dice, seen = random.Random(0), []  # noqa: S311  # repeatable orders
    for asked in (ids, ids[::-1], *(dice.sample(ids, len(ids)) for _ in range(ROUNDS))):
        answer = await session.allocate(name, asked)
        if isinstance(answer, RpcError):
            answers.errors.append(answer)
            return skipped(48, f"{name}: {len(ids)} devices at once are refused: {answer}")
        if answer not in seen:
            seen.append(answer)
    different = [f"{name}: {len(seen)} answers to orders of {ids}"] if len(seen) > 1 else []
    return judged(48, different, f"{name}: {len(ids)} devices in {ROUNDS + 2} orders")


def _encoded(answers: Answers) -> Finding:
    unreadable = [str(e) for e in answers.errors if "failed to unmarshal" in str(e)]
    return judged(59, unreadable, f"{len(answers.by_id)} answers were readable")


async def _strangers(session: Session, answers: Answers) -> AsyncIterator[Finding]:
    """Requests that have to be refused as a whole."""
    name, known = answers.resource, list(answers.by_id)[:1]
    requests = {
        "an unknown id": [[STRANGER]],
        "a known and an unknown id": [[*known, STRANGER]],
        "a good request and one with an unknown id": [known, [STRANGER]],
    }
    refusals = [(what, await session.allocate(name, *asked)) for what, asked in requests.items()]
    yield judged(47, (p for r in refusals for p in refusal_problems(name, *r)), f"{name}: refused")
    texts = [error.detail for _, error in refusals if isinstance(error, RpcError)]
    texts += [error.detail for error in answers.errors]
    if texts:
        yield judged(58, _bad_texts(texts), f"{name}: {texts[0]!r}")
    else:
        yield skipped(58, f"{name}: no call was refused")


def refusal_problems(
    name: str, what: str, answer: pluginapi.AllocateResponse | RpcError
) -> Iterator[str]:
    """What is wrong with the answer to a request that cannot be met."""
    if not isinstance(answer, RpcError):
        yield f"{name}: {what} is accepted"
        return
    if answer.code not in REFUSALS:
        yield f"{name}: {what}: code {answer.code.name}"
    if not answer.detail.strip():
        yield f"{name}: {what}: no text"


def _bad_texts(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if len(text.splitlines()) > 1:
            yield f"{len(text.splitlines())} lines: {text[:TEXT_MAX]!r}"
        if len(text) > TEXT_MAX:
            yield f"{len(text)} characters: {text[:TEXT_MAX]!r}"


async def _pre_start(session: Session, answers: Answers) -> Finding:
    name, ids = answers.resource, list(answers.by_id)[:1]
    if not (await session.stub.options(name)).pre_start_required:
        return skipped(61, f"{name}: PreStartContainer is not asked for")
    request = pluginapi.PreStartContainerRequest(devices_ids=ids)
    kind = pluginapi.PreStartContainerResponse
    problems = []
    for when in ("first", "second"):
        started_s = time.monotonic()
        answer = await session.call(name, "PreStartContainer", request, kind)
        if isinstance(answer, RpcError):
            problems.append(f"{name}: the {when} PreStartContainer: {answer}")
        if time.monotonic() - started_s > session.settings.limit(PRE_START_TIMEOUT_S):
            problems.append(f"{name}: the {when} PreStartContainer took too long")
    return judged(61, problems, f"{name}: answered twice")


async def _at_once(session: Session) -> AsyncIterator[Finding]:
    """Everything the kubelet may call, for all resources at once."""
    calls: list[Awaitable[object]] = []
    for name, ids in session.offered() * ROUNDS:
        calls += [session.allocate(name, ids[:1]), session.allocate(name, [STRANGER])]
        if (await session.stub.options(name)).get_preferred_allocation_available:
            calls.append(session.prefer(name, ids[:MOST_IDS], [], 1))
    hanging = [text for text in await asyncio.gather(*map(_hanging, calls)) if text]
    live = {name: session.stub.live_streams(name) for name in session.names}
    closed = [f"{name}: no open stream" for name, count in live.items() if not count]
    if calls:
        seen = f"{len(calls)} calls at once, {sum(live.values())} streams open"
        yield judged(60, [*hanging, *closed], seen)


async def _hanging(call: Awaitable[object]) -> str:
    try:
        await call
    except HangingError as error:
        return str(error)
    return ""
