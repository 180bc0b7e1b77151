"""GetPreferredAllocation, asked in every way the kubelet asks."""

import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from deviceplugin.testing.conformance.session import Session
from deviceplugin.testing.conformance.verdict import Finding, failed, judged, passed, skipped, timed
from deviceplugin.testing.plugin_client import RpcError

LINES = (38, 39, 40, 41, 42, 43)
MOST_IDS = 128
SOON_S = 0.05
SHUFFLES = 4
STRANGER = "conformance-unknown-id"


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a resource."""

    available: tuple[str, ...]
    must: tuple[str, ...]
    size: int

    def __str__(self) -> str:
        return f"{self.size} of {len(self.available)} with {len(self.must)} set"


async def ask_preferences(session: Session) -> AsyncIterator[Finding]:
    """Findings about lines 38 to 43."""
    for name, ids in session.offered():
        options = await session.stub.options(name)
        if not options.get_preferred_allocation_available:
            yield passed(42, f"{name}: the option is not set")
            for line in (38, 39, 40, 41, 43):
                yield skipped(line, f"{name}: the option is not set")
            continue
        async for finding in _ask(session, name, tuple(ids[:MOST_IDS])):
            yield finding
    if not session.offered():
        for line in LINES:
            yield skipped(line, "no healthy device is listed")


async def _ask(session: Session, name: str, ids: tuple[str, ...]) -> AsyncIterator[Finding]:
    questions = list(_questions(ids))
    before = session.stub.messages(name)
    answers = [await _answer(session, name, question) for question in questions]
    wrong = [p for q, a in zip(questions, answers, strict=True) for p in _problems(name, q, a)]
    yield judged(38, wrong, f"{name}: {len(questions)} questions")
    yield _has_preference(name, answers)
    yield judged(39, [p async for p in _strangers(session, name, ids)], f"{name}: unknown ids")
    yield judged(41, [p async for p in _edges(session, name, ids)], f"{name}: sizes 0 to beyond")
    async for finding in _orders(session, name, questions):
        yield finding
    changed = [problem async for problem in _repeated(session, name, questions, answers)]
    if session.stub.messages(name) != before:
        changed.append(f"{name}: a list came")
    yield judged(43, changed, f"{name}: the same answers and lists afterwards")


def _questions(ids: tuple[str, ...]) -> Iterator[Question]:
    sizes = sorted({1, 2, len(ids) // 2, len(ids) - 1, len(ids)} & set(range(1, len(ids) + 1)))
    for size in sizes:
        yield Question(ids, (), size)
        yield Question(ids, ids[-1:], size)
        yield Question(ids, ids[:size], size)


async def _answer(session: Session, name: str, question: Question) -> list[str] | RpcError:
    return await session.prefer(name, question.available, question.must, question.size)


def _problems(name: str, question: Question, answer: list[str] | RpcError) -> Iterator[str]:
    if isinstance(answer, RpcError):
        yield f"{name}: {question}: {answer}"
        return
    if len(set(answer)) != question.size or len(answer) != question.size:
        yield f"{name}: {question}: {len(answer)} ids, {len(set(answer))} of them distinct"
    if outside := sorted(set(answer) - set(question.available)):
        yield f"{name}: {question}: {outside} are not available"
    if missing := sorted(set(question.must) - set(answer)):
        yield f"{name}: {question}: {missing} must be in the answer"


def _has_preference(name: str, answers: Sequence[list[str] | RpcError]) -> Finding:
    if any(isinstance(answer, list) and answer for answer in answers):
        return passed(42, f"{name}: the option is set, answers name ids")
    return failed(42, f"{name}: the option is set, but no answer names an id")


async def _strangers(session: Session, name: str, ids: tuple[str, ...]) -> AsyncIterator[str]:
    for question in (
        Question((*ids, STRANGER), (), 1),
        Question((*ids, STRANGER), (), len(ids) + 1),
        Question((*ids, STRANGER), (STRANGER,), 1),
    ):
        answer = await _answer(session, name, question)
        if isinstance(answer, RpcError):
            yield f"{name}: an unknown id among those available: {answer}"


async def _edges(session: Session, name: str, ids: tuple[str, ...]) -> AsyncIterator[str]:
    for question in (
        Question(ids, (), 0),
        Question(ids, ids[:1], 1),
        Question(ids, (), len(ids)),
        Question(ids, (), len(ids) + 5),
        Question((), (), 1),
    ):
        answer = await _answer(session, name, question)
        if isinstance(answer, RpcError):
            yield f"{name}: {question}: {answer}"
        elif question.size < len(question.available) and len(set(answer)) > question.size:
            yield f"{name}: {question}: {len(answer)} ids"


async def _orders(
    session: Session, name: str, questions: Iterable[Question]
) -> AsyncIterator[Finding]:
    dice, times_s, different = random.Random(0), [], []  # noqa: S311  # repeatable orders
    for question in questions:
        answers = set()
        for _ in range(SHUFFLES):
            available = tuple(dice.sample(question.available, len(question.available)))
            must = tuple(dice.sample(question.must, len(question.must)))
            started_s = time.monotonic()
            answer = await _answer(session, name, Question(available, must, question.size))
            times_s.append(time.monotonic() - started_s)
            answers.add(_comparable(answer))
        if len(answers) > 1:
            different.append(f"{name}: {question}: {len(answers)} answers to {SHUFFLES} orders")
    yield judged(40, different, f"{name}: the same in {SHUFFLES} orders")
    yield timed(40, f"{name}: answered", times_s, session.settings.limit(SOON_S))


async def _repeated(
    session: Session,
    name: str,
    questions: Sequence[Question],
    answers: Sequence[list[str] | RpcError],
) -> AsyncIterator[str]:
    """Each question twice in a row: what the first reserved is missing in the second."""
    for question, answer in zip(questions, answers, strict=True):
        again = [await _answer(session, name, question) for _ in range(2)]
        if {_comparable(one) for one in again} != {_comparable(answer)}:
            yield f"{name}: another answer to {question}"


def _comparable(answer: list[str] | RpcError) -> tuple[str, ...]:
    return (str(answer),) if isinstance(answer, RpcError) else tuple(sorted(answer))
