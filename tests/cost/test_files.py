"""Histories in files, and bills for other programs."""

import csv
import io
import json
import math
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deviceplugin.cost.bill import Bill, Biller
from deviceplugin.cost.export import FOCUS, bill_csv, bill_focus, bill_metrics
from deviceplugin.cost.files import intensities, read_history, write_history
from deviceplugin.cost.history import History, Readings
from deviceplugin.cost.report import bill_document, bill_text
from deviceplugin.cost.section import CostsSection
from deviceplugin.errors import ConfigError
from tests.cost.examples import cell, costs, device, grant, history, partition

HEAD = "start,seconds,node,vendor,model,uuid"
ROW = "2026-03-02T00:00:00Z,3600,n1,nvidia,H100,GPU-0"


def mixed() -> History:
    devices = (device(), partition("MIG-1", 40), device("GPU-1", vendor="amd", node="n2"))
    half = grant("b", 0.5, active=0.0, team="blue", owner="web", container="c")
    return history(
        cell(readings=Readings(power_watts=300.0, temperature_celsius=61.5)),
        cell(hour=1),
        cell(half, grant("a", 0.25, memory_bytes=5), of="GPU-1", hour=1),
        cell(grant("train", active=None), of="MIG-1", hour=1),
        devices=devices,
    )


def bill(section: CostsSection | None = None) -> Bill:
    return Biller(section or costs()).bill(mixed())


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_history_that_is_written_is_the_one_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    write_history(path, mixed())
    read = read_history(path)
    assert read.devices == mixed().devices
    assert sorted(read.cells, key=str) == sorted(mixed().cells, key=str)


def test_columns_that_are_not_there_were_not_measured(tmp_path: Path) -> None:
    path = written(tmp_path / "h.csv", f"{HEAD},namespace,pod\n{ROW},ml,p\n")
    (one,) = read_history(path).cells
    assert (one.grants[0].share, one.grants[0].active) == (1.0, None)
    assert one.readings == Readings()


@pytest.mark.parametrize(
    ("head", "row", "says"),
    [
        (HEAD[:-5], ROW, "uuid"),
        (f"{HEAD},colour", f"{ROW},red", "colour"),
        (HEAD, ROW.replace("3600", "-1"), "line 2: seconds: '-1'"),
        (HEAD, ROW.replace("3600", "0"), "a number above 0"),
        (HEAD, ROW.replace("3600", "nan"), "line 2: seconds: 'nan'"),
        (HEAD, ROW.replace("00Z", "00"), "a time with its offset"),
        (HEAD, ROW.replace("2026-03-02", "yesterday"), "a time such as"),
        (HEAD, ROW.replace("GPU-0", ""), "the id of a device"),
        (HEAD, f"{ROW}\n{ROW.replace('H100', 'A100')}", "the same node, model"),
        (HEAD, f"{ROW}\n{ROW.replace('00:00:00', '00:30:00')}", "do not overlap"),
        (f"{HEAD},namespace,share", f"{ROW},ml,0", "above 0"),
        (f"{HEAD},namespace,share", f"{ROW},ml,1.5", "from 0 to 1"),
        (f"{HEAD},healthy", f"{ROW},maybe", "true or false"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(
    head: str, row: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says):
        read_history(written(tmp_path / "h.csv", f"{head}\n{row}\n"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_history(tmp_path / "none.csv")


@pytest.mark.parametrize("by", ["namespace", "owner", "team", "pod", "node", "vendor", "day"])
def test_the_groups_of_a_bill_are_the_bill(by: str) -> None:
    document = bill_document(bill(), by, costs().zone)
    assert sum(one["total"] for one in document["groups"]) == pytest.approx(bill().total)
    assert sum(document["parts"].values()) == pytest.approx(bill().total)
    assert document["total"] == pytest.approx(9.0)


def test_a_bill_is_shown_with_what_it_does_not_know() -> None:
    text = bill_text(bill_document(bill(), "team", costs().zone))
    assert "blue" in text
    assert "Of used, 1.50 is without a reading of activity" in text
    unpriced = bill(costs(prices=[]))
    shown = bill_text(bill_document(unpriced, "team", costs().zone))
    assert "No price: 3.0 GPU hours" in shown


def test_energy_that_is_not_known_of_all_is_not_summed() -> None:
    assert bill_document(bill(), "team", costs().zone)["kwh"] is None


def test_the_csv_has_the_groups() -> None:
    rows = list(csv.DictReader(io.StringIO(bill_csv(bill_document(bill(), "team", costs().zone)))))
    assert [row["team"] for row in rows] == ["(nobody)", "(not told)", "blue"]
    assert sum(float(row["total"]) for row in rows) == pytest.approx(9.0)


def test_the_rows_of_focus_are_the_bill_and_have_its_columns() -> None:
    rows = list(csv.DictReader(io.StringIO(bill_focus(bill(), costs().zone))))
    assert tuple(rows[0]) == FOCUS
    assert sum(float(row["BilledCost"]) for row in rows) == pytest.approx(9.0)
    (train,) = (row for row in rows if row["ResourceType"] == "GPU Partition" and row["Tags"])
    assert (train["ResourceId"], train["x_Namespace"], train["x_Part"]) == ("MIG-1", "ml", "used")
    assert train["BillingPeriodStart"] == "2026-03-01T00:00:00Z"
    assert train["BillingPeriodEnd"] == "2026-04-01T00:00:00Z"
    assert json.loads(train["Tags"]) == {"namespace": "ml"}


def test_opencosts_metrics_count_slices_and_partitions_of_all_vendors() -> None:
    found = {
        (sample.name, sample.labels.get("pod") or sample.labels.get("node")): sample.value
        for family in text_string_to_metric_families(bill_metrics(bill()))
        for sample in family.samples
        if family.name != "deviceplugin_cost_last_hour"
    }
    assert found == {
        ("container_gpu_allocation", "a"): 0.25,
        ("container_gpu_allocation", "b"): 0.5,
        ("container_gpu_allocation", "train"): 0.5,
        ("node_gpu_count", "n1"): 1.0,
        ("node_gpu_count", "n2"): 1.0,
        ("node_gpu_hourly_cost", "n1"): 3.0,
        ("node_gpu_hourly_cost", "n2"): 3.0,
    }


def test_the_last_hour_of_a_longer_row_is_an_hour() -> None:
    long = Biller(costs()).bill(history(cell(grant(), hours=5)))
    samples = [s for f in text_string_to_metric_families(bill_metrics(long)) for s in f.samples]
    own = [s.value for s in samples if s.name == "deviceplugin_cost_last_hour"]
    assert own == [3.0]
    assert {s.value for s in samples if s.name == "container_gpu_allocation"} == {1.0}


def test_every_country_has_an_intensity_above_zero() -> None:
    found = intensities()
    assert len(found) > 200
    assert all(len(code) == 3 and 0 < grams < 2000 for code, grams in found.items())
    assert math.isclose(found["DEU"], 380.95)
