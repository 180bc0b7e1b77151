"""The last minutes, by pod."""

import pytest
from msgspec.structs import replace

from deviceplugin.model import DeviceID, ResourceName
from deviceplugin.profiling.window import KEPT_S, Ring, lines_of, profile_of
from deviceplugin.telemetry.model import DeviceView, Owner, TelemetryView
from tests.profiling.test_figures import H200, view

TRAIN = Owner(namespace="team", pod="train", container="main")
OTHER = Owner(namespace="team", pod="other", container="main")
GPU = ResourceName("nvidia.com/gpu")


def seen(load: float, *owners: Owner) -> TelemetryView:
    one: DeviceView = view("nvidia", H200, {"compute": load, "dram": load / 2})
    holders = tuple((owner, GPU) for owner in owners)
    shares = tuple((owner, 1.0 / len(owners)) for owner in owners)
    one = replace(one, holders=holders, shares=shares)
    return TelemetryView(interval_s=10.0, devices={DeviceID("GPU-0"): one})


def ring(*views: TelemetryView) -> Ring:
    made = Ring()
    for number, one in enumerate(views):
        made.add(one, 1000.0 + 10 * number)
    return made


def test_a_pod_s_profile_has_each_container_and_gpu() -> None:
    made = ring(seen(0.2), seen(0.4, TRAIN), seen(0.8, TRAIN))
    document = profile_of(made.last(30), "train", ())
    assert (document["rounds"], document["window_s"]) == (3, 30.0)
    (one,) = document["containers"]
    assert {name: one[name] for name in ("container", "device", "resource", "share")} == {
        "container": "main",
        "device": "GPU-0",
        "resource": GPU,
        "share": 1.0,
    }
    assert (one["window_s"], one["shared_with"]) == (20.0, 0)
    metrics = one["metrics"]
    assert metrics["kernel_execution_time"] == {
        "unit": "seconds",
        "samples": 2,
        "total": pytest.approx(12.0),
    }
    assert metrics["compute_utilization"] == {
        "unit": "ratio",
        "samples": 2,
        "mean": pytest.approx(0.6),
        "low": 0.4,
        "high": 0.8,
    }
    assert metrics["memory_transfer_time"]["value"] is None
    assert "no counter" in metrics["memory_transfer_time"]["reason"]


def test_a_gpu_that_is_shared_says_so() -> None:
    (one,) = profile_of(ring(seen(0.5, TRAIN, OTHER)).last(30), "team/train", ())["containers"]
    assert (one["shared_with"], one["share"]) == (1, 0.5)


def test_only_the_seconds_that_are_asked_for_count() -> None:
    made = ring(*(seen(load, TRAIN) for load in (0.1, 0.2, 0.3, 0.4)))
    (one,) = profile_of(made.last(20), "train", ["compute_utilization"])["containers"]
    assert list(one["metrics"]) == ["compute_utilization"]
    assert one["metrics"]["compute_utilization"]["low"] == 0.3


def test_other_pods_are_not_in_it() -> None:
    assert profile_of(ring(seen(0.5, OTHER)).last(30), "train", ())["containers"] == []
    assert profile_of(ring(seen(0.5, TRAIN)).last(30), "else/train", ())["containers"] == []
    assert profile_of(Ring().last(30), "train", ())["containers"] == []


def test_minutes_are_kept_and_no_more() -> None:
    made = Ring()
    for number in range(100):
        made.add(seen(0.5, TRAIN), 1000.0 + 10 * number)
    assert len(made.last(1e6)) == KEPT_S / 10 + 1


def test_a_pause_of_measuring_is_no_time_of_work() -> None:
    made = Ring()
    made.add(seen(1.0, TRAIN), 1000.0)
    assert made.add(seen(1.0, TRAIN), 5000.0).window_s == 20.0


def test_a_line_has_what_is_unknown_with_its_reason_and_pods_where_they_are_shown() -> None:
    one = Ring().add(seen(0.5, TRAIN), 1000.0)
    (line,) = lines_of(one, (), pods=False)
    assert line["compute_utilization"] == 0.5
    assert line["memory_transfer_time"] is None
    assert list(line["unknown"]) == ["memory_transfer_time"]
    assert "held_by" not in line
    (line,) = lines_of(one, ["compute_utilization"], pods=True)
    assert line["held_by"] == ["team/train/main"]
    assert "unknown" not in line
