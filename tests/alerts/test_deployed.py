"""What deploy/monitoring has is what the commands render."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from deviceplugin.alerts.section import MonitoringSection
from deviceplugin.cli.alerts import INTERVAL_S, RENDERERS

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES: Mapping[str, str] = {
    "monitoring/gpu_overview.json": "gpu_overview",
    "monitoring/gpu_details.json": "gpu_details",
    "monitoring/prometheusrule.yaml": "prometheusrule",
    "monitoring/service.yaml": "service",
    "monitoring/servicemonitor.yaml": "servicemonitor",
    "monitoring/prometheus/rules.yaml": "rules",
    "monitoring/prometheus/scrape.yaml": "scrape",
    "podmonitor.yaml": "podmonitor",
}


@pytest.mark.parametrize("file", FILES)
def test_a_deployed_file_is_what_is_rendered(file: str) -> None:
    lines = (DEPLOY / file).read_text().splitlines(keepends=True)
    plain = "".join(line for line in lines if not line.startswith("#"))
    assert plain == RENDERERS[FILES[file]](MonitoringSection(), INTERVAL_S)


def test_every_document_is_deployed() -> None:
    assert {*FILES.values()} == {*RENDERERS}
    found = {str(p.relative_to(DEPLOY)) for p in (DEPLOY / "monitoring").rglob("*") if p.is_file()}
    assert found == {*FILES} - {"podmonitor.yaml"}
