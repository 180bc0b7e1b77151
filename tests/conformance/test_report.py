"""The checklist, the three reports, the command and its exit status."""

import json
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from deviceplugin.testing.conformance.command import main
from deviceplugin.testing.conformance.report import as_json, as_junit, as_text
from deviceplugin.testing.conformance.runner import STAGES, Result
from deviceplugin.testing.conformance.verdict import (
    Outcome,
    checklist,
    failed,
    passed,
    skipped,
    timed,
    verdicts,
)
from tests.conformance.defects import DEFECTS, started_as
from tests.rig import WAIT_S

RECORDED = {1, 2, 3, 6, 7, 13, 20, 21, 22, 23, 25, 26, 30, 32, 33, 34}  # judged from every list
FINDINGS = [passed(1, "seen"), passed(1, "again"), failed(2, "a <tag>\x00"), skipped(3, "no hook")]
RESULT = Result(("example.com/gpu",), verdicts(FINDINGS))
SCHEMA = {
    "type": "object",
    "required": ["resources", "counts", "lines"],
    "additionalProperties": False,
    "properties": {
        "resources": {"type": "array", "items": {"type": "string"}},
        "counts": {
            "type": "object",
            "required": ["pass", "fail", "lost", "skip"],
            "additionalProperties": {"type": "integer"},
        },
        "lines": {
            "type": "array",
            "minItems": 76,
            "maxItems": 76,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["id", "part", "statement", "reason", "verdict", "seen"],
                "properties": {
                    "id": {"type": "integer"},
                    "verdict": {"enum": ["pass", "fail", "lost", "skip"]},
                    **{
                        key: {"type": "string", "minLength": 1}
                        for key in ("part", "statement", "reason", "seen")
                    },
                },
            },
        },
    },
}


def test_the_checklist_has_every_line_once_with_its_reason() -> None:
    lines = checklist()
    assert [line.number for line in lines] == list(range(1, 77))
    assert all(line.says and line.why for line in lines)


def test_every_line_is_looked_at_or_says_why_not() -> None:
    looked_at = RECORDED | {line for stage in STAGES for line in stage.lines}
    hidden = {line.number for line in checklist() if line.hidden}
    assert looked_at | hidden == set(range(1, 77))
    assert looked_at & hidden == set()


def test_every_visible_line_has_a_plugin_that_fails_it() -> None:
    hidden = {line.number for line in checklist() if line.hidden}
    shown = {line for defect in DEFECTS.values() for line in defect.fails | defect.may}
    # 4 and 16: a plugin that breaks them breaks 9 or 17 before; 67 needs a probe
    assert set(range(1, 77)) - hidden - shown == {4, 16, 67}


def test_a_line_passes_only_if_it_was_seen() -> None:
    outcomes = {verdict.line.number: verdict.outcome for verdict in verdicts([])}
    hidden = {line.number for line in checklist() if line.hidden}
    assert {number for number, outcome in outcomes.items() if outcome is Outcome.SKIP} == hidden
    assert set(outcomes.values()) == {Outcome.SKIP, Outcome.LOST}


def test_one_failure_outweighs_what_passed() -> None:
    verdict = verdicts([passed(9, "twice"), failed(9, "once"), skipped(9, "thrice")])[8]
    assert (verdict.outcome, verdict.seen) == (Outcome.FAIL, "once")


@pytest.mark.parametrize(
    ("times_s", "outcome"),
    [([0.01, 0.01, 9.0], Outcome.PASS), ([0.06, 0.06, 0.01], Outcome.FAIL)],
    ids=["an-outlier", "most"],
)
def test_the_median_is_held_against_the_limit(times_s: list[float], outcome: Outcome) -> None:
    assert timed(9, "registered", times_s, 0.05).outcome is outcome


def test_the_json_report_has_every_line() -> None:
    report = json.loads(as_json(RESULT))
    jsonschema.validate(report, SCHEMA)
    assert Counter(line["verdict"] for line in report["lines"]) == report["counts"]
    assert report["lines"][0]["seen"] == "seen; again"


def test_the_junit_report_counts_what_it_lists() -> None:
    suite = ET.fromstring(as_junit(RESULT))  # noqa: S314  # our own
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.attrib["tests"]) == 76
    for kind, counter in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        found = [case for case in cases if case.find(kind) is not None]
        assert len(found) == int(suite.attrib[counter])
    failure = suite.find(".//failure")
    assert failure is not None
    assert failure.attrib["message"] == "a <tag>?"


def test_the_text_report_ends_with_what_failed() -> None:
    text = as_text(RESULT)
    hidden = sum(bool(line.hidden) for line in checklist())
    counts = f"1 pass, 1 fail, {73 - hidden} lost, {1 + hidden} skip"
    assert text.startswith(f"example.com/gpu: {counts}\n")
    failed_, lost_, skipped_ = text.splitlines()[-3:]
    assert failed_ == "Failed: 2"
    assert lost_.startswith("Lost: 4, 5, 6, ")
    assert skipped_ == "Not judged: 3"
    assert re.findall(r"(?m)^  (?:PASS|FAIL|LOST|SKIP)  +(\d+)  ", text) == [
        str(n) for n in range(1, 77)
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--kubelet-dir"),
        (["--kubelet-dir", "x", "--format", "yaml"], "invalid choice"),
        (["--kubelet-dir", "x", "--slack", "0"], "--slack has to be more than 0"),
        (["--kubelet-dir", "x", "--line", "77"], "--line 77 is not in the checklist"),
        (["--kubelet-dir", "x", "--readiness-url", "ftp://x"], "does not begin with http"),
        (["--kubelet-dir", "/" + "x" * 100], "take a shorter directory"),
    ],
    ids=["none", "format", "slack", "line", "url", "long"],
)
def test_bad_usage_is_one_line_and_status_2(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    written = capsys.readouterr().err
    assert ended.value.code == 2
    assert text in written
    assert written.count("\n") == 1


def test_it_keeps_away_from_a_kubelet(short_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugins = short_dir / "device-plugins"
    plugins.mkdir()
    with socket.socket(socket.AF_UNIX) as kubelet:
        kubelet.bind(str(plugins / "kubelet.sock"))
        kubelet.listen()
        with pytest.raises(SystemExit):
            main(["--kubelet-dir", str(short_dir)])
    assert "a kubelet listens on" in capsys.readouterr().err
    (plugins / "kubelet_internal_checkpoint").touch()
    with pytest.raises(SystemExit):
        main(["--kubelet-dir", str(short_dir)])
    assert "is the directory of a node's kubelet" in capsys.readouterr().err
    assert sorted(path.name for path in plugins.iterdir()) == [
        "kubelet.sock",
        "kubelet_internal_checkpoint",
    ]


@pytest.mark.parametrize(
    ("name", "status"),
    [(None, 0), ("GivesNoPermissions", 1), ("HasNoHealthyDevice", 3)],
    ids=["complete", "defective", "not-to-be-judged"],
)
def test_the_exit_status_tells_whether_lines_failed_or_were_lost(
    short_dir: Path, name: str | None, status: int
) -> None:
    report = short_dir / "report.json"
    directory = short_dir / "k"
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "deviceplugin.testing.conformance"),
            *("--kubelet-dir", str(directory), "--format", "json", "--output", str(report)),
            *("--line", "44", "--slack", "100", "--resource", "example.com/gpu"),
            *("--", *started_as(directory, short_dir, name)),
        ],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (status, ""), ended.stderr
    jsonschema.validate(json.loads(report.read_text()), SCHEMA)
    left = sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
    assert left == ["conformance-plugin-1.log", "device-plugins", "device-plugins/small"]
