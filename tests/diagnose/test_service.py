"""The daemon's own diagnosis: on, off, failing, and through a reload."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, field
from structlog.testing import capture_logs

from deviceplugin.config.config import Config
from deviceplugin.config.load import load
from deviceplugin.daemon.diagnosis import diagnose_command
from deviceplugin.diagnose.service import DiagnosisPart
from deviceplugin.documents.diagnostics import DiagnosticAlert, Diagnostics
from deviceplugin.errors import ConfigError
from tests.rig import WAIT_S, run_command

pytestmark = pytest.mark.slow  # each look is a process
NOW = 1_700_000_000.0
ALERT = DiagnosticAlert(name="gpu_failure", condition="test_failed", severity="critical")
OFF: Mapping[str, Any] = {"diagnostics": Diagnostics(enabled=False)}
ON: Mapping[str, Any] = {"diagnostics": Diagnostics(alerts=(ALERT,))}


class Settings(Struct, frozen=True):
    """Only sections."""

    sections: Mapping[str, Any] = field(default_factory=dict)


def result(check: str, verdict: str) -> dict[str, str]:
    return {"check": check, "subject": "GPU-1", "verdict": verdict, "value": "v", "action": "a"}


WELL = {"checks": [result("ecc_mode", "pass"), result("power", "skipped")]}
ILL = {"checks": [result("ecc_mode", "fail"), result("power", "warn")]}


class Node:
    """A part whose command prints what is in a file."""

    def __init__(self, folder: Path, sections: Mapping[str, Any] = ON) -> None:
        self.printed = folder / "printed"
        self.runs: list[Sequence[str]] = []
        self.code = f"import sys; sys.stdout.write(open({str(self.printed)!r}).read())"
        self.part = DiagnosisPart(Settings(sections), self.command, lambda: NOW)
        self.part.first_s = 0.0

    def command(self, _: Settings) -> Sequence[str]:
        self.runs.append((sys.executable, "-S", "-c", self.code))
        return self.runs[-1]

    def says(self, document: object) -> None:
        self.printed.write_text(json.dumps(document))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DiagnosisPart[Settings]]:
        task: asyncio.Task[None] = asyncio.create_task(self.part._run())
        try:
            async with asyncio.timeout(WAIT_S):
                yield self.part
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def series(self) -> Sequence[str]:
        lines = (line for family in self.part.collect() for line in family.lines())
        told = [line.removesuffix(".0") for line in lines if line[0] != "#"]
        return [line.removeprefix("deviceplugin_diagnosis_") for line in told]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_what_is_well_is_counted_and_not_told(node: Node) -> None:
    node.says(WELL)
    async with node.running() as part:
        await part.last.until(lambda document: document is not None)
    assert part.notice == ""
    assert node.series() == [
        "failing 0",
        "timestamp_seconds 1700000000",
        'results{verdict="fail"} 0',
        'results{verdict="warn"} 0',
        'results{verdict="pass"} 1',
        'results{verdict="skipped"} 1',
        'alert{alert="gpu_failure",severity="critical"} 0',
    ]


async def test_a_failed_check_is_told_once_and_fires_the_alert(node: Node) -> None:
    node.says(ILL)
    with capture_logs() as logs:
        async with node.running() as part:
            await part.last.until(lambda document: document is not None)
            node.says({**ILL, "again": True})
            await part.use(Settings(ON))
            await part._look()
    assert [(one["event"], one["check"]) for one in logs] == [("diagnosis_failed", "ecc_mode")]
    assert part.notice.startswith("the diagnosis fails: ecc_mode of GPU-1 (")
    assert 'check_failed{check="ecc_mode",subject="GPU-1"} 1' in node.series()
    assert 'alert{alert="gpu_failure",severity="critical"} 1' in node.series()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the command ended with 0 and no document"),
        ("[]", "the command ended with 0 and no document"),
        ('{"checks": [{"check": "a"}]}', "the command ended with 0 and no document"),
        ("[" * 100_000, "the command ended with 0 and no document"),
    ],
    ids=["nothing", "a list", "a result without verdict", "a deep one"],
)
async def test_an_answer_that_is_none_is_told(node: Node, text: str, why: str) -> None:
    node.printed.write_text(text)
    await node.part._look()
    assert node.part.notice == f"the diagnosis could not be made: {why}"
    assert node.series() == ["failing 1"]
    node.says(WELL)
    await node.part._look()
    assert node.part.notice == ""


async def test_a_command_that_hangs_is_killed(node: Node) -> None:
    node.code, node.part.deadline_s = "import signal; signal.pause()", 0.05
    async with asyncio.timeout(WAIT_S):
        await node.part._look()
    assert node.part.notice == "the diagnosis could not be made: no answer within 0.05 s"


async def test_a_command_that_prints_for_ever_is_killed(node: Node) -> None:
    node.code = "while True: print('x' * 100000)"
    async with asyncio.timeout(WAIT_S):
        await node.part._look()
    assert "an answer of more than 16 MiB" in node.part.notice


@pytest.mark.parametrize("sections", [{}, OFF], ids=["no section", "false"])
async def test_off_it_runs_nothing_until_a_reload_asks_for_it(
    tmp_path: Path, sections: Mapping[str, Any]
) -> None:
    node = Node(tmp_path, sections)
    node.says(ILL)
    async with node.running() as part:
        await asyncio.sleep(0)
        assert (node.runs, node.series()) == ([], [])
        await part.use(Settings(ON))
        await part.last.until(lambda document: document is not None)
        await part.use(Settings(sections))
        assert (part.notice, node.series()) == ("", [])


def test_the_command_has_the_daemons_own_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("diagnostics: {}\n")
    config, _ = load({"config": str(path), "node_name": "n", "vendors": "amd,intel"})
    command = diagnose_command(config)
    assert command[1:6] == ("-P", "-m", "deviceplugin", "diagnose", "--format=json")
    assert {"--node-name=n", f"--config={path}", "--vendors=amd,intel"} <= {*command}
    plain = diagnose_command(Config(node_name="n"))
    assert not [one for one in plain if one.startswith(("--config", "--trusted", "--allow"))]


def test_what_the_daemon_trusts_and_allows_its_command_does_too(tmp_path: Path) -> None:
    config = Config(node_name="n", trusted_dirs=("/opt/a", "/opt/b"), allow_unsupported=True)
    command = diagnose_command(config)
    assert {"--trusted-dirs=/opt/a,/opt/b", "--allow-unsupported"} <= {*command}
    flags = ("--help", *(one for one in command if one.startswith("--trusted")))
    assert run_command("diagnose", *flags).returncode == 0


@pytest.mark.parametrize("interval", ["59s", "2y", "1.2.3h", "0.5s"])
def test_an_interval_out_of_bounds_is_refused(tmp_path: Path, interval: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"diagnostics:\n  interval: {interval}\n")
    with pytest.raises(ConfigError, match=r"interval"):
        load({"config": str(path), "node_name": "n"})
