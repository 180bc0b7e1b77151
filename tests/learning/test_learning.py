"""Models of runs that were: what they predict, what is known when, and what their files say."""

import math
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from deviceplugin.learning.figures import Outcome, figures_of
from deviceplugin.learning.killswitch import DAY_S, FEW, KillSwitch
from deviceplugin.learning.model import Model, ModelError, decode, encode
from deviceplugin.learning.predict import NEAR, rolling_median
from deviceplugin.learning.runs import KEPT, MAX_GROUPS, History, Run, owner_name
from deviceplugin.learning.train import Settings, Upper, judge, latest, replayed, train
from tests.learning.jobs import HOUR, jobs

_EARLIER = ["made", "window", "runs", "judged", "weights", "shift", "latest"]
EVER = Settings(retention_s=1e9, name="gpu-scheduler-v2", version="v2.1")


@pytest.fixture(scope="module")
def model() -> Model:
    found = list(jobs(600))
    made = train(found, max(run.end for run in found), EVER)
    assert made is not None
    return made


def run(start: float, seconds: float, owner: str = "a") -> Run:
    return Run(namespace="ml", owner=owner, start=start, seconds=seconds)


def test_an_owner_with_a_length_of_its_own_gets_it_predicted(model: Model) -> None:
    found = model.predict(model.history(), ("ml", "infer", "main"), model.made)
    assert found is not None
    assert 400 < found.seconds < 900
    assert found.upper >= found.log
    assert (found.peak_mib, found.busy_ratio, found.runs) == (1000.0, 0.2, NEAR)


def test_of_two_lengths_one_is_predicted_and_not_what_lies_between(model: Model) -> None:
    found = model.predict(model.history(), ("ml", "train", "main"), model.made)
    assert found is not None
    assert not 5 * HOUR < found.seconds < 8 * HOUR


def test_an_owner_that_is_new_is_predicted_by_its_namespace_and_a_new_namespace_not_at_all(
    model: Model,
) -> None:
    history = model.history()
    found = model.predict(history, ("ml", "new", "main"), model.made)
    assert found is not None
    assert (found.runs, found.peak_mib) == (0, None)
    assert model.predict(history, ("nobody", "new", "main"), model.made) is None


