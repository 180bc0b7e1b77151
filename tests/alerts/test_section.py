"""The section `monitoring`: users' documents as they are, and strict about everything else."""

import json
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.alerts.section import monitoring_section, parse_duration
from deviceplugin.config.config import Config
from deviceplugin.config.load import load
from deviceplugin.errors import ConfigError

DOCUMENT = """
monitoring:
  enabled: true
  system: "prometheus"
  metrics:
    - "gpu_utilization"
    - "memory_utilization"
    - "temperature"
    - "power_consumption"
    - "throughput"
    - "latency"
  alerts:
    - name: "high_utilization"
      condition: "utilization > 90%"
      severity: "warning"
    - name: "high_temperature"
      condition: "temperature > 85°C"
      severity: "critical"
    - name: "low_throughput"
      condition: "throughput < 1000fps"
      severity: "warning"
  dashboards:
    - name: "gpu_overview"
      refresh: "30s"
    - name: "gpu_details"
      refresh: "10s"
"""


def loaded(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load({"config": str(path)})[0]


def refused(tmp_path: Path, **section: Any) -> str:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, json.dumps({"monitoring": {"enabled": True, **section}}))
    return str(error.value)


def test_a_document_is_taken_as_it_is_and_what_no_gpu_tells_is_said(tmp_path: Path) -> None:
    config = loaded(tmp_path, DOCUMENT)
    section = monitoring_section(config.sections)
    assert [alert.severity for alert in section.alerts] == ["warning", "critical", "warning"]
    notes = "\n".join(config.notes)
    assert "monitoring.alerts[].condition: low_throughput is never judged: frames" in notes
    assert "monitoring.metrics: throughput is not shown" in notes
    assert "latency is not shown" in notes
    assert "high_temperature" not in notes


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (
            {"alerts": [{"name": "a", "condition": "temperature > 85"}]},
            "'temperature > 85' is not valid, expected a number with its unit",
        ),
        (
            {"alerts": [{"name": "a", "condition": "temperature > 85°C", "for": "5 minutes"}]},
            "monitoring.alerts[0].for: '5 minutes' is not valid, expected a duration such as 30s",
        ),
        ({"alerts": [{"name": "a b", "condition": "power > 3W"}]}, "monitoring.alerts[0].name"),
        (
            {"alerts": [{"name": "a", "condition": "power > 3W", "severity": "high"}]},
            "expected one of critical, info, warning",
        ),
        ({"alerts": [{"name": "a", "condition": "power > 3W"}] * 2}, "each with a name of its own"),
        ({"metrics": ["frobs"]}, "not frobs"),
        ({"dashboards": [{"name": "mine", "refresh": "1s"}]}, "gpu_details, gpu_overview"),
        (
            {"dashboards": [{"name": "gpu_details", "refresh": "often"}]},
            "monitoring.dashboards[0].refresh: 'often'",
        ),
        (
            {"enabled": False, "metrics": ["power"]},
            "monitoring.enabled: False is not valid, expected true, or none",
        ),
    ],
)
def test_anything_else_is_refused_by_its_key(
    section: dict[str, Any], words: str, tmp_path: Path
) -> None:
    assert words in refused(tmp_path, **section)


def test_durations_are_seconds() -> None:
    assert [parse_duration(text) for text in ("0s", "30s", "5m", "2h", "1d")] == [
        0,
        30,
        300,
        7200,
        86400,
    ]
