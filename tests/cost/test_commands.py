"""The commands of cost, as they are typed."""

import csv
import io
import json
from pathlib import Path

import pytest

from deviceplugin.cli import cli
from deviceplugin.cost.files import write_history
from deviceplugin.errors import ConfigError
from tests.cost.examples import cell, grant, history

COSTS = """cost:
  prices: [{model: "*h100*", hourly: 3.0, source: a contract, dated: 2026-01-01}]
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    cells = (cell(grant("a", team="red")), cell(grant("b", active=0.0), hour=1), cell(hour=2))
    write_history(tmp_path / "history.csv", history(*cells))
    (tmp_path / "costs.yaml").write_text(COSTS)
    return (
        *("--history", str(tmp_path / "history.csv")),
        *("--costs", str(tmp_path / "costs.yaml")),
    )


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    cli.main([*words], standalone_mode=False)
    return capsys.readouterr().out


def test_the_bill_is_printed_in_each_form(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(run(capsys, "fleet", "cost", *files, "-o", "json"))
    assert document["parts"] == {
        "used": 3.0,
        "allocated-idle": 3.0,
        "stranded": 0.0,
        "unallocated": 3.0,
    }
    assert "allocated-idle  3.00" in run(capsys, "fleet", "cost", *files)
    rows = csv.DictReader(io.StringIO(run(capsys, "fleet", "cost", *files, "-o", "focus")))
    assert sum(float(row["BilledCost"]) for row in rows) == pytest.approx(9.0)
    assert "red" in run(capsys, "fleet", "cost", *files, "-o", "csv", "--by", "team")
    assert "node_gpu_count" in run(capsys, "fleet", "cost", *files, "-o", "opencost")


def test_a_group_that_is_none_is_refused(files: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--by"):
        cli.main(["fleet", "cost", *files, "--by", "colour"], standalone_mode=False)


@pytest.mark.parametrize(
    "words", [(), ("--history", "h.csv", "--store", "http://127.0.0.1:1")], ids=["none", "both"]
)
def test_a_past_comes_from_a_file_or_from_a_store(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("cost: {}\n")
    asked = ["fleet", "cost", "--costs", str(tmp_path / "c.yaml"), *words]
    with pytest.raises(ConfigError, match=r"--history.*one of the two"):
        cli.main(asked, standalone_mode=False)


def test_the_last_days_of_a_file_can_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_history(tmp_path / "h.csv", history(*(cell(hour=hour) for hour in range(72))))
    (tmp_path / "c.yaml").write_text(COSTS)
    words = ("--history", str(tmp_path / "h.csv"), "--costs", str(tmp_path / "c.yaml"))
    printed = run(capsys, "fleet", "cost", *words, "-o", "json", "--days", "1")
    assert json.loads(printed)["total"] == 72
    with pytest.raises(ConfigError, match="--days"):
        run(capsys, "fleet", "cost", *words, "--days", "0")
