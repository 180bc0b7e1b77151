"""From answers of a store of metrics to a history."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.cli import cli
from deviceplugin.cost.bill import Biller
from deviceplugin.cost.files import read_history
from deviceplugin.cost.history import Grant, History, Readings
from deviceplugin.cost.pieces import Part
from deviceplugin.cost.series import QUERIES, history_of
from deviceplugin.errors import ConfigError
from deviceplugin.metrics.reply import Series
from deviceplugin.telemetry.catalogue import METRICS
from tests.cost.examples import costs

AT = 1772409600.0
HOUR = 3600.0
IDENTITY = {"uuid": "GPU-0", "vendor": "nvidia", "model": "H100", "node": "n1", "index": "0"}
POD = {"namespace": "ml", "pod": "web-6f7d8c9b5d-x2x4z", "container": "c"}
OTHER = {"namespace": "ml", "pod": "batch-1", "container": "c"}


def one(value: float, *labels: Mapping[str, str], at: float = AT) -> Series:
    merged = {key: text for each in labels for key, text in each.items()}
    return Series(labels=merged, values={at: value})


def answers(**keys: Any) -> dict[str, list[Series]]:
    return {
        "up": [one(1, IDENTITY, POD)],
        "info": [one(1, IDENTITY, {"profile": "", "parent": ""})],
        "memory_total": [one(80e9, IDENTITY)],
        "share": [one(0.5, IDENTITY, POD)],
    } | keys


def grants(history: History) -> tuple[Grant, ...]:
    (cell,) = history.cells
    return cell.grants


def test_an_hour_is_that_which_ends_when_it_was_asked_for() -> None:
    (cell,) = history_of(answers()).cells
    assert (cell.start, cell.seconds, cell.healthy) == (AT - HOUR, HOUR, True)
    assert grants(history_of(answers()))[0].share == 0.5


def test_who_has_a_device_alone_did_what_the_device_did() -> None:
    found = history_of(answers(active=[one(0.4, IDENTITY)], memory=[one(5e9, IDENTITY)]))
    assert [(g.active, g.memory_bytes) for g in grants(found)] == [(0.4, 5_000_000_000)]


def test_of_several_each_has_what_its_processes_did_and_else_nothing_is_known() -> None:
    found = history_of(
        answers(
            share=[one(0.5, IDENTITY, POD), one(0.25, IDENTITY, OTHER)],
            active=[one(0.9, IDENTITY)],
            pod_active=[one(0.2, IDENTITY, POD)],
        )
    )
    assert {g.pod: g.active for g in grants(found)} == {POD["pod"]: 0.2, "batch-1": None}
    assert {g.copying for g in grants(found)} == {None}


def test_owners_and_teams_are_those_of_the_pod() -> None:
    owner = {"owner_kind": "ReplicaSet", "owner_name": "web-6f7d8c9b5d"}
    found = history_of(
        answers(
            owner=[one(1, POD, owner)],
            labels=[one(1, POD, {"label_example_com_team": "blue"})],
        ),
        "example.com/team",
    )
    assert [(g.owner, g.team) for g in grants(found)] == [("web", "blue")]


def test_a_pod_without_an_owner_has_none() -> None:
    nobody = {"owner_kind": "<none>", "owner_name": "<none>"}
    assert grants(history_of(answers(owner=[one(1, POD, nobody)])))[0].owner == ""


def test_names_that_prometheus_moved_aside_are_the_pods() -> None:
    moved = {f"exported_{key}": text for key, text in POD.items()}
    scrape = {"namespace": "kube-system", "pod": "deviceplugin-x", "container": "d"}
    found = history_of(answers(share=[one(0.5, IDENTITY, scrape, moved)]))
    assert grants(found)[0].pod == POD["pod"]


@pytest.mark.parametrize(("up", "ill"), [(0.2, 0.0), (1.0, 0.9)])
def test_what_was_down_or_unhealthy_most_of_the_hour_is_not_healthy(up: float, ill: float) -> None:
    found = answers(up=[one(up, IDENTITY)], unhealthy=[one(ill, {"device": "GPU-0"})])
    assert not history_of(found).cells[0].healthy


def test_a_device_whose_holder_changed_is_one_device() -> None:
    """Prometheus has a series for each pod that the metric named."""
    found = history_of(answers(up=[one(1, IDENTITY, POD), one(1, IDENTITY, at=AT + HOUR)]))
    assert len(found.devices) == 1
    assert [cell.start for cell in found.cells] == [AT - HOUR, AT]


def test_readings_are_those_of_the_device_and_others_are_not_measured() -> None:
    found = history_of(answers(energy=[one(9e5, IDENTITY)], power=[one(250, IDENTITY)]))
    assert found.cells[0].readings == Readings(energy_joules=9e5, power_watts=250)


def test_a_partition_is_one_of_its_gpu() -> None:
    part = IDENTITY | {"uuid": "MIG-1"}
    found = history_of(
        answers(
            up=[one(1, IDENTITY), one(1, part)],
            info=[one(1, part, {"parent": "GPU-0", "profile": "3g.40gb"})],
            memory_total=[one(80e9, IDENTITY), one(40e9, part)],
            share=[one(1, part, POD)],
        )
    )
    bill = Biller(costs(prices=[{"hourly": 3, "source": "x", "dated": "2026-01-01"}])).bill(found)
    assert (bill.of(Part.USED), bill.of(Part.STRANDED)) == (1.5, 1.5)


def test_queries_name_metrics_that_there_are() -> None:
    text = " ".join(QUERIES.values())
    named = {word for word in METRICS if f"deviceplugin_gpu_{word}" in text}
    assert len(named) >= 14


def reply(*series: Series) -> str:
    result = [
        {"metric": dict(s.labels), "values": [[at, str(v)] for at, v in s.values.items()]}
        for s in series
    ]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


def test_the_command_writes_what_a_store_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, found in answers(power=[one(float("nan"), IDENTITY)]).items():
        (tmp_path / f"{name}.json").write_text(reply(*found))
    out = tmp_path / "h.csv"
    words = ("fleet", "history", "--replies", str(tmp_path), "--write", str(out))
    cli.main([*words], standalone_mode=False)
    assert read_history(out).cells == history_of(answers()).cells
    assert "1 devices, 1 device hours" in capsys.readouterr().err


def test_the_command_prints_what_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["fleet", "history", "--queries"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(QUERIES)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no share.json"),
        ("{", "share.json"),
        ('{"status": "error", "error": "query timed out"}', "query timed out"),
        ('{"status": "success", "data": {"resultType": "vector", "result": []}}', "a matrix"),
        (reply().replace("[]", '[{"metric": {}, "values": [[1, "x"]]}]'), "could not convert"),
    ],
)
def test_an_answer_that_is_none_is_named(text: str | None, says: str, tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text(reply())
    if text is not None:
        (tmp_path / "share.json").write_text(text)
    words = ("fleet", "history", "--replies", str(tmp_path), "--write", str(tmp_path / "h"))
    with pytest.raises(ConfigError, match=says):
        cli.main([*words], standalone_mode=False)
