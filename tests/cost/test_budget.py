"""Budgets: what was spent, what the month comes to, and how often such a forecast missed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deviceplugin.cli import cli
from deviceplugin.cost.bill import Bill, Biller
from deviceplugin.cost.budget import budget_document, daily, needs_attention, outlook
from deviceplugin.cost.budget_report import budget_metrics, budget_text
from deviceplugin.cost.files import write_history
from deviceplugin.cost.history import History
from tests.cost.examples import HOUR, START, cell, costs, device, grant, history

DAY = 24
FIRST = -24  # hours from START, the second day of March, to the first


def month(days: int, first: int = FIRST) -> History:
    """A team has a GPU, and another one is free."""
    hours = range(first, first + days * DAY)
    own = [cell(grant(team="red"), hour=hour) for hour in hours]
    free = [cell(of="GPU-1", hour=hour) for hour in hours]
    return history(*own, *free, devices=(device(), device("GPU-1")))


def document(days: int, budgets: Sequence[dict[str, Any]], first: int = FIRST) -> dict[str, Any]:
    section = costs(budgets=budgets)
    bill: Bill = Biller(section).bill(month(days, first))
    return budget_document(bill, section)


def test_a_team_spends_what_it_has_and_all_spend_the_bill() -> None:
    found = document(
        10, [{"name": "a", "monthly": 1000, "team": "red"}, {"name": "b", "monthly": 1}]
    )
    assert [one["spent"] for one in found["budgets"]] == [720, 1440]
    assert [one["state"] for one in found["budgets"]] == ["alert", "over"]
    assert found["budgets"][0]["expected"] == pytest.approx(31 * 72)


@pytest.mark.parametrize(
    ("monthly", "reached", "state"),
    [
        (10_000, [], "within"),
        (2000, [], "alert"),
        (800, ["80%"], "alert"),
        (700, ["80%", "100%"], "over"),
    ],
)
def test_alerts_are_reached_one_after_the_other(
    monthly: float, reached: list[str], state: str
) -> None:
    (one,) = document(10, [{"name": "a", "monthly": monthly, "team": "red"}])["budgets"]
    assert (one["alerts_reached"], one["state"]) == (reached, state)


def test_only_this_month_is_spent_and_the_days_before_serve_the_forecast() -> None:
    found = document(40, [{"name": "a", "monthly": 3000, "team": "red"}], first=-31 * DAY)
    (one,) = found["budgets"]
    assert found["month"] == "2026-03"
    assert one["spent"] == 10 * 72
    assert (one["expected"], one["low"], one["high"]) == (31 * 72, 31 * 72, 31 * 72)
    assert one["overrun_probability"] == 0


def test_a_month_whose_beginning_is_not_in_the_history_is_told() -> None:
    found = document(8, [{"name": "a", "monthly": 3000}], first=9 * DAY)
    assert found["covered_from"] == "2026-03-11T00:00:00Z"


def test_less_than_a_week_is_no_forecast() -> None:
    (one,) = document(6, [{"name": "a", "monthly": 3000}])["budgets"]
    assert (one["expected"], one["low"], one["state"]) == (None, None, "within")


def test_too_few_errors_are_no_band() -> None:
    found = outlook([1.0] * 20, left=8, spent=0, monthly=100)
    assert (found.expected, found.low, found.overrun, found.errors) == (8, None, None, 6)


def test_the_band_holds_four_fifths_of_what_the_forecast_missed_by() -> None:
    """A series that doubles every other week: one day ahead it is half, right or double."""
    days = ([1.0] * 14 + [2.0] * 14) * 4
    found = outlook(days, left=1, spent=10, monthly=11.9)
    assert found.expected == 12
    assert found.low is not None
    assert found.high is not None
    assert 11 <= found.low < 12 < found.high <= 14
    assert found.overrun == pytest.approx(0.87, abs=0.1)


def test_the_end_of_the_month_is_what_was_spent() -> None:
    assert outlook([], left=0, spent=5, monthly=4).expected == 5


def test_a_day_that_is_not_whole_serves_no_forecast() -> None:
    section = costs()
    hours = [hour for hour in range(3 * DAY) if hour != DAY + 5]
    bill = Biller(section).bill(history(*(cell(grant(), hour=hour) for hour in hours)))
    assert daily(bill.lines, bill, section) == pytest.approx([72, 72])


def test_days_of_23_and_25_hours_are_whole() -> None:
    section = costs(time_zone="Europe/Berlin")
    begin = (1774738800 - START) / HOUR  # 29 March, 0:00 in Berlin
    hours = [begin + hour for hour in range(23 + 24)]
    bill = Biller(section).bill(history(*(cell(grant(), hour=hour) for hour in hours)))
    assert daily(bill.lines, bill, section) == pytest.approx([69, 72])


def test_budgets_are_shown_and_what_is_not_known_has_no_series() -> None:
    found = document(6, [{"name": "a", "monthly": 400, "team": "red"}])
    assert "432.00" in budget_text(found)
    assert "over" in budget_text(found)
    samples = [s for f in text_string_to_metric_families(budget_metrics(found)) for s in f.samples]
    assert {(s.name, s.labels.get("at")): s.value for s in samples} == {
        ("deviceplugin_budget_monthly", None): 400,
        ("deviceplugin_budget_spent", None): 432,
        ("deviceplugin_budget_alert", "80%"): 1,
        ("deviceplugin_budget_alert", "100%"): 1,
    }


def test_no_budgets_need_no_attention() -> None:
    found = document(6, [])
    assert not needs_attention(found)
    assert "No budgets are given" in budget_text(found)


@pytest.mark.parametrize(("monthly", "status"), [(100_000, 0), (100, 1)])
def test_the_commands_status_is_that_of_the_budgets(
    monthly: int, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_history(tmp_path / "h.csv", month(2))
    text = f"""cost:
  prices: [{{hourly: 3.0, source: a contract, dated: 2026-01-01}}]
  budgets: [{{name: all, monthly: {monthly}}}]
"""
    (tmp_path / "c.yaml").write_text(text)
    files = ("--history", str(tmp_path / "h.csv"), "--costs", str(tmp_path / "c.yaml"))
    code = 0
    try:
        cli.main(["fleet", "budget", *files, "-o", "json"], standalone_mode=False)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == status
    assert json.loads(capsys.readouterr().out)["budgets"][0]["spent"] == 288
