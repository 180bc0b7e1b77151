"""Forecasts, their bands and their back-test, on series whose future is known."""

import math
import random

import pytest

from deviceplugin.forecast.horizon import walk
from deviceplugin.forecast.outlook import Outlook, Point, outlook, saturation
from deviceplugin.forecast.past import Hourly, Past, hourly

HOUR = 3600.0


def of(*values: float | None) -> Outlook:
    return outlook(Hourly(start=0, values=values))


def noisy(hours: int, seed: int = 3) -> list[float | None]:
    chance = random.Random(seed)
    daily = [100 + 30 * math.sin(hour / 24 * 2 * math.pi) for hour in range(hours)]
    return [*(value + chance.gauss(0, 5) for value in daily)]


def test_a_daily_swing_is_expected_again_and_beats_the_last_value() -> None:
    found = of(*noisy(24 * 30))
    twelve = next(one for one in found.accuracies if one.ahead_h == 12)
    assert twelve.error is not None
    assert twelve.naive[0] is not None
    assert twelve.error < twelve.naive[0]
    assert len(found.points) == 720


def test_bands_hold_four_of_five_values() -> None:
    found = of(*noisy(24 * 60))
    for one in found.accuracies:
        if one.ahead_h <= 168:
            assert one.covered == pytest.approx(0.8, abs=0.1), one


def test_zeros_are_forecast_as_zeros_and_have_no_relative_error() -> None:
    found = of(*[0.0] * 24 * 20)
    assert {(p.value, p.low, p.high) for p in found.points} == {(0.0, 0.0, 0.0)}
    assert {one.error for one in found.accuracies} == {None}


def test_after_a_step_the_forecast_follows() -> None:
    found = of(*[10.0] * 24 * 15, *[80.0] * 24 * 15)
    assert all(70 <= point.value <= 80.001 for point in found.points[:168])


def test_of_a_series_that_grows_the_forecast_stays_in_its_band() -> None:
    found = of(*(hour / 10 for hour in range(24 * 30)))
    assert all(point.low <= point.value <= point.high for point in found.points)
    assert found.points[23].high > found.points[23].value


def test_a_gap_is_no_zero() -> None:
    found = of(*[50.0] * 200, *[None] * 60, *[50.0] * 220)
    assert found.gaps == 1
    assert found.known == 24 * 20 - 60
    assert all(point.value == pytest.approx(50) for point in found.points)


def test_a_series_that_ends_in_a_gap_goes_on_from_its_last_value() -> None:
    assert of(*[50.0] * 24 * 20, *[None] * 30).points[0].value == pytest.approx(50)


@pytest.mark.parametrize("hours", [0, 1, 47])
def test_a_new_tenant_has_no_forecast_and_the_reason(hours: int) -> None:
    found = of(*[5.0] * hours)
    assert not found.points
    assert found.reason == f"{hours} hours are known, a forecast needs 48"


def test_beyond_what_was_tested_points_are_not_backed_and_bands_wider() -> None:
    found = of(*noisy(24 * 8))
    backed = [point.backed for point in found.points]
    assert backed == sorted(backed, reverse=True)
    assert not backed[-1]
    assert backed[0]
    last = max(point.ahead_h for point in found.points if point.backed)
    assert found.points[-1].high - found.points[-1].value > (
        found.points[last - 1].high - found.points[last - 1].value
    )


def test_the_future_changes_no_forecast_of_the_past() -> None:
    values = noisy(24 * 20)
    cut = 24 * 12
    other = [*values[:cut], *random.Random(1).sample(values[cut:], len(values) - cut)]
    for ahead in (1, 24, 72):
        seen = [
            [(s.value, s.low, s.high) for s in walk(Past(one), ahead, 1)[1] if s.origin < cut]
            for one in (values, other)
        ]
        assert seen[0] == seen[1]


def test_saturation_is_when_band_and_forecast_reach_the_capacity() -> None:
    points = [
        Point(ahead_h=h, value=10.0 + h, low=5.0 + h, high=15.0 + h, backed=True)
        for h in range(1, 31)
    ]
    found = saturation(points, 30)
    assert (found.early_h, found.median_h, found.late_h) == (15, 20, 25)
    assert saturation(points, 1000).early_h is None


def test_hours_that_the_store_left_out_are_not_measured() -> None:
    found = hourly([(HOUR, 1.0), (3 * HOUR, 3.0)], 4 * HOUR)
    assert found == Hourly(start=0, values=(1.0, None, 3.0, None))
    assert hourly([], 4 * HOUR).values == ()
