"""Targets are answered by the bill, and the ledger says what was recommended and done."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deviceplugin.advice.targets import Entry, parse_target, targets_document
from deviceplugin.advice.values import Change
from deviceplugin.cli import cli
from deviceplugin.cost.bill import Biller
from deviceplugin.cost.files import write_history
from deviceplugin.cost.history import History
from deviceplugin.errors import ConfigError
from tests.cost.examples import H100, HOUR, START, cell, costs, device, grant, history

DAY = 24
APPLIED = START + 10 * DAY * HOUR
TARGETS = ("cost_reduction: 30%", "efficiency_improvement: 50%", "waste_reduction: 20%")
COSTS = """cost:
  prices: [{hourly: 3.0, source: a contract, dated: 2026-01-01}]
cost_optimization:
  enabled: true
  model: cost-optimizer-v2
  optimization: [resource_rightsizing]
  targets: ["cost_reduction: 30%", "waste_reduction: 20%"]
"""


def given_back() -> History:
    """Two GPUs, of which a service has one; after ten days the free one is given back."""
    hours = range(20 * DAY)
    own = [cell(grant("p", owner="web"), hour=hour) for hour in hours]
    free = [cell(of="GPU-1", hour=hour) for hour in hours if hour < 10 * DAY]
    return history(*own, *free, devices=(device(), device("GPU-1")))


def entry(event: str = "recommended", at: float = START, **keys: object) -> Entry:
    return Entry(**({"event": event, "id": "x", "at": at} | keys))  # type: ignore[arg-type]  # table


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cost_reduction: 30%", ("cost_reduction", 0.3)),
        ("waste_reduction:2.5 %", ("waste_reduction", 0.025)),
        ("cost_minimization", ("cost_minimization", None)),
    ],
)
def test_targets_are_read_as_they_are_written(text: str, found: tuple[str, float | None]) -> None:
    assert parse_target(text) == found


@pytest.mark.parametrize("text", ["", "30%", "cost_reduction: lots", "Cost Reduction: 3%"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a target"):
        parse_target(text)


def test_targets_are_measured_before_and_after_what_was_applied() -> None:
    bill = Biller(costs()).bill(given_back())
    found = targets_document(bill, TARGETS, [entry(), entry("applied", APPLIED)])
    assert [(one["measured"], one["state"]) for one in found["targets"]] == [
        (0.5, "reached"),
        (1.0, "reached"),
        (1.0, "reached"),
    ]
    assert (found["days_before"], found["days_after"]) == (10, 10)


def test_a_target_that_was_not_reached_is_missed() -> None:
    bill = Biller(costs()).bill(given_back())
    ledger = [entry(), entry("applied", APPLIED)]
    (one,) = targets_document(bill, ["cost_reduction: 60%"], ledger)["targets"]
    assert (one["wanted"], one["measured"], one["state"]) == (0.6, 0.5, "missed")


@pytest.mark.parametrize("ledger", [[], [entry()], [entry("applied", START + HOUR)]])
def test_nothing_is_measured_without_a_day_before_and_after(ledger: list[Entry]) -> None:
    bill = Biller(costs()).bill(given_back())
    (one,) = targets_document(bill, ["cost_reduction: 30%"], ledger)["targets"]
    assert one["measured"] is None
    assert one["state"].startswith("not measured")


def test_a_change_is_measured_by_what_it_is_about() -> None:
    hours = range(20 * DAY)
    cells = [
        cell(grant("p", 1.0 if hour < 10 * DAY else 0.25, owner="web"), hour=hour) for hour in hours
    ]
    change = Change(
        kind="share", namespace="ml", workload="web", container="", model=H100, share=0.25
    )
    ledger = [entry(change=change, expected_per_day=54.0), entry("applied", APPLIED)]
    found = targets_document(Biller(costs()).bill(history(*cells)), [], ledger)
    (one,) = found["changes"]
    assert (one["state"], one["measured_per_day"]) == ("applied", 54.0)


def test_a_target_that_is_no_number_of_the_bill_is_said_to_be_none() -> None:
    bill = Biller(costs()).bill(given_back())
    (one,) = targets_document(bill, ["reliability_maximization"], [])["targets"]
    assert one["state"] == "not a number of the bill"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    write_history(tmp_path / "h.csv", given_back())
    (tmp_path / "c.yaml").write_text(COSTS)
    files = ("--history", str(tmp_path / "h.csv"), "--costs", str(tmp_path / "c.yaml"))
    return (*files, "--ledger", str(tmp_path / "ledger.jsonl"))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    cli.main(["fleet", "targets", *words], standalone_mode=False)
    return capsys.readouterr().out


def test_the_ledger_keeps_what_was_recommended_and_applied(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saving = {"gpu_hours": 240, "freed": 720.0, "paid_less": 0.0, "kwh": None}
    change = {"kind": "layout", "model": H100}
    one = {"id": "x", "kind": "layout", "subject": "H100", "saving": saving, "change": change}
    none = {"id": "y", "kind": "unknown", "subject": "s", "saving": None, "change": None}
    (tmp_path / "a.json").write_text(json.dumps({"days": 20, "advice": [one, none]}))
    run(capsys, *files, "--record", str(tmp_path / "a.json"))
    at = datetime.fromtimestamp(APPLIED, UTC).isoformat()
    found = json.loads(run(capsys, *files, "--applied", "x", "--at", at, "-o", "json"))
    assert [(t["target"], t["state"]) for t in found["targets"]] == [
        ("cost_reduction", "reached"),
        ("waste_reduction", "reached"),
    ]
    (kept,) = found["changes"]
    assert (kept["expected_per_day"], kept["measured_per_day"]) == (36.0, 72.0)
    assert "applied" in run(capsys, *files)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--applied", "z"), "--applied"),
        (("--at", "noon"), "a time such as"),
        (("--at", "2026-03-01"), "with its offset"),
        (("--record", "/no/such"), "--record"),
    ],
)
def test_what_cannot_be_noted_is_said_and_nothing_is_written(
    words: tuple[str, ...], says: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says):
        cli.main(["fleet", "targets", *files, *words], standalone_mode=False)
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_ledger_that_cannot_be_read_is_kept(files: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text("{\n")
    with pytest.raises(ConfigError, match="--ledger"):
        cli.main(["fleet", "targets", *files], standalone_mode=False)
    assert (tmp_path / "ledger.jsonl").read_text() == "{\n"


def test_a_target_in_the_file_that_is_none_is_named(files: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(COSTS.replace("waste_reduction: 20%", "save 5"))
    with pytest.raises(ConfigError, match=r"cost_optimization.targets\[1\]"):
        cli.main(["fleet", "targets", *files], standalone_mode=False)
