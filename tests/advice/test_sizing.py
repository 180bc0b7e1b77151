"""Right-sizing: by the peaks of days, never below the last week's without consent."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.advice.histogram import BUCKETS, Histogram, bucket_of, start_of
from deviceplugin.cost.history import Grant, History
from tests.advice.examples import DAY, GIB, Make, adviser, fleet, hourly, of_kind, steady
from tests.cost.examples import device, grant, history


def test_buckets_are_those_of_the_autoscaler() -> None:
    """10 MB, then each 5 % wider, until one that holds a terabyte."""
    assert [start_of(n) for n in (0, 1, 2)] == pytest.approx([0, 1e7, 2.05e7])
    assert [bucket_of(size) for size in (0, 9.9e6, 1.01e7, 2.06e7)] == [0, 0, 1, 2]
    assert start_of(BUCKETS - 1) >= 1e12
    assert all(bucket_of(start_of(n) * 1.0001 + 1) == n for n in range(1, BUCKETS))


def test_a_percentile_is_the_end_of_its_bucket_and_old_days_weigh_less() -> None:
    histogram = Histogram()
    histogram.add(50e9, 0)
    histogram.add(10e9, 7)
    assert 10e9 < histogram.percentile(0.9) < 10e9 * 1.06
    assert histogram.percentile(0.999) > 50e9
    assert Histogram().percentile(0.9) == 0


def test_a_workload_that_uses_little_gets_a_slice_and_its_saving_is_that_of_a_replay() -> None:
    (one,) = of_kind(adviser(fleet(hourly(steady(gibibytes=10)))).advice(), "right-size")
    gibibytes = one.patch["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu-memory"]
    assert 10 < gibibytes < 24.1
    assert one.saving is not None
    assert one.saving.gpu_hours == pytest.approx(14 * DAY * (1 - gibibytes / 80), abs=0.01)
    assert one.saving.freed == pytest.approx(3 * one.saving.gpu_hours, abs=0.01)
    assert one.saving.paid_less == 0


def test_a_whole_gpu_is_no_longer_asked_for() -> None:
    (one,) = of_kind(adviser(fleet(hourly(steady()))).advice(), "right-size")
    limits = one.patch["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] is None


def with_peak(day: int) -> list[Grant]:
    """10 GiB, and 60 GiB in one hour of a day."""
    sizes = [60 if hour == day * DAY else 10 + hour % 3 for hour in range(14 * DAY)]
    return [grant(active=0.1, memory_bytes=size * GIB) for size in sizes]


def gibibytes_of(day: int, *, consent: bool) -> int | None:
    all_ = with_peak(day)
    found = adviser(fleet(hourly(lambda hour: all_[hour])), consent=consent).advice()
    sizes = [one.evidence for one in of_kind(found, "right-size")]
    patches = [one.patch for one in of_kind(found, "right-size")]
    if not sizes:
        return None
    limits = patches[0]["spec"]["containers"][0]["resources"]["limits"]
    return int(limits["nvidia.com/gpu-memory"])


def test_the_last_weeks_peak_holds_without_consent() -> None:
    assert (gibibytes_of(8, consent=False) or 80) >= 60
    assert (gibibytes_of(8, consent=True) or 80) < 20


def test_an_older_peak_is_forgotten_as_the_histogram_forgets() -> None:
    assert (gibibytes_of(2, consent=False) or 80) < 20


@given(st.lists(st.integers(1, 70), min_size=10, max_size=10), st.booleans())
@settings(max_examples=25, deadline=None)
def test_no_size_is_below_the_peak_of_the_last_seven_days(days: list[int], shared: bool) -> None:
    share = 0.9 if shared else 1.0
    make = lambda hour: grant(  # noqa: E731
        active=0.05, share=share, memory_bytes=days[hour // DAY] * GIB - hour
    )
    for one in of_kind(adviser(fleet(hourly(make, days=10))).advice(), "right-size"):
        limits = one.patch["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu-memory"] * GIB >= max(days[3:]) * GIB - 9 * DAY


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (fleet(hourly(lambda hour: grant(memory_bytes=72 * GIB))), "a framework may take it"),
        (fleet(hourly(lambda hour: grant())), "its memory was not measured"),
        (fleet(hourly(steady(), days=3)), "3.0 days of history, 7 are needed"),
        (fleet(hourly(steady(active=None))), "its activity was not measured"),  # type: ignore[arg-type]  # not measured
        (fleet(hourly(steady()), memory_bytes=None), "the memory of its GPUs is not known"),
    ],
    ids=["level", "no-memory", "short", "no-activity", "no-size"],
)
def test_what_cannot_be_known_is_said_and_not_sized(found, says) -> None:  # type: ignore[no-untyped-def]  # table
    advice = adviser(found).advice()
    assert of_kind(advice, "right-size") == []
    assert any(says in one.text for one in of_kind(advice, "unknown"))


def test_activity_keeps_as_much_memory_as_goes_with_it() -> None:
    found = adviser(fleet(hourly(steady(gibibytes=4, active=0.7)))).advice()
    (one,) = of_kind(found, "right-size")
    limits = one.patch["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu-memory"] == math.ceil(0.7 * 80)


def on_instance(profile: str, gibibytes: int, make: Make) -> History:
    """A workload that has a MIG instance of an H100 for two weeks."""
    one = device("MIG-0", parent="GPU-0", profile=profile, memory_bytes=gibibytes * GIB)
    return history(*hourly(make, of="MIG-0"), devices=(device(), one))


@pytest.mark.parametrize(
    ("profile", "gibibytes", "uses", "active", "smaller"),
    [
        ("4g.40gb", 40, 5.0, 0.1, "1g.10gb"),
        ("4g.40gb", 40, 15.0, 0.1, "1g.20gb"),
        ("4g.40gb", 40, 5.0, 0.4, "2g.20gb"),
        ("4g.40gb", 40, 35.0, 0.1, None),
        ("2g.20gb", 20, 5.0, 0.9, None),
        ("1g.10gb", 10, 1.0, 0.1, None),
    ],
)
def test_an_instance_that_is_too_large_is_exchanged_for_the_smallest_that_serves(
    profile: str, gibibytes: int, uses: float, active: float, smaller: str | None
) -> None:
    found = on_instance(profile, gibibytes, steady(gibibytes=uses, active=active))
    advice = of_kind(adviser(found).advice(), "right-size")
    if smaller is None:
        assert advice == []
        return
    limits = advice[0].patch["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {f"nvidia.com/mig-{smaller}": 1, f"nvidia.com/mig-{profile}": None}
    assert advice[0].saving is not None
    assert advice[0].saving.gpu_hours > 0


def test_an_instance_keeps_room_for_the_last_weeks_peak_without_consent() -> None:
    all_ = [
        grant(active=0.05, memory_bytes=(15 if h == 8 * DAY else 4) * GIB - h) for h in range(336)
    ]
    found = on_instance("3g.40gb", 40, lambda hour: all_[hour])
    for consent, name in ((False, "1g.20gb"), (True, "1g.10gb")):
        (one,) = of_kind(adviser(found, consent=consent).advice(), "right-size")
        assert f"nvidia.com/mig-{name}" in str(one.patch)


def test_an_instance_of_a_gpu_that_is_not_in_the_table_is_left_as_it_is() -> None:
    one = device(
        "MIG-0", model="NVIDIA X", parent="GPU-0", profile="4g.40gb", memory_bytes=40 * GIB
    )
    found = history(*hourly(steady(gibibytes=5), of="MIG-0"), devices=(device(), one))
    assert of_kind(adviser(found).advice(), "right-size") == []
