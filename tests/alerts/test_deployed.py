"""What deploy/monitoring has is what the commands render."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from deviceplugin.alerts.section import MonitoringSection
from deviceplugin.cli.alerts import INTERVAL_S, RENDERERS

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES: Mapping[str, str] = {
    "monitoring/gpu_overview.json": "gpu_overview",
    "monitoring/gpu_details.json": "gpu_details",
    "monitoring/gpu_scheduler.json": "gpu_scheduler",
    "monitoring/prometheusrule.yaml": "prometheusrule",
    "monitoring/service.yaml": "service",
    "monitoring/servicemonitor.yaml": "servicemonitor",
    "monitoring/prometheus/rules.yaml": "rules",
    "monitoring/prometheus/scrape.yaml": "scrape",
}
FLEET = "monitoring/prometheus/fleet-rules.yaml"  # `fleet rules`; tests/fleet compares it


def rendered(what: str) -> str:
    return RENDERERS[what](MonitoringSection(), INTERVAL_S)


@pytest.mark.parametrize("file", FILES)
def test_a_deployed_file_is_what_is_rendered(file: str) -> None:
    assert (DEPLOY / file).read_text() == rendered(FILES[file])


def test_the_podmonitor_says_what_is_rendered() -> None:
    text = (DEPLOY / "podmonitor.yaml").read_text()  # written by hand, with a comment
    assert yaml.safe_load(text) == yaml.safe_load(rendered("podmonitor"))


def test_every_document_is_deployed() -> None:
    assert {*FILES.values(), "podmonitor"} == {*RENDERERS}
    found = {str(p.relative_to(DEPLOY)) for p in (DEPLOY / "monitoring").rglob("*") if p.is_file()}
    assert found == {*FILES, FLEET}
