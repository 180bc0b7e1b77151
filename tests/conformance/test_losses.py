"""A plugin that ends while it is judged: what is said, and what is judged all the same."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.kubelet.socket import is_listening
from deviceplugin.testing.conformance.process import End, last_words
from deviceplugin.testing.conformance.runner import Result, run_suite
from deviceplugin.testing.conformance.verdict import Outcome
from deviceplugin.testing.plugin_client import PluginClient, RpcError
from tests.conformance.defects import (
    BREAK,
    CHANGE,
    DEFECTS,
    KILL,
    PANIC,
    RESTART,
    VAIN_S,
    Defect,
    KeepsALostSocket,
    started_as,
)
from tests.conformance.smallplugin import KNOWN, POLL_S, running
from tests.conformance.test_defects import assert_fails, failing, settings_of
from tests.rig import WAIT_S

GO = f"""I1126 16:00:00.000000 1 main.go:27] Starting
{PANIC}rsp    0x0
gs     0x0
"""
KLOG = """F1126 16:00:00.000000       1 main.go:31] cannot listen: address in use
goroutine 1 [running]:
k8s.io/klog/v2.stacks(0x1)
\tmain.go:31 +0x1b
"""
PYTHON = """Traceback (most recent call last):
  File "plugin.py", line 1, in <module>
ValueError: no such device
"""
STACK = """I1126 16:00:00.000000       1 server.go:285] Start server
E1126 16:00:01.000000       1 manager.go:146] Failed to serve: Unavailable
Cannot register to kubelet service
example.com/plugin.serve
\tserver.go:223
runtime.goexit
\tasm_amd64.s:1264
"""
RUST = """thread 'main' panicked at src/main.rs:4:5:
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""


async def judge(name: str, short_dir: Path, **changes: object) -> Result:
    command = started_as(short_dir / "k", short_dir, name)
    return await run_suite(settings_of(short_dir, DEFECTS[name], command=command, **changes))


def by_line(result: Result) -> dict[int, tuple[Outcome, str]]:
    return {v.line.number: (v.outcome, v.seen) for v in result.verdicts}


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (GO, "panic: runtime error: index out of range [0] with length 0"),
        (KLOG, "F1126 16:00:00.000000       1 main.go:31] cannot listen: address in use"),
        (STACK, "E1126 16:00:01.000000       1 manager.go:146] Failed to serve: Unavailable"),
        (PYTHON, "ValueError: no such device"),
        (RUST, "thread 'main' panicked at src/main.rs:4:5:"),
        ("started\nno kubelet, ending\n", "no kubelet, ending"),
        ("", "no output"),
    ],
    ids=["go", "klog", "stack", "python", "rust", "plain", "silent"],
)
def test_the_line_that_says_why_a_process_ended_is_found(output: str, words: str) -> None:
    assert last_words(output) == words


def test_an_end_by_a_signal_is_told_by_its_name() -> None:
    assert str(End(at_s=0.0, status=-11, words="x")) == "the plugin ended by SIGSEGV: x"


async def test_a_death_is_told_with_its_question_and_the_next_lines_are_judged(
    short_dir: Path,
) -> None:
    verdicts = by_line(await judge("PanicsWhereNothingIsAskedFor", short_dir))
    outcome, seen = verdicts[41]
    assert outcome is Outcome.FAIL
    assert (
        "example.com/gpu: GetPreferredAllocation of 0 of 3: the plugin ended with status 2" in seen
    )
    assert "panic: runtime error: index out of range [0] with length 0" in seen
    assert {verdicts[line][0] for line in (38, 39, 40, 42, 43)} == {Outcome.PASS}


async def test_a_plugin_that_nobody_starts_again_loses_what_comes_after(short_dir: Path) -> None:
    result = await judge("PanicsWhereNothingIsAskedFor", short_dir, restart_s=None, timeout_s=5.0)
    verdicts = by_line(result)
    assert failing(result) == {41}
    assert verdicts[40][0] is verdicts[43][0] is Outcome.LOST


async def test_a_plugin_that_ends_with_its_kubelet_is_judged_by_when_it_is_back(
    short_dir: Path,
) -> None:
    result = await judge("EndsWithItsKubelet", short_dir)
    assert_fails(DEFECTS["EndsWithItsKubelet"], result)
    verdicts = by_line(result)
    assert "the plugin ended with status 1: the kubelet has gone" in verdicts[9][1]
    assert {verdicts[line][0] for line in (4, 18, 24, 35)} == {Outcome.PASS}


async def test_an_instance_that_nobody_hears_of_is_killed_and_followed_all_the_same(
    short_dir: Path,
) -> None:
    name = "LeavesItsPredecessorsKubelet"
    result = await judge(name, short_dir, lines=frozenset({CHANGE, KILL}))
    assert failing(result) == {14}
    verdicts = by_line(result)
    assert {verdicts[line][0] for line in (5, 24, 66)} == {Outcome.PASS}


async def test_a_plugin_that_cannot_be_started_at_all_is_given_up(short_dir: Path) -> None:
    command = ("sh", "-c", "echo no GPU >&2; exit 3")
    settings = settings_of(short_dir, DEFECTS["EndsWithoutAKubelet"], command=command, restart_s=0)
    result = await run_suite(settings)
    outcome, seen = by_line(result)[18]
    assert outcome is Outcome.FAIL
    assert "it is not started again; the plugin ended with status 3: no GPU" in seen


class ServesAtTheTopLevel(KeepsALostSocket):
    """Where a kubelet that comes later removes its socket."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.endpoint = f"{self.kind}.sock"


async def test_a_socket_that_the_kubelet_removed_had_been_served_before_register(
    short_dir: Path,
) -> None:
    defect = Defect(ServesAtTheTopLevel, {11, 18}, 11, timeout_s=VAIN_S)
    sockets = [short_dir / "k" / "device-plugins" / f"{kind}.sock" for kind in KNOWN]
    async with running(defect.make, short_dir):
        async with asyncio.timeout(WAIT_S):
            while not all(map(is_listening, sockets)):
                await asyncio.sleep(POLL_S)
        result = await run_suite(settings_of(short_dir, defect))
    assert_fails(defect, result)


async def test_what_was_not_healthy_before_cannot_fail(short_dir: Path) -> None:
    defect = DEFECTS["HasNoHealthyDevice"]
    async with running(defect.make, short_dir):
        result = await run_suite(settings_of(short_dir, defect, lines=frozenset({BREAK})))
    assert failing(result) == set()
    verdicts = by_line(result)
    assert {verdicts[line] for line in (27, 37, 69)} == {
        (Outcome.LOST, "no healthy device is listed that could fail")
    }


async def test_an_empty_list_after_a_restart_leaves_something_that_can_fail(
    short_dir: Path,
) -> None:
    defect = DEFECTS["ListsNothingForAWhileAfterARestart"]
    async with running(defect.make, short_dir):
        lines = frozenset({RESTART, BREAK})
        result = await run_suite(settings_of(short_dir, defect, lines=lines))
    assert failing(result) == {21}
    verdicts = by_line(result)
    assert {verdicts[line][0] for line in (24, 27, 36, 37, 69)} == {Outcome.PASS}


async def test_a_stream_on_a_closed_connection_is_an_error_as_any_other(short_dir: Path) -> None:
    client = PluginClient("example.com/gpu", short_dir / "gpu.sock")
    await client.close()
    with pytest.raises(RpcError, match="the connection is closing"):
        _ = [message async for message in client.lists()]
