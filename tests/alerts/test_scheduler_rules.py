"""The alerts about the extender's watches fire for what they are about, by a real promtool."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.alerts.test_prometheus import firing, unit_test

pytestmark = pytest.mark.slow

RULES = Path(__file__).parents[2] / "deploy/scheduler/prometheusrule.yaml"
AGE = 'deviceplugin_scheduler_watch_age_seconds{instance="n",kind="nodes"}'
LEFT = 'deviceplugin_scheduler_left_out{instance="n",kind="pods"}'
SILENT, LEFT_OUT = "DevicepluginSchedulerWatchSilent", "DevicepluginSchedulerLeftOut"


@pytest.mark.parametrize(
    ("series", "silent", "left_out"),
    [
        ({AGE: "0+60x20", LEFT: "0x20"}, 1, 0),
        ({AGE: "0 300 10 300 10 300 330x20", LEFT: "0x20"}, 0, 0),
        ({AGE: "10x20", LEFT: "2x20"}, 0, 1),
    ],
    ids=["silent", "well", "left out"],
)
def test_an_alert_fires_for_what_it_is_about(
    series: Mapping[str, str], silent: int, left_out: int, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(yaml.safe_load(RULES.read_text())["spec"]))
    checks = [firing(SILENT, "18m", silent), firing(LEFT_OUT, "18m", left_out)]
    unit_test(rules, series, checks)
