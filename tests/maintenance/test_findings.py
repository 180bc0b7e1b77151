"""What is certain of a GPU, and what its fleet's past says of it."""

from typing import Any

import pytest

from deviceplugin.maintenance.findings import Asked, Past, Seen, maintenance_document, past_of
from deviceplugin.maintenance.life import Life
from deviceplugin.maintenance.report import maintenance_text
from deviceplugin.maintenance.signs import Noted
from deviceplugin.maintenance.units import Kind, Unit

Document = dict[str, Any]
NOTHING = Seen()


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
    (gpu,) = maintenance_document(health(found), None, NOTHING, 91)["gpus"]
    (certain,) = gpu["certain"]
    assert certain["finding"] == finding
    assert certain["since"] == 5.0
    assert gpu["alerts"] == ["certain finding"]
    text = maintenance_text(maintenance_document(health(found), None, NOTHING, 91))
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
    (gpu,) = maintenance_document(health(found), None, NOTHING, 91)["gpus"]
    assert gpu["certain"] == []
    assert gpu["alerts"] == []


def test_without_a_past_the_rate_is_the_published_one_and_told_as_not_calibrated() -> None:
    document = maintenance_document(health(), None, NOTHING, 365)
    (gpu,) = document["gpus"]
    low, high = gpu["interval_80"]
    assert 0.005 < low < gpu["failure_probability"] < high < 0.15
    assert gpu["failure_probability"] == pytest.approx(0.056, rel=0.1)
    assert sum(gpu["by_kind"].values()) == pytest.approx(gpu["failure_probability"], abs=1e-4)
    assert (gpu["calibrated"], gpu["relative_to_fleet"]) == ("no", None)
    assert gpu["remaining_life"] is None
    text = maintenance_text(document)
    assert "three published fleets" in text
    assert "unknown" in text


def test_failures_of_the_node_raise_its_rate_and_years_without_lower_it() -> None:
    def rate(*failures: Kind, years: float) -> Document:
        seen = Seen(failures=failures, years=years)
        (gpu,) = maintenance_document(health(), None, seen, 91)["gpus"]
        return dict(gpu)

    prior, bad, good = rate(years=0), rate(Kind.LINK, Kind.LINK, years=1), rate(years=50)
    assert good["failure_probability"] < prior["failure_probability"] < bad["failure_probability"]
    assert bad["by_kind"]["link"] > 3 * prior["by_kind"]["link"]


def test_signs_trend_and_schedule_are_told() -> None:
    life = Life(low=3.2, high=None, because="3 rows were remapped")
    windows = [
        {"start": 0, "end": 7200, "gpu_hours": 1.5, "least": 1, "most": 2, "weeks": 4},
    ]
    seen = Seen(signs={"GPU-1": ("silent",)}, lives={"GPU-1": life}, schedule={"windows": windows})
    document = maintenance_document(health(), None, seen, 91)
    (gpu,) = document["gpus"]
    assert gpu["remaining_life"] == {"low_days": 3.2, "high_days": None, "because": life.because}
    assert [(one["sign"], one["ratio"]) for one in gpu["evidence"]] == [("silent", None)]
    text = maintenance_text(document)
    assert "3 to more days" in text
    assert "worth unknown" in text
    assert "work from 1970-01-01 00:00 to 1970-01-01 02:00 UTC costs 1.5 allocated" in text


def test_partitions_are_a_part_of_their_gpu() -> None:
    assert maintenance_document(health(parent="GPU-0"), None, NOTHING, 91)["gpus"] == []


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
    past = past_of(fleet(), (0, 20), Asked(days=10), None)
    document = maintenance_document(health(), past, NOTHING, 10)
    (gpu,) = document["gpus"]
    low, high = gpu["interval_80"]
    assert low < gpu["failure_probability"] < high
    assert gpu["failure_probability"] == pytest.approx(0.067, rel=0.1)  # the earlier window halved
    assert gpu["by_kind"]["memory"] > 10 * gpu["by_kind"]["link"]
    assert gpu["relative_to_fleet"] > 5
    assert gpu["alerts"] == ["relative risk >= 5"]
    assert gpu["calibrated"] == "no"
    assert "too short" in gpu["calibrated_because"]
    assert "FAILS IN 10 DAYS" in maintenance_text(document)


def test_a_sign_that_preceded_failures_raises_the_probability_of_who_has_it_now() -> None:
    noted = Noted({f"b{n}": [(9, "silent")] for n in range(50)})
    plain = past_of(fleet(), (0, 20), Asked(days=10, noted=noted), True)
    shown = past_of(
        fleet(), (0, 20), Asked(days=10, noted=noted, signs={"GPU-1": ("silent",)}), True
    )
    before, after = (past.outlooks["GPU-1"].probability for past in (plain, shown))
    assert after > 5 * before
    seen = Seen(signs={"GPU-1": ("silent",)})
    (gpu,) = maintenance_document(health(), shown, seen, 10)["gpus"]
    (sign,) = gpu["evidence"]
    assert sign["failed"] == 50
    assert sign["ratio"]["memory"] > 5 > sign["ratio"]["link"]
    assert gpu["calibrated"] == "yes"


def test_a_gpu_that_the_fleets_file_does_not_name_has_published_rates() -> None:
    past = Past(days=10, calibrated=True, outlooks={})
    (gpu,) = maintenance_document(health(), past, NOTHING, 10)["gpus"]
    assert gpu["calibrated"] == "no"
    assert "published" in gpu["rates_of"]
