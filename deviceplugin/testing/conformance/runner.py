"""The stages of a run, one after the other; each takes up where the one before left the plugin."""

import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from deviceplugin.testing.conformance import allocations, faults, preferences
from deviceplugin.testing.conformance.ending import (
    end_plugin,
    kill_instance,
    replace_instance,
)
from deviceplugin.testing.conformance.judge_lists import judge_lists
from deviceplugin.testing.conformance.judge_registrations import judge_registrations
from deviceplugin.testing.conformance.losses import DiedError, LostError
from deviceplugin.testing.conformance.podresources import withhold_pod_resources
from deviceplugin.testing.conformance.readiness import probe_readiness
from deviceplugin.testing.conformance.restarts import (
    end_streams,
    lose_sockets,
    refuse,
    restart_kubelet,
    stir_directory,
)
from deviceplugin.testing.conformance.session import END_S, Session
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.conformance.verdict import (
    Finding,
    Outcome,
    Verdict,
    failed,
    lost,
    passed,
    skipped,
    verdicts,
)

Probe = Callable[[Session], AsyncIterator[Finding]]


class Stage(Struct, frozen=True):
    """What is done to the plugin, and which lines are not seen where it cannot be done.

    blame: the line that fails where the plugin ends meanwhile and no question was to blame. None:
    it may end, and be started again, where that is fast enough.
    """

    probe: Probe
    lines: tuple[int, ...]
    blame: int | None = None


STAGES = (
    Stage(preferences.ask_preferences, preferences.LINES, blame=43),
    Stage(allocations.ask_allocations, allocations.LINES, blame=60),
    Stage(withhold_pod_resources, (63, 64), blame=63),
    Stage(stir_directory, (13,), blame=13),
    Stage(end_streams, (12,)),
    Stage(lose_sockets, (11,)),
    Stage(refuse, (8,), blame=8),
    Stage(restart_kubelet, (4, 9, 10, 18, 24, 35)),
    Stage(faults.break_and_mend, faults.LINES, blame=37),
    Stage(probe_readiness, (67,)),
    Stage(replace_instance, (14,)),
    Stage(kill_instance, (5, 24, 66)),
    Stage(end_plugin, (16, 17)),
)


class Result(Struct, frozen=True):
    """The resources that were judged, and a verdict for each line."""

    resources: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    def count(self, outcome: Outcome) -> int:
        """How many lines came out so."""
        return sum(verdict.outcome is outcome for verdict in self.verdicts)


async def run_suite(settings: Settings) -> Result:
    """Judge the plugin that registers below settings.kubelet_dir."""
    findings: list[Finding] = []
    with _directories(settings):
        session = Session(settings)
        try:
            findings += await _come_up(session)
            if session.names:
                findings += await _all_stages(session)
        finally:
            await _go_down(session)
    findings += judge_registrations(session.record, session.stub.registrations, settings)
    findings += judge_lists(session.record, session.stub.manager.faults, settings)
    return Result(session.names, verdicts(findings))


@contextmanager
def _directories(settings: Settings) -> Iterator[None]:
    """Make the kubelet's directories; take those away again that were made and are empty."""
    root = settings.kubelet_dir
    made = [path for path in (root / "device-plugins", root / "pod-resources") if not path.exists()]
    for path in made:
        path.mkdir(parents=True)
    try:
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # the plugin keeps something there
                path.rmdir()


async def _come_up(session: Session) -> list[Finding]:
    """Start the plugin before the kubelet where that is possible; wait for its lists."""
    order = "the plugin was started by hand"
    try:
        if session.settings.command:
            order = f"the kubelet started {session.settings.early_s:g} s after the plugin"
            session.plugin = await session.start_plugin()
            with contextlib.suppress(TimeoutError):  # it ran on, as it should
                await session.stub.wait_for(lambda: session.ends, session.settings.early_s)
        await session.start_kubelet()
        await session.wait_settled()
    except LostError as error:
        ends = [str(end) for end in session.unblamed()][:1]
        if session.plugin and not ends:
            ends = [f"the last output: {session.plugin.tail()}"]
        return [failed(18, "; ".join([str(error), *ends]))]
    ends = [str(end) for end in session.unblamed()]
    if ends:
        return [failed(18, f"{order}; ended {len(ends)} times until then: {ends[0]}")]
    return [passed(18, order)] if session.settings.command else []


async def _all_stages(session: Session) -> list[Finding]:
    findings: list[Finding] = []
    gone = ""
    asked = session.settings.lines
    stages = [stage for stage in STAGES if not asked or not asked.isdisjoint(stage.lines)]
    for line in (line for stage in STAGES if stage not in stages for line in stage.lines):
        findings.append(skipped(line, "not asked for"))
    for stage in stages:
        if gone:
            findings += [lost(line, f"not reached: {gone}") for line in stage.lines]
            continue
        error = await _run(stage, session, findings)
        is_last = stage is stages[-1]
        gone = error if error and not is_last and not await session.recover() else ""
    return findings


async def _run(stage: Stage, session: Session, findings: list[Finding]) -> str:
    """Add the findings of a stage; why the plugin was lost in it, "" where it was not."""
    error = ""
    try:
        async for finding in stage.probe(session):
            findings.append(finding)
        if stage.blame:
            await _survives(session)
    except LostError as caught:
        error = str(caught)
        is_told = any(error in finding.seen for finding in findings)
        if stage.blame and isinstance(caught, DiedError) and not is_told:
            findings.append(failed(stage.blame, error))
    if stage.blame:
        findings += [failed(stage.blame, str(end)) for end in session.unblamed()]
    session.unblamed()
    if error:
        known = {finding.line for finding in findings}
        missing = [line for line in stage.lines if line not in known]
        findings += [lost(line, f"not reached: {error}") for line in missing]
    return error


async def _survives(session: Session) -> None:
    """It may end when it has answered all."""
    try:
        await session.wait_well()
    except LostError as error:
        raise DiedError(f"afterwards: {error}", is_back=False) from error


async def _go_down(session: Session) -> None:
    """End what was started; leave the directory as it was found."""
    if session.plugin is not None:
        await session.plugin.end(signal.SIGTERM, END_S)
    await session.stub.aclose()
