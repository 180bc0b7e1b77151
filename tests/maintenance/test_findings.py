"""What is certain of a GPU, and what its fleet's past says of it."""

from typing import Any

import pytest

from deviceplugin.maintenance.findings import (
    Past,
    maintenance_document,
    outlooks_of,
)
from deviceplugin.maintenance.report import maintenance_text
from deviceplugin.maintenance.units import Kind, Unit

Document = dict[str, Any]


def health(*faults: Document, **more: object) -> Document:
    return {"devices": [{"id": "GPU-1", "product": "H100", "faults": list(faults), **more}]}


def fault(name: str, kind: str = "hardware", device: str = "GPU-1") -> Document:
    source, _, code = name.partition("/")
    about = {"device": device, "source": source, "code": code, "class": kind}
    return {**about, "reason": "it is so", "action": "replace it", "since": 5.0}


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (fault("nvidia.memory/remap_failure"), "remap_failure"),
        (fault("nvidia.memory/no_spare_rows", "warn"), "bank_without_spares"),
        (fault("nvidia.memory/sram_threshold"), "sram_threshold"),
        (fault("nvidia.xid/79"), "off_bus_repeated"),
    ],
    ids=["remap", "spares", "sram", "off the bus again"],
)
def test_what_only_a_replacement_ends_is_certain(found: Document, finding: str) -> None:
    (gpu,) = maintenance_document(health(found), None)["gpus"]
    (certain,) = gpu["certain"]
    assert certain["finding"] == finding
    assert certain["since"] == 5.0
    assert gpu["alerts"] == ["certain finding"]
    assert gpu["failure_probability"] is None  # what is certain is no probability
    text = maintenance_text(maintenance_document(health(found), None))
    assert finding in text
    assert "do: replace it" in text


@pytest.mark.parametrize(
    "found",
    [
        fault("nvidia.xid/79", "reboot"),
        fault("nvidia.memory/remap_pending", "warn"),
        fault("nvidia.xid/48", "reset"),
        fault("nvidia.memory/remap_failure", device="GPU-2"),
    ],
    ids=["off the bus once", "pending", "double bit", "of another"],
)
def test_what_a_reset_may_end_is_not_certain(found: Document) -> None:
    (gpu,) = maintenance_document(health(found), None)["gpus"]
    assert gpu["certain"] == []
    assert gpu["alerts"] == []


def test_without_a_past_a_probability_is_unknown_and_says_why() -> None:
    document = maintenance_document(health(), None)
    (gpu,) = document["gpus"]
    assert gpu["failure_probability"] is None
    assert gpu["remaining_life"] is None
    assert "--fleet" in gpu["unknown_because"]
    assert "unknown" in maintenance_text(document)


def test_partitions_are_a_part_of_their_gpu() -> None:
    assert maintenance_document(health(parent="GPU-0"), None)["gpus"] == []


def fleet() -> list[Unit]:
    """500 that are well, 500 of which a tenth failed on day 15, and those of the node."""
    bad = [
        Unit(gpu=f"b{n}", cohort="bad", installed=0, removed=15, failure=Kind.MEMORY)
        for n in range(50)
    ]
    rest = [Unit(gpu=f"r{n}", cohort="bad", installed=0) for n in range(450)]
    good = [Unit(gpu=f"g{n}", cohort="good", installed=0) for n in range(9500)]
    of_node = [Unit(gpu="GPU-1", cohort="bad", installed=0)]
    return [*bad, *rest, *good, *of_node]


def test_a_gpu_has_its_cohorts_rate_with_an_interval_and_its_risk_beside_the_fleets() -> None:
    past = Past(days=10, calibrated=None, outlooks=outlooks_of(fleet(), (0, 20), 10))
    document = maintenance_document(health(), past)
    (gpu,) = document["gpus"]
    low, high = gpu["interval_80"]
    assert low < gpu["failure_probability"] < high
    assert gpu["failure_probability"] == pytest.approx(0.067, rel=0.1)  # the earlier window halved
    assert gpu["by_kind"]["memory"] > 10 * gpu["by_kind"]["link"]
    assert gpu["relative_to_fleet"] > 5
    assert gpu["alerts"] == ["relative risk >= 5"]
    assert gpu["calibrated"] == "unknown"
    assert "FAILS IN 10 DAYS" in maintenance_text(document)


def test_a_gpu_that_the_fleets_file_does_not_name_is_unknown() -> None:
    past = Past(days=10, calibrated=True, outlooks={})
    (gpu,) = maintenance_document(health(), past)["gpus"]
    assert gpu["unknown_because"] == "it is not in the fleet's file"
