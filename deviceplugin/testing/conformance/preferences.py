"""GetPreferredAllocation, asked in every way the kubelet asks."""

import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias

from msgspec import Struct, field

from deviceplugin.testing.conformance.losses import questioned
from deviceplugin.testing.conformance.session import Session
from deviceplugin.testing.conformance.verdict import Finding, failed, lost, passed, skipped, timed
from deviceplugin.testing.plugin_client import RpcError

LINES = (38, 39, 40, 41, 42, 43)
MOST_IDS = 128
SOON_S = 0.05
SHUFFLES = 4
STRANGER = "conformance-unknown-id"

Preferred: TypeAlias = list[str] | RpcError


class Question(Struct, frozen=True):
    """One request to a resource."""

    available: tuple[str, ...]
    must: tuple[str, ...]
    size: int

    def __str__(self) -> str:
        return f"{self.size} of {len(self.available)} with {len(self.must)} set"


class Asking(Struct):
    """The questions to one resource and what came of them: an answer each while it lives."""

    session: Session
    resource: str
    ids: tuple[str, ...]
    answers: list[tuple[Question, Preferred]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    async def ask(self, question: Question) -> Preferred:
        """The ids as they came; HangingError, DiedError."""
        return await self.session.prefer(
            self.resource, question.available, question.must, question.size
        )


async def ask_preferences(session: Session) -> AsyncIterator[Finding]:
    """Findings about lines 38 to 43."""
    for name in session.names:
        options = await session.stub.options(name)
        ids = tuple(session.healthy(name)[:MOST_IDS])
        if not options.get_preferred_allocation_available:
            yield passed(42, f"{name}: the option is not set")
            for line in (38, 39, 40, 41, 43):
                yield skipped(line, f"{name}: the option is not set")
        elif not ids:
            for line in LINES:
                yield lost(line, f"{name}: no healthy device is listed")
        else:
            async for finding in _judge(Asking(session, name, ids)):
                yield finding


async def _judge(asking: Asking) -> AsyncIterator[Finding]:
    name, count = asking.resource, len(list(_questions(asking.ids)))
    lists = asking.session.stub.messages(name)
    asks = (
        (38, _wrong(asking), f"{name}: {count} questions"),
        (39, _strangers(asking), f"{name}: unknown ids"),
        (41, _edges(asking), f"{name}: sizes 0 to beyond"),
        (40, _orders(asking), f"{name}: the same in {SHUFFLES} orders"),
        (43, _changed(asking), f"{name}: the same answers afterwards"),
    )
    ends = len(asking.session.ends)
    for line, problems, seen in asks:
        async for finding in questioned(line, problems, seen):
            yield finding
    yield _has_preference(asking)
    if asking.times_s:
        limit_s = asking.session.settings.limit(SOON_S)
        yield timed(40, f"{name}: answered", asking.times_s, limit_s)
    if ends == len(asking.session.ends) and asking.session.stub.messages(name) != lists:
        yield failed(43, f"{name}: a list came")


def _questions(ids: tuple[str, ...]) -> Iterator[Question]:
    sizes = sorted({1, 2, len(ids) // 2, len(ids) - 1, len(ids)} & set(range(1, len(ids) + 1)))
    for size in sizes:
        yield Question(ids, (), size)
        yield Question(ids, ids[-1:], size)
        yield Question(ids, ids[:size], size)


async def _wrong(asking: Asking) -> AsyncIterator[str]:
    for question in _questions(asking.ids):
        answer = await asking.ask(question)
        asking.answers.append((question, answer))
        for problem in _problems(question, answer):
            yield f"{asking.resource}: {question}: {problem}"


def _problems(question: Question, answer: Preferred) -> Iterator[str]:
    if isinstance(answer, RpcError):
        yield str(answer)
        return
    if len(set(answer)) != question.size or len(answer) != question.size:
        yield f"{len(answer)} ids, {len(set(answer))} of them distinct"
    if outside := sorted(set(answer) - set(question.available)):
        yield f"{outside} are not available"
    if missing := sorted(set(question.must) - set(answer)):
        yield f"{missing} must be in the answer"


def _has_preference(asking: Asking) -> Finding:
    if not asking.answers:
        return lost(42, f"{asking.resource}: no question was answered")
    if any(isinstance(answer, list) and answer for _, answer in asking.answers):
        return passed(42, f"{asking.resource}: the option is set, answers name ids")
    return failed(42, f"{asking.resource}: the option is set, but no answer names an id")


async def _strangers(asking: Asking) -> AsyncIterator[str]:
    ids = asking.ids
    for question in (
        Question((*ids, STRANGER), (), 1),
        Question((*ids, STRANGER), (), len(ids) + 1),
        Question((*ids, STRANGER), (STRANGER,), 1),
    ):
        answer = await asking.ask(question)
        if isinstance(answer, RpcError):
            yield f"{asking.resource}: an unknown id among those available: {answer}"


async def _edges(asking: Asking) -> AsyncIterator[str]:
    ids = asking.ids
    for question in (
        Question(ids, (), 0),
        Question(ids, ids[:1], 1),
        Question(ids, (), len(ids)),
        Question(ids, (), len(ids) + 5),
        Question((), (), 1),
    ):
        answer = await asking.ask(question)
        if isinstance(answer, RpcError):
            yield f"{asking.resource}: {question}: {answer}"
        elif question.size < len(question.available) and len(set(answer)) > question.size:
            yield f"{asking.resource}: {question}: {len(answer)} ids"


async def _orders(asking: Asking) -> AsyncIterator[str]:
    dice = random.Random(0)  # noqa: S311  # repeatable orders
    for question in _questions(asking.ids):
        answers = set()
        for _ in range(SHUFFLES):
            available, must = (
                tuple(dice.sample(ids, len(ids))) for ids in (question.available, question.must)
            )
            started_s = time.monotonic()
            answer = await asking.ask(Question(available, must, question.size))
            asking.times_s.append(time.monotonic() - started_s)
            answers.add(_comparable(answer))
        if len(answers) > 1:
            yield f"{asking.resource}: {question}: {len(answers)} answers to {SHUFFLES} orders"


async def _changed(asking: Asking) -> AsyncIterator[str]:
    """Each question twice in a row: what the first reserved is missing in the second."""
    for question, answer in asking.answers:
        again = [await asking.ask(question) for _ in range(2)]
        if {_comparable(one) for one in again} != {_comparable(answer)}:
            yield f"{asking.resource}: another answer to {question}"


def _comparable(answer: Preferred) -> tuple[str, ...]:
    return (str(answer),) if isinstance(answer, RpcError) else tuple(sorted(answer))
