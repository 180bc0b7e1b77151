"""The stages of a run, each on lives of the driver of its own."""

from collections.abc import AsyncIterator, Callable

import grpc
from msgspec import Struct

from deviceplugin.testing.conformance.dra.preparing import prepare
from deviceplugin.testing.conformance.dra.publishing import break_device, publish
from deviceplugin.testing.conformance.dra.registering import leave_alone, live_twice, register
from deviceplugin.testing.conformance.dra.remembering import remember, tell_health
from deviceplugin.testing.conformance.dra.session import Session, Subject
from deviceplugin.testing.conformance.losses import LostError
from deviceplugin.testing.conformance.runner import Result
from deviceplugin.testing.conformance.verdict import DRA, Finding, lost, verdicts
from deviceplugin.testing.dra import RefusedError

Probe = Callable[[Session], AsyncIterator[Finding]]


class Stage(Struct, frozen=True):
    """What is done to the driver, and the lines that are lost where it cannot be done."""

    probe: Probe
    lines: frozenset[int]


STAGES = (
    Stage(register, frozenset({1, 2, 3, 6})),
    Stage(publish, frozenset({7, 8, 9, 10, 12, 13, 15, 16, 18, 19})),
    Stage(break_device, frozenset({11, 14, 17, 39})),
    Stage(prepare, frozenset({20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32})),
    Stage(remember, frozenset({34, 35, 36, 37})),
    Stage(tell_health, frozenset({38})),
    Stage(live_twice, frozenset({4, 5})),
    Stage(leave_alone, frozenset({44})),
)


async def run_dra_suite(
    subject: Subject, *, slack: float = 1.0, lines: frozenset[int] = frozenset()
) -> Result:
    """Judge a driver; with `lines` by the stages alone that see them."""
    session = Session(subject, slack)
    findings: list[Finding] = []
    for stage in STAGES:
        if lines and lines.isdisjoint(stage.lines):
            continue
        findings += await _findings(stage, session)
    names = {spec["spec"]["driver"] for spec in subject.api.slices.values()}
    return Result(tuple(sorted(names)), verdicts(findings, DRA))


async def _findings(stage: Stage, session: Session) -> list[Finding]:
    """What a stage that is broken off has not seen is lost."""
    found: list[Finding] = []
    try:
        async for finding in stage.probe(session):
            found.append(finding)
    except (LostError, RefusedError, grpc.RpcError) as error:
        missing = sorted(stage.lines - {one.line for one in found})
        found += [lost(number, f"not reached: {error}") for number in missing]
    return found
