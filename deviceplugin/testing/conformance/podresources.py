"""A kubelet whose PodResources is away, refuses, and comes back."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from deviceplugin.testing.conformance.losses import questioned
from deviceplugin.testing.conformance.session import Session
from deviceplugin.testing.conformance.verdict import Finding, judged, skipped
from deviceplugin.testing.plugin_client import RpcError

WINDOW_S = 5.0
REFUSING_S = 4.0
BURST = 2  # questions more than one a second: one after each Allocate, and one that was due
NEXT_S, POLL_S = 15.0, 0.1


async def withhold_pod_resources(session: Session) -> AsyncIterator[Finding]:
    """Findings about lines 63 and 64."""
    await session.stub.stop_pod_resources()
    try:
        seen = f"{len(session.offered())} resources answer without it"
        async for finding in questioned(63, _allocate_each(session), seen):
            yield finding
    finally:
        await session.stub.start_pod_resources()
    if not await _more_than(session, 0):
        yield skipped(64, "it never asked for pods")
        return
    session.stub.pod_resources_knobs.exhausted = True
    _ = [problem async for problem in _allocate_each(session)]
    await asyncio.sleep(REFUSING_S)
    session.stub.pod_resources_knobs.exhausted = False
    async for finding in _asks_again(session):
        yield finding


async def _allocate_each(session: Session) -> AsyncIterator[str]:
    for name, ids in session.offered():
        answer = await session.allocate(name, ids[:1])
        if isinstance(answer, RpcError):
            yield f"{name}: Allocate without PodResources: {answer}"


async def _asks_again(session: Session) -> AsyncIterator[Finding]:
    asked = session.stub.pod_resources.lists_at_s
    before = len(asked)
    _ = [problem async for problem in _allocate_each(session)]
    if not await _more_than(session, before):
        yield judged(64, [f"not asked again within {_next_s(session):g} s of a new socket"], "")
    most = _most_in_window(asked)
    problems = [f"{most} questions within {WINDOW_S:g} s"] if most > WINDOW_S + BURST else []
    yield judged(
        64, problems, f"at most {most} questions within {WINDOW_S:g} s, {len(asked)} in all"
    )


async def _more_than(session: Session, before: int) -> bool:
    """Whether it asks more than `before` times, given the time."""
    for _ in range(int(_next_s(session) / POLL_S)):
        if len(session.stub.pod_resources.lists_at_s) > before:
            return True
        await asyncio.sleep(POLL_S)
    return False


def _next_s(session: Session) -> float:
    return min(NEXT_S, session.settings.timeout_s)


def _most_in_window(times_s: Sequence[float]) -> int:
    return max(sum(start <= at_s < start + WINDOW_S for at_s in times_s) for start in times_s)
