"""What a plugin holds open more after restarts of the kubelet than before."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

from deviceplugin.testing.conformance.process import Usage
from deviceplugin.testing.conformance.session import Session
from deviceplugin.testing.conformance.verdict import Finding, judged, skipped

# Collectors of garbage close connections late; a leak is one or more for each restart.
FILES_MORE, THREADS_MORE = 64, 8


async def judge_leaks(
    session: Session,
    before: Usage | None,
    restarts: int,
    again: Callable[[int], Awaitable[Sequence[float]]],
) -> AsyncIterator[Finding]:
    """Findings about lines 18 and 35 after a batch of restarts; `again` makes another batch.

    More than before may be idle, or wait to be collected: what is used again does not grow. So a
    leak is what grows once more after a rest.
    """
    after = session.usage()
    if before is None or after is None:
        for line in (18, 35):
            yield skipped(line, "the process cannot be seen: give --pid or a command")
        return
    seen = f"{before}; after {restarts} restarts {after}"
    more = list(_growth(before, after, restarts))
    if more:
        await asyncio.sleep(session.settings.rest_s)
        times_s = await again(restarts)
        await session.settle()
        last = session.usage() or after
        seen = f"{seen}; after a rest and {len(times_s)} more {last}"
        more = list(_growth(after, last, len(times_s)))
    for line in (18, 35):
        yield judged(line, [f"{text}: {seen}" for text in more], seen)


def _growth(before: Usage, after: Usage, restarts: int) -> Iterator[str]:
    if (files := after.files - before.files) > max(FILES_MORE, restarts // 2):
        yield f"{files} more open files"
    if (threads := after.threads - before.threads) > max(THREADS_MORE, restarts // 4):
        yield f"{threads} more threads"
