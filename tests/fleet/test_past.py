"""A fleet's past, read from a store window by window; and what it tells of GPUs that may fail."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from deviceplugin.cli import cli
from deviceplugin.cost.series import QUERIES
from deviceplugin.fleet.past import read_past
from deviceplugin.fleet.reader import read_risk
from deviceplugin.fleet.risk import SIGNS, risk_document, words_of
from deviceplugin.metrics.reply import Series, StoreError
from deviceplugin.metrics.store import Access, Store
from tests.fleet.examples import END, HOUR
from tests.metrics.test_store import Answers, server

GPU = {"uuid": "GPU-0", "vendor": "nvidia", "model": "NVIDIA H100", "node": "n1"}
POD = {**GPU, "namespace": "ml", "pod": "p", "container": "c"}
DAY = 24 * HOUR


class Told(Answers):
    """A store that has the same value of some queries at all times."""

    def __init__(self, values: Mapping[str, tuple[Mapping[str, str], float]]) -> None:
        super().__init__()
        self._values = values

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        asked = {name: one[0] for name, one in parse_qs(urlsplit(path).query).items()}
        self.asked.append(asked)
        start, end, step = (float(asked[name]) for name in ("start", "end", "step"))
        moments = [start + step * n for n in range(int((end - start) / step) + 1)]
        result = [
            {"metric": dict(labels), "values": [[at, str(value)] for at in moments]}
            for query, (labels, value) in self._values.items()
            if query == asked["query"]
        ]
        data = {"resultType": "matrix", "result": result}
        return 200, json.dumps({"status": "success", "data": data}).encode()


def test_every_hour_is_asked_for_once_and_comes_in_time() -> None:
    told = Told({QUERIES["up"]: (GPU, 1.0), QUERIES["share"]: (POD, 0.5)})
    with server(told) as address:
        found = read_past(Store(Access(address=address)), END + 1800, 16, "team")
    assert [cell.start for cell in found.cells] == [END - HOUR * n for n in range(16 * 24, 0, -1)]
    assert {(cell.grants[0].pod, cell.grants[0].share) for cell in found.cells} == {("p", 0.5)}
    assert found.devices["GPU-0"].model == "NVIDIA H100"
    spans = [
        (float(a["start"]), float(a["end"])) for a in told.asked if a["query"] == QUERIES["up"]
    ]
    assert len(spans) == 3
    assert all(after[0] - before[1] == HOUR for before, after in pairwise(spans))


def test_a_store_without_gpus_says_which_metrics_it_lacks() -> None:
    with server(Told({})) as address, pytest.raises(StoreError, match="deviceplugin_gpu_up"):
        read_past(Store(Access(address=address)), END, 2, "team")


def signs(**values: Sequence[float]) -> dict[str, tuple[Series, ...]]:
    return {
        sign: (Series(labels=GPU, values={END - DAY * n: v for n, v in enumerate(all_)}),)
        for sign, all_ in values.items()
    }


@pytest.mark.parametrize(
    ("told", "certain", "words"),
    [
        (signs(remap_failed=[1.0]), True, ["a row of its memory could not be replaced"]),
        (signs(no_spares=[2.0]), True, ["a bank of its memory has no spare row"]),
        (signs(off_bus=[1.0, 1.0]), True, ["it fell off the bus 2 times (XID 79)"]),
        (signs(off_bus=[1.0, 0.0]), False, ["it fell off the bus 1 times (XID 79)"]),
        (
            signs(likely=[6.0, 1.0]),
            False,
            ["it fails 6.0 times as often as the fleet, by the past of such GPUs"],
        ),
        (signs(unhealthy=[0.25, 0.5]), False, ["0.8 days Unhealthy"]),
        (
            signs(remapped=[1.0], uncorrected=[3.0]),
            False,
            [
                "3 memory errors that were not corrected",
                "1 rows replaced for such errors",
            ],
        ),
    ],
)
def test_what_only_a_replacement_ends_is_told_from_what_is_to_be_watched(
    told: dict[str, tuple[Series, ...]], certain: bool, words: list[str]
) -> None:
    (row,) = risk_document(told, 30)["gpus"]
    assert (row["certain"], [*words_of(row)]) == (certain, words)


def test_what_was_repaired_is_no_longer_a_sign() -> None:
    """A value of each day; the last one is 0."""
    assert risk_document(signs(remap_failed=[0.0, 1.0, 1.0]), 30)["gpus"] == []


def test_a_risk_that_is_less_than_five_times_the_fleets_is_none() -> None:
    assert risk_document(signs(likely=[4.9, 6.0]), 30)["gpus"] == []


def test_a_probability_is_shown_with_its_window_and_whether_such_came_true() -> None:
    labels = {"device": "GPU-0", "window_days": "90", "calibrated": "no"}
    told = (Series(labels=labels, values={END - DAY: 0.5, END: 0.125}),)
    (row,) = risk_document(signs(remap_failed=[1.0]) | {"probability": told}, 30)["gpus"]
    assert [*words_of(row)][-1] == "12.5 % in 90 days (calibrated: no)"
    assert risk_document({"probability": told}, 30)["gpus"] == []


def test_the_certain_ones_come_first() -> None:
    other = Series(labels={"device": "GPU-9", "node": "n0"}, values={END: 0.5})
    found = risk_document(signs(remap_failed=[1.0]) | {"unhealthy": (other,)}, 30)
    assert [row["device"] for row in found["gpus"]] == ["GPU-0", "GPU-9"]


def test_what_the_store_does_not_have_is_not_known_and_not_well() -> None:
    told = Told({SIGNS["remap_failed"]: (GPU, 0.0)})
    with server(told) as address:
        found = read_risk(Store(Access(address=address)), END, 30)
    assert (found["gpus"], found["known"]) == ([], ["remap_failed"])
    assert len(told.asked) == len(SIGNS)


def test_costs_that_are_not_known_take_nothing_from_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("cost: {}\n")
    words = ["fleet", "report", "--costs", str(tmp_path / "c.yaml"), "--days", "3", "--store"]
    with server(Told({})) as address:
        cli.main([*words, address, "--format", "html"], standalone_mode=False)
        page = capsys.readouterr().out
        cli.main([*words, address], standalone_mode=False)
    for text in (page, capsys.readouterr().out):
        assert "the store has no hour of the last 3 days" in text
        assert "gpu: no data" in text
