"""Divisions that come to nothing: each device that makes no slice is named."""

from typing import Any

import pytest

from deviceplugin.model import DeviceID
from deviceplugin.resources.plan import Plan
from deviceplugin.resources.report import report
from tests.resources.builders import GIB, gpu, instance, inventory, sharing

SLICES = {"memory": {"unit": "1GiB"}}


def plan(*devices: Any, offers: list[dict[str, Any]]) -> Plan:
    return sharing({"offers": offers}).plan(inventory(*devices))


def sizes(made: Plan) -> dict[str, int]:
    return {name: len(resource.devices) for name, resource in made.resources.items()}


@pytest.mark.parametrize(
    ("device", "memory", "told"),
    [
        (gpu(0, memory_bytes=None), {"unit": "1GiB"}, "of 1GiB: its memory is unknown"),
        (gpu(0, memory_bytes=0), {"unit": "1GiB"}, "of 1GiB: it has 0 GiB"),
        (gpu(0, gib=0.5), {"unit": "1GiB"}, "of 1GiB: it has 0.5 GiB"),
        (gpu(0, gib=24), {"unit": "32GiB"}, "of 32GiB: it has 24 GiB"),
        (
            gpu(0, gib=2),
            {"unit": "1GiB", "reserve": "1536MiB"},
            "of 1GiB: it has 2 GiB, of which 1536MiB are reserved",
        ),
        (
            gpu(0, gib=2),
            {"unit": "1GiB", "reserve": "4GiB"},
            "of 1GiB: it has 2 GiB, of which 4GiB are reserved",
        ),
    ],
    ids=["unknown", "none", "a carve-out", "the unit is larger", "a reserve", "all reserved"],
)
def test_a_device_that_makes_no_slice_is_named_with_the_reason(
    device: Any, memory: dict[str, str], told: str
) -> None:
    made = plan(device, offers=[{"memory": memory}])
    assert sizes(made) == {}
    (problem,) = made.problems
    assert problem.reason == f"GPU {device.id} (0000:01:00.0) makes no slice {told}"
    assert "rule of its own" in problem.action


def test_each_has_one_line_and_the_others_are_divided() -> None:
    made = plan(gpu(0), gpu(1, memory_bytes=None), gpu(2, gib=0.25), offers=[SLICES])
    assert sizes(made) == {"nvidia.com/gpu-memory": 80}
    assert [problem.reason.split()[1][:12] for problem in made.problems] == [
        "GPU-00000001",
        "GPU-00000002",
    ]


def test_its_other_forms_are_offered() -> None:
    made = plan(gpu(0, memory_bytes=None), offers=[{"whole": True}, SLICES])
    assert sizes(made) == {"nvidia.com/gpu": 1}
    assert len(made.problems) == 1
    assert made.choices == {}  # one form is no choice


def test_a_partition_is_named_by_its_own_id() -> None:
    part = instance(gpu(0), 3, memory_bytes=GIB // 2)
    made = sharing({"match": {"profile": "*"}, "offers": [SLICES]}).plan(inventory(gpu(0), part))
    (problem,) = made.problems
    assert part.id in problem.reason


def test_a_device_known_by_its_address_is_named_once() -> None:
    made = plan(gpu(0, id=DeviceID("0000:01:00.0"), memory_bytes=None), offers=[SLICES])
    assert made.problems[0].reason.startswith("GPU 0000:01:00.0 makes no slice")


def test_discover_shows_it() -> None:
    device = gpu(0, memory_bytes=None)
    shown = report("node", inventory(device), plan(device, offers=[SLICES]))
    (problem,) = shown["problems"]
    assert problem["resource"] == "nvidia.com/gpu-memory"
    assert "its memory is unknown" in problem["reason"]
