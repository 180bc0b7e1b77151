"""Published rates, remaining life, and when work costs least."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.maintenance.life import Wear, remaining_life
from deviceplugin.maintenance.prior import PUBLISHED, SHARES, Rate, published, quantile
from deviceplugin.maintenance.windows import WEEK, schedule


@pytest.mark.parametrize(
    ("shape", "part", "value"),
    [(1.0, 0.5, math.log(2)), (1.0, 0.9, math.log(10)), (3.0, 0.1, 1.1021), (50.0, 0.9, 59.249)],
)
def test_quantiles_are_those_of_the_tables(shape: float, part: float, value: float) -> None:
    assert quantile(shape, part) == pytest.approx(value, rel=1e-4)


def test_the_prior_has_mean_and_spread_of_the_published_fleets() -> None:
    prior = published()
    assert prior.failures / prior.years == pytest.approx(sum(PUBLISHED) / len(PUBLISHED))
    low, high = prior.interval(365.25)
    assert low < 0.01
    assert high > 0.09
    assert sum(SHARES.values()) == pytest.approx(1.0)


@given(st.floats(0, 30), st.floats(0, 1000), st.floats(1, 3650))
def test_a_probability_is_one_and_lies_in_its_interval(
    failures: float, years: float, days: float
) -> None:
    rate = published().after(failures, years)
    low, high = rate.interval(days)
    assert 0 < low < high < 1
    assert 0 < rate.probability(days) < 1


def test_the_interval_of_a_rate_holds_the_true_one_in_80_percent() -> None:
    chance, inside = random.Random(5), 0
    for _ in range(1000):
        true = chance.gammavariate(2.0, 1 / 40)
        failures = sum(chance.random() < true / 50 for _ in range(1000))  # in 20 GPU-years
        low, high = Rate(failures=2.0, years=40.0).after(failures, 20.0).interval(100)
        inside += low <= 1 - math.exp(-true * 100 / 365.25) <= high
    assert 760 < inside < 840


def wear(**more: float) -> Wear:
    return Wear(**{"days": 30.0, "remapped": 6.0, "worn_banks": 1.0, "banks": 640.0, **more})


@pytest.mark.parametrize(
    "without",
    [{"remapped": 2.0}, {"worn_banks": 0.0}, {"days": 3.0}],
    ids=["few remaps", "no worn bank", "few days"],
)
def test_without_a_trend_there_is_no_end_to_tell(without: dict[str, float]) -> None:
    assert remaining_life(wear(**without)) is None


def test_a_worn_bank_and_a_rate_of_remaps_give_an_interval() -> None:
    life = remaining_life(wear())
    assert life is not None
    assert 0 < life.low < 5
    assert life.high is None  # if remaps hit any bank, this one may never be hit
    assert "6 rows were remapped in 30 days" in life.because
    life = remaining_life(wear(remapped=60.0, worn_banks=200.0))
    assert life is not None
    assert life.high is not None
    assert life.low < 0.1 < life.high < 10


def test_the_interval_of_life_holds_the_end_in_80_percent_where_remaps_hit_all_banks_alike() -> (
    None
):
    """At least: the early end supposes the worst."""
    chance, inside = random.Random(2), 0
    for _ in range(500):
        rate = chance.uniform(0.3, 1.0)
        remapped = sum(chance.random() < rate / 100 for _ in range(6000))  # in 60 days
        life = remaining_life(wear(days=60.0, remapped=remapped, worn_banks=64.0, banks=128.0))
        assert life is not None
        end = chance.expovariate(rate * 64 / 128)
        inside += life.low <= end <= (life.high or math.inf)
    assert inside > 0.8 * 500


NOW = 480_000 - 480_000 % WEEK


def held(weeks: int, night: float = 1.0, day: float = 8.0) -> dict[int, float]:
    """Fewer GPUs are held in the first six hours of each day."""
    hours = range(NOW - weeks * WEEK, NOW)
    return {hour: night if hour % 24 < 6 else day for hour in hours}


def test_the_windows_that_cost_least_do_not_overlap_and_tell_their_spread() -> None:
    found = schedule(held(4), NOW, 2)
    windows = found["windows"]
    assert len(windows) == 3
    for one in windows:
        assert (one["gpu_hours"], one["least"], one["most"], one["weeks"]) == (2, 2, 2, 4)
        assert one["start"] // 3600 % 24 <= 4
    starts = sorted(one["start"] for one in windows)
    assert all(later - earlier >= 7200 for earlier, later in pairwise(starts))


def test_the_choice_is_tested_on_the_week_before() -> None:
    tested = schedule(held(4), NOW, 2)["tested"]
    assert (tested["expected_gpu_hours"], tested["came"]) == (2, 2)
    assert tested["mean_of_all_windows"] > 10


def test_the_test_does_not_know_the_week_that_it_is_held_against() -> None:
    busy = {hour: 8.0 if hour >= NOW - WEEK - 2 else value for hour, value in held(4).items()}
    tested = schedule(busy, NOW, 2)["tested"]
    assert (tested["expected_gpu_hours"], tested["came"]) == (2, 16)


def test_without_a_week_of_history_nothing_is_said() -> None:
    assert "unknown_because" in schedule({}, NOW, 2)
    few = dict.fromkeys(range(NOW - 24, NOW), 1.0)
    assert schedule(few, NOW - 12, 2)["windows"] == []


def test_hours_that_were_not_measured_are_left_out() -> None:
    gaps = {hour: value for hour, value in held(2, night=0.0).items() if hour % 24 >= 3}
    (first, *_) = schedule(gaps, NOW, 2)["windows"]
    assert first["start"] // 3600 % 24 in (3, 4)
