"""The recording rules that are shipped are those of the queries."""

from pathlib import Path

import yaml

from deviceplugin.fleet.questions import QUERIES, recorded, rules

SHIPPED = Path(__file__).parents[2] / "deploy/monitoring/prometheus/fleet-rules.yaml"


def test_shipped_rules_are_what_the_command_prints() -> None:
    assert yaml.safe_load(SHIPPED.read_text()) == rules()


def test_every_query_is_recorded_under_its_own_name() -> None:
    (group,) = rules()["groups"]
    assert {rule["record"]: rule["expr"] for rule in group["rules"]} == {
        recorded(name): query for name, query in QUERIES.items()
    }
