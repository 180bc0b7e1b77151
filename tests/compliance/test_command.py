"""`deviceplugin compliance report` on a simulated node."""

import json
from pathlib import Path

import pytest

from deviceplugin.compliance.report import digest
from tests.audit_log.logs import written
from tests.diagnose.node import Node
from tests.rig import run_command

pytestmark = pytest.mark.slow
CONFIG = """\
audit: {enabled: true, retention: 7y}
compliance:
  standards: [SOC 2, HIPAA]
  monitoring: {reporting: {format: pdf}}
"""


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    node = Node(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    written(tmp_path / "state/audit", 3)
    return [f"--config={tmp_path / 'config.yaml'}", *node.flags(tmp_path / "state")]


def test_reports_of_all_standards_are_written_with_what_they_quote(
    flags: list[str], tmp_path: Path
) -> None:
    directory = tmp_path / "reports"
    done = run_command("compliance", "report", f"--directory={directory}", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*json.loads(done.stdout)} == {"soc2", "hipaa"}
    kinds = sorted((path.name.partition("-")[0], path.suffix) for path in directory.iterdir())
    assert kinds == [
        *(("hipaa", ".json"), ("hipaa", ".pdf"), ("soc2", ".json"), ("soc2", ".pdf")),
        ("sources", ".json"),
    ]
    (report,) = (json.loads(path.read_text()) for path in directory.glob("soc2-*.json"))
    (sources,) = (json.loads(path.read_text()) for path in directory.glob("sources-*.json"))
    assert {name: digest(one) for name, one in sources.items()}.items() <= report["sources"].items()
    assert "3 records" in json.dumps(report)


def test_what_violates_a_control_ends_with_1(flags: list[str], tmp_path: Path) -> None:
    (log,) = (tmp_path / "state/audit").glob("*.jsonl")
    log.write_bytes(log.read_bytes().replace(b"GPU-1", b"GPU-9"))
    arguments = ("--standard=soc2", "--since=2020-01-01", "--format=html")
    done = run_command("compliance", "report", *arguments, *flags)
    assert done.returncode == 1, done.stderr
    assert "the audit log is not whole" in done.stdout


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (["--standard=pci"], "iso27001"),
        (["--standard=soc2", "--format=pdf"], "--to"),
        (["--standard=soc2", "--since=yesterday"], "--since"),
        ([], "--directory"),
    ],
    ids=["standard", "pdf", "since", "none"],
)
def test_what_is_wrong_is_one_line(flags: list[str], wrong: list[str], part: str) -> None:
    done = run_command("compliance", "report", *wrong, *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert part in line
