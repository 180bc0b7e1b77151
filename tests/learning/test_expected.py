"""The mean that is expected of a run: what runs that go on say, and what was never seen."""

import math

import pytest

from deviceplugin.learning.expected import MEANS, Weight, features, lengths, mean, ranges, usual
from deviceplugin.learning.ridge import ridge
from deviceplugin.learning.runs import Begun, Group, History, Run
from deviceplugin.learning.train import fit
from tests.learning.jobs import HOUR, jobs

GROUP: Group = ("ml", "train", "main")


def ended(log: float) -> Begun:
    return Begun(0.0, log, has_ended=True)


def goes_on(log: float) -> Begun:
    return Begun(0.0, log, has_ended=False)


def test_a_run_that_goes_on_is_one_that_ends_at_one_of_the_later_lengths() -> None:
    found = lengths([ended(1), goes_on(2), ended(3), ended(4)], [])
    assert [(one.log, round(one.probability, 3)) for one in found] == [
        (1, 0.25),
        (3, 0.375),
        (4, 0.375),
    ]


def test_runs_that_all_go_on_are_longer_than_what_they_have_been() -> None:
    (only,) = lengths([goes_on(5), goes_on(6)], [])
    assert only.log > 6
    assert only.probability == 1
    assert lengths([], []) == []


def test_the_usual_lengths_count_as_one_run() -> None:
    found = lengths([ended(9)] * 3, [2.0, 4.0])
    assert sum(one.probability for one in found if one.log < 9) == pytest.approx(0.25)
    assert usual([]) == []
    assert usual([float(n) for n in range(40)])[::10] == [1.0, 21.0]


def test_what_is_running_makes_the_expectation_longer() -> None:
    known, now = History(), 100 * HOUR
    for number in range(8):
        begun = now - HOUR - number
        known.add(Run(namespace="ml", owner="train", container="main", start=begun, seconds=60))
    logs = [math.log(60.0)] * 20
    before = dict(zip(MEANS, features(known, GROUP, now, logs), strict=True))
    for number in range(8):
        known.started(GROUP, str(number), now - HOUR + number)
    after = dict(zip(MEANS, features(known, GROUP, now, logs), strict=True))
    for scope in ("group", "namespace"):
        assert before[f"{scope}: mean of 8 begun"] == pytest.approx(math.log(60))
        assert after[f"{scope}: mean of 8 begun"] > math.log(20 * 60)
        assert after[f"{scope}: run now"] == pytest.approx(math.log(9))
        assert after[f"{scope}: part that has ended"] == 0.5
    for number in range(8):
        known.ended(GROUP, str(number))
    assert dict(zip(MEANS, features(known, GROUP, now, logs), strict=True)) == before


def test_beyond_what_was_learned_a_feature_counts_as_the_nearest_that_was() -> None:
    weights = [Weight(1.0, 1.0, 1.0), Weight(2.0, 0.0, 3.0)]
    assert [mean(weights, [1.0, x]) for x in (-9.0, 2.0, 99.0)] == [1.0, 5.0, 7.0]
    assert ranges([[1.0, float(n)] for n in range(200)]) == [(1.0, 1.0), (2.0, 197.0)]


def test_ridge_finds_the_line_and_shrinks_it_with_few_rows() -> None:
    rows = [([1.0, float(x), 7.0], 3.0 + 2.0 * x) for x in range(50)]
    assert ridge(rows, 1e-9) == pytest.approx([3.0, 2.0, 0.0], abs=1e-6)
    assert 0 < ridge(rows[:4], 4.0)[1] < 1.5
    assert ridge([], 1.0) == []


def test_the_mean_of_a_group_is_learned() -> None:
    learned = fit(jobs(400))
    history = History()
    for run in jobs(400, seed=2):
        history.add(run)
    found = features(history, ("ml", "infer", "main"), 400 * 600.0, learned.usual)
    assert 200 < math.exp(mean(learned.means, found)) < 2000
