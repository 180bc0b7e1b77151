"""Reports that the daemon has written by another process."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from deviceplugin.compliance.runs import KEPT, due_in_s, expire, recalled
from deviceplugin.compliance.section import DAY_S, LEAST_S, wanted
from deviceplugin.compliance.service import CompliancePart
from deviceplugin.config.config import Config
from deviceplugin.config.load import load
from deviceplugin.errors import ConfigError
from tests.rig import WAIT_S

NOW = 2e9
SECTION: Mapping[str, Any] = {
    "standards": ["SOC 2", "GDPR"],
    "controls": ["audit_logging"],
    "monitoring": {
        "enabled": True,
        "alerts": [{"name": "broken", "condition": "violation_detected", "severity": "critical"}],
        "reporting": {"interval": "24h", "format": "html", "recipients": ["a@example.com"]},
    },
}
FOUND = {"soc2": {"violations": ["no log"]}, "gdpr": {"violations": ["no log"]}}


def configured(tmp_path: Path, section: Mapping[str, Any] | None = SECTION) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"compliance": section} if section else {}))
    return load({"config": str(path), "state_dir": str(tmp_path)})[0]


@asynccontextmanager
async def running(config: Config, tmp_path: Path, code: str) -> AsyncIterator[CompliancePart]:
    """A part whose reports are those of a small program."""
    program = (sys.executable, "-c", code)
    part = CompliancePart(config, tmp_path / "config.yaml", lambda: NOW, program)
    (run,) = part.tasks().values()
    task = asyncio.ensure_future(run())
    try:
        yield part
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until_told(part: CompliancePart) -> str:
    async with asyncio.timeout(WAIT_S):
        while not part.remark():  # noqa: ASYNC110  # what it does, not how
            await asyncio.sleep(0.01)
    return part.remark()


@pytest.mark.slow
async def test_violations_are_told_as_alerts_metrics_and_a_remark(tmp_path: Path) -> None:
    code = f"import sys; print({json.dumps(json.dumps(FOUND))}); sys.exit(1)"
    with capture_logs() as logs:
        async with running(configured(tmp_path), tmp_path, code) as part:
            assert await until_told(part) == "1 violations of compliance: no log"
            lines = [line for family in part.collect() for line in family.lines()]
    assert 'deviceplugin_compliance_violations{standard="soc2"} 1' in " ".join(lines)
    (told,) = (one for one in logs if one["event"] == "compliance_violation")
    assert (told["alert"], told["log_level"], told["reason"]) == ("broken", "error", "no log")


@pytest.mark.slow
async def test_a_report_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    code = "import sys; sys.exit('deviceplugin: no disk')"
    async with running(configured(tmp_path), tmp_path, code) as part:
        assert "no disk" in await until_told(part)


@pytest.mark.slow
async def test_the_process_is_told_where_the_daemon_looks(tmp_path: Path) -> None:
    code = "import sys; sys.exit(' '.join(sys.argv[1:]))"
    async with running(configured(tmp_path), tmp_path, code) as part:
        said = await until_told(part)
    assert f"--state-dir={tmp_path}" in said


async def test_without_the_section_nothing_is_told(tmp_path: Path) -> None:
    config = configured(tmp_path, None)
    part = CompliancePart(config, None, lambda: NOW)
    assert not part.remark()
    assert not list(part.collect())
    assert not wanted(config.sections).reports


@pytest.mark.slow
async def test_another_section_forgets_what_the_last_one_found(tmp_path: Path) -> None:
    code = f"print({json.dumps(json.dumps(FOUND))})"
    async with running(configured(tmp_path), tmp_path, code) as part:
        await until_told(part)
        await part.use(configured(tmp_path, None))
        assert not part.remark()


def test_the_section_says_what_is_reported_how_often(tmp_path: Path) -> None:
    found = wanted(configured(tmp_path).sections)
    assert (found.standards, found.form, found.interval_s) == (("soc2", "gdpr"), "html", DAY_S)
    assert found.alerts == (("broken", "critical"),)
    off = {**SECTION, "monitoring": {**SECTION["monitoring"], "enabled": False}}
    assert not wanted(configured(tmp_path, off).sections).reports


@pytest.mark.parametrize("name", ["SOC 3", "PCI DSS", ""])
def test_a_standard_that_is_not_known_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="GDPR"):
        configured(tmp_path, {**SECTION, "standards": [name]})


def test_a_report_is_due_when_one_is_missing_or_old(tmp_path: Path) -> None:
    asked = wanted(configured(tmp_path).sections)
    assert due_in_s(tmp_path, asked, NOW) == 0
    for standard in asked.standards:
        path = tmp_path / f"{standard}-2033.json"
        path.write_text(json.dumps({"violations": [{"text": "no log"}]}))
        os.utime(path, (NOW, NOW))
    assert due_in_s(tmp_path, asked, NOW + 100) == DAY_S - 100
    assert due_in_s(tmp_path, asked, NOW + DAY_S) == 0
    assert due_in_s(tmp_path, asked, NOW - 100) == 0
    assert recalled(tmp_path, asked) == {"soc2": ("no log",), "gdpr": ("no log",)}
    (tmp_path / "soc2-2034.json").write_text("{")
    assert recalled(tmp_path, asked) == {"gdpr": ("no log",)}


def test_the_newest_reports_are_kept(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        (tmp_path / f"soc2-{number:04d}.json").touch()
    (tmp_path / "gdpr-0000.json").touch()
    expire(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == KEPT + 1
    assert {"gdpr-0000.json", "soc2-0003.json"} <= {*left}
    assert "soc2-0002.json" not in left


def test_a_short_interval_is_an_hour(tmp_path: Path) -> None:
    monitoring = {"reporting": {"interval": "1h"}}
    found = wanted(configured(tmp_path, {**SECTION, "monitoring": monitoring}).sections)
    assert found.interval_s == LEAST_S
