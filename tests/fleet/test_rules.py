"""The recording rules that are shipped are those of the queries."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deviceplugin.fleet.figures import report_metrics
from deviceplugin.fleet.questions import ALERTS, QUERIES, recorded, rules
from tests.alerts.debian import program
from tests.fleet.examples import priced

NAME = re.compile(r"deviceplugin_[a-z_]+")
SHIPPED = Path(__file__).parents[2] / "deploy/monitoring/prometheus/fleet-rules.yaml"


def test_shipped_rules_are_what_the_command_prints() -> None:
    assert yaml.safe_load(SHIPPED.read_text()) == rules()


def test_every_query_is_recorded_under_its_own_name() -> None:
    first, _ = rules()["groups"]
    assert {rule["record"]: rule["expr"] for rule in first["rules"]} == {
        recorded(name): query for name, query in QUERIES.items()
    }


def test_alerts_ask_for_what_is_served() -> None:
    """Every metric that an alert names is one that the report or a budget has."""
    told = report_metrics(priced())
    _, second = rules()["groups"]
    named = {name for rule in second["rules"] for name in NAME.findall(rule["expr"])}
    assert len(named) > 5
    assert {name for name in named if name not in told} == set()


@pytest.mark.slow
def test_prometheus_accepts_them() -> None:
    words = [program("promtool", "prometheus"), "check", "rules", str(SHIPPED)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(QUERIES) + 1 + len(ALERTS)} rules found" in done.stdout