def test_a_model_tells_its_window_and_the_error_that_it_was_judged_by(model: Model) -> None:
    told = msgspec.json.decode(encode(model))
    found = list(jobs(600))
    assert told["window"] == [0.0, max(one.end for one in found)]
    assert (told["name"], told["version"], told["runs"]) == ("gpu-scheduler-v2", "v2.1", 600)
    assert told["judged"]["runs"] == 120
    assert told["judged"]["factor"] < 2.5
    assert 75 <= told["judged"]["covered_percent"] <= 100
    assert decode(encode(model)) == model


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"format": 2}, "format 2, 1 is known here"),
        ({"weights": {"moon": 1.0}}, "weights of moon"),
        ({"weights": {"bias": "much"}}, "float"),
        ({"mean": {"sun": {"weight": 1.0, "low": 0.0, "high": 1.0}}}, "weights of sun"),
        ({"latest": 3}, "array"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_the_reason(
    model: Model, change: dict[str, Any], meant: str
) -> None:
    with pytest.raises(ModelError, match=meant):
        decode(msgspec.json.encode(msgspec.to_builtins(model) | change))


def test_memory_and_utilisation_are_what_nine_of_ten_runs_stayed_below(model: Model) -> None:
    history = History()
    for number in range(1, 11):
        one = run(number, 60)
        history.add(replace(one, peak_mib=100.0 * number, busy_ratio=number / 10))
    found = model.predict(history, ("ml", "a", ""), 100.0)
    assert found is not None
    assert (found.peak_mib, found.busy_ratio) == (900.0, 0.9)


def test_a_model_tells_how_the_day_before_it_was_made_would_have_gone(model: Model) -> None:
    assert model.last_day is not None
    assert model.judged is not None
    assert 0 < model.last_day.runs < model.judged.runs
    later = train(jobs(600), model.made + DAY_S + 60, EVER)
    assert later is not None
    assert later.last_day is None
    without = msgspec.to_builtins(model)
    del without["last_day"]  # as models were before there was such a thing
    assert decode(msgspec.json.encode(without)).last_day is None


def test_a_model_of_many_runs_is_judged_by_an_even_part_of_them(model: Model) -> None:
    found = list(jobs(600))
    whole, _, _ = judge(found, model.learned, (found[300].start, 0.0))
    part, _, _ = judge(found, model.learned, (found[300].start, 0.0), most=100)
    assert whole is not None
    assert part is not None
    assert (whole.runs, part.runs) == (300, 100)


def test_a_file_of_an_earlier_version_predicts_by_likeness_alone(model: Model) -> None:
    told = msgspec.to_builtins(model)
    earlier = decode(msgspec.json.encode({k: v for k, v in told.items() if k in _EARLIER}))
    found = earlier.predict(earlier.history(), ("ml", "infer", "main"), model.made)
    assert found is not None
    assert 400 < found.seconds < 900


def test_too_few_runs_or_runs_that_are_too_old_make_no_model() -> None:
    found = list(jobs(29))
    assert train(found, 1e6, EVER) is None
    assert train(jobs(600), 1e9, Settings(retention_s=86_400.0)) is None


def test_nothing_counts_that_had_not_ended_when_a_run_began() -> None:
    runs = [run(0, 100), run(50, 10), run(200, 5)]
    known = [
        ([past.end for past in history.past(one.group)], history.running(one.group))
        for one, history in replayed(runs)
    ]
    assert known[0] == ([], [])
    assert known[1] == ([], [0])
    assert known[2] == ([100, 60], [])


def test_the_same_runs_make_the_same_model(model: Model) -> None:
    found = list(jobs(600))
    assert train(reversed(found), model.made, EVER) == model


def test_the_upper_end_comes_to_nine_of_ten_whatever_the_runs_do() -> None:
    upper, below = Upper(), 0
    for number in range(4000):
        was = 5.0 + (number * 7919 % 100) / 25  # 5 to 9, all alike
        below += number >= 1000 and was <= 2.0 + upper.shift
        upper.learn(was, 2.0 + upper.shift)
    assert 0.87 < below / 3000 < 0.93


def test_history_is_bounded_by_groups_and_by_runs() -> None:
    history = History()
    for number in range(MAX_GROUPS + 10):
        history.add(run(number, 1, owner=f"o{number}"))
    for number in range(100):
        history.add(run(number, 1, owner="same"))
    assert len(history.past(("ml", "same", ""))) == KEPT
    assert len(list(history.groups())) <= MAX_GROUPS
    assert len(latest(run(n, 1) for n in range(100))) == KEPT


def test_the_kill_switch_compares_the_last_day_with_the_rolling_median() -> None:
    switch = KillSwitch()
    for number in range(FEW - 1):
        switch.ended(number, 2.0, 1.0)
    assert not switch.silent(FEW)
    switch.ended(FEW, 2.0, 1.0)
    assert switch.silent(FEW)
    for number in range(FEW + 2):
        switch.ended(FEW + number, 0.5, 1.0)
    assert not switch.silent(2 * FEW)
    assert not switch.silent(2 * FEW + DAY_S)


def test_a_model_that_is_as_good_as_the_rolling_median_may_speak() -> None:
    switch = KillSwitch()
    for number in range(FEW):
        switch.ended(number, 8.9e-16, 0.0)
    assert not switch.silent(FEW)


@pytest.mark.parametrize(
    ("kind", "name", "owner"),
    [
        ("ReplicaSet", "web-6c5d9f8b7d", "web"),
        ("Job", "nightly-28912345", "nightly"),
        ("Job", "train", "train"),
        ("Job", "2024", "2024"),
        ("StatefulSet", "db-0a1b2c", "db-0a1b2c"),
        ("Pod", "alone", "alone"),
    ],
)
def test_an_owner_is_called_what_it_is_called_again_and_again(
    kind: str, name: str, owner: str
) -> None:
    assert owner_name(kind, name) == owner


def test_figures_are_those_of_the_definition() -> None:
    outcomes = [
        Outcome(0.0, 0.0, 1.0, 1.0),
        Outcome(2.0, 3.0, 1.0, 2.0),
        Outcome(4.0, 4.5, 5.0, 4.0),
    ]
    found = figures_of(outcomes)
    assert found is not None
    assert found.factor == round(math.exp(0.5), 3)
    assert (found.twice_percent, found.covered_percent) == (66.7, 66.7)
    assert found.r2 == round(1 - 1.25 / 8, 3)
    assert found.rolling_factor == 1.0
    assert figures_of([]) is None


def test_the_rolling_median_is_that_of_the_latest_ten() -> None:
    history = History()
    for number in range(20):
        history.add(run(number, math.exp(number)))
    found = rolling_median(history, ("ml", "a", ""))
    assert found == pytest.approx(14.5)
    assert rolling_median(history, ("ml", "b", "")) is None
