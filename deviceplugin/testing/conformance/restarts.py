"""Streams that end, sockets that vanish, kubelets that refuse, go away and come back."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import pairwise
from statistics import median

from deviceplugin.testing.conformance.leaks import judge_leaks
from deviceplugin.testing.conformance.losses import LostError
from deviceplugin.testing.conformance.session import Session
from deviceplugin.testing.conformance.verdict import Finding, Outcome, failed, judged, passed, timed
from deviceplugin.testing.conformance.view import Topology

AGAIN_S, RESTARTED_S, BACKOFF_S = 1.0, 0.05, 0.5
PAUSE_MAX_S, PAUSE_MIN_S = 5.0, 0.01
REFUSALS = 3
AWAY_S = 0.5
REFUSED = "refused by the conformance suite"
STREAMS = 2  # a timer of the plugin's own may fall into the time once


async def end_streams(session: Session) -> AsyncIterator[Finding]:
    """Findings about line 12: the kubelet drops each resource's connection."""
    limit_s = session.settings.limit(AGAIN_S)
    try:
        for _ in range(STREAMS):
            times_s = [await _again_after_s(session, name) for name in session.names]
            finding = timed(12, "registered again", times_s, limit_s)
            yield finding
            if finding.outcome is Outcome.FAIL:
                return
    except LostError as error:
        yield failed(12, str(error))
        raise


async def _again_after_s(session: Session, name: str) -> float:
    started_s = time.monotonic()
    await session.disconnect(name)
    await session.wait(
        lambda: session.opened_since(started_s, name),
        f"{name}: no Register after the end of its stream",
    )
    took_s = time.monotonic() - started_s
    await session.wait_all("after the end of its stream")
    return took_s


async def stir_directory(session: Session) -> AsyncIterator[Finding]:
    """Findings about line 13: files beside the kubelet's socket change, as its checkpoint does."""
    before = len(session.record.asked)
    mode = session.stub.kubelet_socket.stat().st_mode
    for number in range(5):
        path = session.stub.socket_dir / f".conformance-{number}"
        path.write_text("as a checkpoint\n")
        os.replace(path, path.with_name("conformance-checkpoint"))
        session.stub.kubelet_socket.chmod(mode & 0o777)
    session.stub.socket_dir.joinpath("conformance-checkpoint").unlink()
    await session.settle()
    more = len(session.record.asked) - before
    problems = [f"{more} Registers because files beside the kubelet's socket changed"]
    yield judged(13, problems if more else [], "none because of other files")


async def lose_sockets(session: Session) -> AsyncIterator[Finding]:
    """Findings about line 11: every socket of the plugin is gone when a new kubelet comes."""
    sockets = [session.endpoint(name) for name in session.names]
    session.record.removes_sockets(*sockets)
    session.record.excuse()
    for path in sockets:
        path.unlink(missing_ok=True)
    await session.restart_kubelet()
    try:
        await session.wait_all("after its socket was removed")
    except LostError as error:
        yield failed(11, str(error))
        raise
    yield passed(11, f"{len(session.names)} sockets made again")


async def refuse(session: Session) -> AsyncIterator[Finding]:
    """Findings about line 8: a socket where nobody listens, then a kubelet that refuses."""
    texts = [REFUSED] * (REFUSALS * len(session.names))
    session.unblamed()
    await session.stub.stop()
    await asyncio.sleep(AWAY_S)
    session.stub.register_knobs.refuse_next.extend(texts)
    started_s = time.monotonic()
    await session.restart_kubelet()
    try:
        await session.wait_all(f"after {len(texts)} refusals")
    except LostError as error:
        yield judged(8, [*map(str, session.unblamed()), str(error)], "")
        raise
    session.stub.register_knobs.refuse_next.clear()  # one that ended may have had fewer
    pauses = list(_pauses(session, started_s))
    problems = [str(end) for end in session.unblamed()]
    problems += [f"a pause of {pause:.1f} s" for pause in pauses if pause > _longest(session)]
    if pauses and median(pauses) < PAUSE_MIN_S:
        problems.append(f"pauses of {median(pauses) * 1000:.1f} ms: no pause at all")
    longest = f"pauses up to {max(pauses):.2f} s" if pauses else "no pause seen"
    yield judged(8, problems, f"registered after {len(texts)} refusals, {longest}")


def _longest(session: Session) -> float:
    return session.settings.limit(PAUSE_MAX_S)


def _pauses(session: Session, since_s: float) -> Iterator[float]:
    for name in session.names:
        times = [a.at_s for a in session.record.asked if a.request.resource_name == name]
        late = [at_s for at_s in times if at_s >= since_s]
        yield from (after - before for before, after in pairwise(late))


async def restart_kubelet(session: Session) -> AsyncIterator[Finding]:
    """Findings about lines 4, 9, 10, 18, 24 and 35: one long absence, then many restarts."""
    known, most = session.topology(), session.settings.restarts
    try:
        away_s = await _restart(session, AWAY_S)
        before = session.usage()
        times_s = await _batch(session, most)
    except LostError as error:
        yield judged(9, [str(error), *map(str, session.unblamed())], "")
        raise
    ends = session.unblamed()
    again = f"; started again {len(ends)} times: {ends[-1]}" if ends else ""
    yield timed(9, f"registered again{again}", times_s, session.settings.limit(RESTARTED_S))
    yield timed(10, f"after an absence{again}", [away_s], session.settings.limit(BACKOFF_S))
    yield passed(4, f"served again after {len(times_s)} restarts, {_where(session)}")
    await session.settle()
    now = await session.topology_again(known)
    yield judged(24, _moved(known, now), f"the same ids after {len(times_s)} restarts")
    async for finding in judge_leaks(session, before, len(times_s), partial(_batch, session)):
        yield finding


async def _batch(session: Session, most: int) -> list[float]:
    """Restart the kubelet so often, once at least, while there is time; seconds of each."""
    deadline_s = time.monotonic() + session.settings.loop_s
    times_s = [await _restart(session, 0.0)]
    while len(times_s) < most and time.monotonic() < deadline_s:
        times_s.append(await _restart(session, 0.0))
    return times_s


async def _restart(session: Session, down_s: float) -> float:
    """Restart the kubelet; seconds from its socket to the last registration."""
    await session.restart_kubelet(down_s)
    await session.wait_all("after a restart of the kubelet")
    generation, started_s = session.stub.generation, session.stub.started_at_s or 0.0
    opened = {
        one.resource: one.at_s
        for one in reversed(session.record.opened)
        if one.generation == generation
    }
    return max(opened[name] for name in session.names) - started_s


def _where(session: Session) -> str:
    top = [n for n in session.names if session.endpoint(n).parent == session.stub.socket_dir]
    return f"{len(top)} of {len(session.names)} sockets created again at the top level"


def _moved(known: Topology, now: Topology) -> Iterator[str]:
    for name, devices in now.items():
        if devices != known[name]:
            yield f"{name}: {list(known[name].items())[:3]} became {list(devices.items())[:3]}"
