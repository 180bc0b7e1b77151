"""All checks over one snapshot, and what their verdicts amount to; pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from deviceplugin.diagnose.gpu_checks import GPU_CHECKS
from deviceplugin.diagnose.link_checks import LINK_CHECKS
from deviceplugin.diagnose.model import (
    GpuCheck,
    Judged,
    NodeCheck,
    Result,
    Snapshot,
    Verdict,
)
from deviceplugin.diagnose.node_checks import NODE_CHECKS
from deviceplugin.names import one_line

_MAX_TEXT = 300
# Worst first.
ORDER = (Verdict.FAIL, Verdict.WARN, Verdict.PASS, Verdict.SKIPPED)


def check_names() -> tuple[str, ...]:
    """The names of all checks, in the order in which they are shown."""
    return tuple(check.name for check in (*NODE_CHECKS, *GPU_CHECKS, *LINK_CHECKS))


def diagnose(snapshot: Snapshot) -> tuple[Result, ...]:
    """The result of every check of every subject."""
    return tuple(_results(snapshot))


def _results(snapshot: Snapshot) -> Iterator[Result]:
    for node_check in NODE_CHECKS:
        for subject, judged in node_check.judge(snapshot):
            yield _result(node_check, subject, judged)
    for gpu in snapshot.gpus:
        for check in (*GPU_CHECKS, *LINK_CHECKS):
            yield _result(check, gpu.device.id, check.judge(gpu, snapshot))


def _result(check: GpuCheck | NodeCheck, subject: str, judged: Judged) -> Result:
    wrong = judged.verdict in (Verdict.FAIL, Verdict.WARN)
    return Result(
        check=check.name,
        subject=one_line(subject, _MAX_TEXT),
        verdict=judged.verdict,
        value=one_line(judged.value, _MAX_TEXT),
        expected=check.expected,
        source=check.source,
        action=one_line(judged.action or check.action, _MAX_TEXT) if wrong else "",
    )


def counted(results: Sequence[Result]) -> Mapping[Verdict, int]:
    """How many results have each verdict."""
    found = Counter(result.verdict for result in results)
    return {verdict: found[verdict] for verdict in ORDER}


def worst(results: Sequence[Result]) -> Verdict:
    """The worst verdict; `skipped` where nothing could be judged."""
    found = {result.verdict for result in results}
    return next((verdict for verdict in ORDER if verdict in found), Verdict.SKIPPED)
