"""Instances of the plugin that come and go, by the command that starts it."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from deviceplugin.kubelet.socket import is_listening
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.conformance.judge_answers import same_for_all
from deviceplugin.testing.conformance.losses import LostError
from deviceplugin.testing.conformance.session import END_S, Session
from deviceplugin.testing.conformance.verdict import Finding, failed, judged, passed, skipped, timed
from deviceplugin.testing.plugin_client import RpcError

TAKEN_OVER_S, EXIT_S = 1.0, 2.0
CALLERS = 4
_NO_COMMAND = "the suite cannot start the plugin: give its command after --"


async def replace_instance(session: Session) -> AsyncIterator[Finding]:
    """Findings about line 14: a second instance starts, then the first is told to end."""
    if session.plugin is None:
        yield skipped(14, _NO_COMMAND)
        return
    session.record.rolling = True
    try:
        async for finding in _replace(session):
            yield finding
    finally:
        session.record.rolling = False


async def _replace(session: Session) -> AsyncIterator[Finding]:
    first, second = session.plugin, await session.start_plugin()
    with contextlib.suppress(TimeoutError):  # the old one ends when the new one is up
        await session.stub.wait_for(lambda: second.ends, session.settings.up_s)
    if first is not None:
        await first.end(signal.SIGTERM, END_S)
    session.plugin, ended_s = second, time.monotonic()
    try:
        await session.settle()  # for what the old one's end brings
        await session.wait_all("in a rolling update")
    except LostError as error:
        yield judged(14, [*map(str, second.ends[:1]), str(error)], "")
        raise
    session.unblamed()
    # a kubelet lets a container that ended twice wait for 10 s and more
    yield judged(14, map(str, second.ends[:1]), "the new one came up beside the old one")
    last_s = max(opened.at_s for opened in session.record.opened)
    limit_s = session.settings.limit(TAKEN_OVER_S)
    yield timed(14, "the last registration", [max(0.0, last_s - ended_s)], limit_s)
    await seen_by_the_kubelet(session, 1)
    live = {name: session.stub.live_streams(name) for name in session.names}
    wrong = [f"{name}: {count} streams" for name, count in live.items() if count != 1]
    yield judged(14, wrong, "one stream each")


async def kill_instance(session: Session) -> AsyncIterator[Finding]:
    """Findings about lines 5, 24 and 66: an instance is killed while devices are in use; the next
    finds its sockets."""
    if session.plugin is None:
        for line in (5, 66):
            yield skipped(line, _NO_COMMAND)
        return
    known, before = session.topology(), await _answers(session)
    try:
        await session.restart_plugin(signal.SIGKILL)
    except LostError as error:
        ended = session.plugin.tail() if session.plugin else ""
        yield failed(5, f"{error}; the last output: {ended}")
        raise
    yield passed(5, "a killed instance's sockets were taken over")
    after = await session.topology_again(known)
    moved = [f"{name}: other ids or nodes" for name in known if known[name] != after[name]]
    yield judged(24, moved, "the same ids after a restart of the plugin")
    again = await _answers(session)
    other = [f"{name}: another answer" for name in before if again.get(name) != before[name]]
    yield judged(66, moved + other, "the same list and the same answers after a restart")


async def _answers(session: Session) -> dict[str, object]:
    answers = {n: await session.allocate(n, ids[:1]) for n, ids in session.offered()}
    return {name: _comparable(answer) for name, answer in answers.items()}


def _comparable(answer: pluginapi.AllocateResponse | RpcError) -> object:
    if isinstance(answer, RpcError):
        return str(answer)
    return [same_for_all(one) for one in answer.container_responses]


async def end_plugin(session: Session) -> AsyncIterator[Finding]:
    """Findings about lines 16 and 17; the plugin has ended afterwards."""
    if session.plugin is None:
        for line in (16, 17):
            yield skipped(line, "the suite cannot end the plugin: give its command after --")
        return
    sockets = sorted({session.endpoint(name) for name in session.names})
    callers = [asyncio.create_task(_call_on_and_on(session)) for _ in range(CALLERS)]
    limit_s = session.settings.limit(EXIT_S)
    took_s = await session.plugin.end(signal.SIGTERM, max(limit_s, END_S))
    _, hanging = await asyncio.wait(callers, timeout=limit_s)
    for caller in hanging:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    left = [f"{path.name} stays" for path in sockets if path.exists()]
    stuck = [f"{len(hanging)} Allocate calls hang"] if hanging else []
    late = [f"it took {took_s:.1f} s, limit {limit_s:.1f} s"] if took_s > limit_s else []
    yield judged(17, stuck + left + late, f"ended after {took_s:.2f} s with calls under way")
    await seen_by_the_kubelet(session, 0)
    yield judged(16, _still_there(session, sockets), "streams ended, nobody accepts")


async def seen_by_the_kubelet(session: Session, streams: int) -> None:
    """A process that has ended is waited for by us, and the end of its streams told by gRPC: the
    kubelet may hear of it later, and is waited for too."""
    with contextlib.suppress(TimeoutError):
        await session.stub.wait_for(
            lambda: all(session.stub.live_streams(name) == streams for name in session.names),
            session.settings.timeout_s,
        )


def _still_there(session: Session, sockets: Iterable[Path]) -> Iterator[str]:
    for path in sockets:
        if is_listening(path):
            yield f"somebody accepts on {path.name}"
    for name in session.names:
        if session.stub.live_streams(name):
            yield f"{name}: a stream is open"


async def _call_on_and_on(session: Session) -> None:
    """Allocate until an error says that the plugin has gone."""
    while offered := session.offered():
        for name, ids in offered:
            try:
                answer = await session.allocate(name, ids[:1])
            except LostError:  # the kubelet has noticed already
                return
            if isinstance(answer, RpcError):
                return
