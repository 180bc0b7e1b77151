"""A plugin with a known defect fails the right line, and only that; the complete one fails none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.conformance.runner import Result, run_suite
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.conformance.verdict import Outcome
from tests.conformance.defects import (
    BREAK,
    DEFECTS,
    ELSEWHERE,
    PROCESSES,
    STRETCHED,
    Defect,
    started_as,
)
from tests.conformance.smallplugin import KNOWN, Plugin, running

NAMES = tuple(f"example.com/{kind}" for kind in KNOWN)
FAST: dict[str, Any] = {
    "resources": NAMES,
    "restarts": 3,
    "restart_s": 0.2,
    "rest_s": 1.0,
}
TIMED = {3, 9, 10, 12, 14, 21, 31, 40, 45, 69}


def failing(result: Result) -> set[int]:
    return {v.line.number for v in result.verdicts if v.outcome is Outcome.FAIL}


def settings_of(base: Path, defect: Defect, **changes: Any) -> Settings:
    hooks = {
        "break_command": ("touch", str(base / "broken")),
        "mend_command": ("rm", str(base / "broken")),
    }
    chosen = {
        "lines": frozenset({defect.stage}),
        "slack": defect.slack,
        "timeout_s": defect.timeout_s,
        "call_timeout_s": defect.call_timeout_s,
        "early_s": defect.early_s,
        "settle_s": defect.settle_s,
        "up_s": defect.up_s,
    }
    places = {"kubelet_dir": base / "k", "cdi_dir": base / "cdi"}
    return Settings(**(FAST | places | hooks | chosen | changes))


@pytest.mark.parametrize("name", sorted(DEFECTS.keys() - PROCESSES))
async def test_a_defect_fails_its_line_and_no_other(name: str, short_dir: Path) -> None:
    defect = DEFECTS[name]
    async with running(defect.make, short_dir):
        result = await run_suite(settings_of(short_dir, defect))
    assert_fails(defect, result)


@pytest.mark.parametrize("name", sorted(PROCESSES - ELSEWHERE))
async def test_a_process_with_a_defect_fails_its_line(name: str, short_dir: Path) -> None:
    defect, command = DEFECTS[name], started_as(short_dir / "k", short_dir, name)
    result = await run_suite(settings_of(short_dir, defect, command=command))
    assert_fails(defect, result)


def assert_fails(defect: Defect, result: Result) -> None:
    """Limits that are not stretched may also be missed by a busy machine."""
    may = defect.fails | defect.may | (TIMED if defect.slack < STRETCHED else set())
    assert defect.fails <= failing(result) <= may, seen(result)


def seen(result: Result) -> list[tuple[int, str]]:
    return [(v.line.number, v.seen) for v in result.verdicts if v.outcome is Outcome.FAIL]


@pytest.mark.parametrize(
    ("breaks", "fails"),
    [(NAMES, set()), (NAMES[:1], {37})],
    ids=["all-of-them", "one-of-two"],
)
async def test_a_failure_may_touch_the_resources_that_the_person_names(
    breaks: tuple[str, ...], fails: set[int], short_dir: Path
) -> None:
    defect = Defect(Plugin, fails, BREAK)
    async with running(defect.make, short_dir):
        result = await run_suite(settings_of(short_dir, defect, breaks=breaks))
    assert_fails(defect, result)


async def test_a_device_that_takes_its_own_parts_with_it_touches_no_other(short_dir: Path) -> None:
    """All of the second resource is on the device that fails: the answers have a node in common."""
    async with running(PartsOfTheFailingDevice, short_dir):
        defect = Defect(PartsOfTheFailingDevice, set(), BREAK)
        result = await run_suite(settings_of(short_dir, defect))
    assert_fails(defect, result)


class PartsOfTheFailingDevice(Plugin):
    def broken(self) -> set[str]:
        found = super().broken()
        return set(self.ids()) if found and self.kind == "nic" else found

    def answer(self, ids: Sequence[str]) -> pluginapi.ContainerAllocateResponse:
        answer = super().answer(ids)
        if self.kind == "nic" or self.ids()[1] in ids:
            answer.devices.add(container_path="/dev/gpu1", host_path="/dev/full", permissions="rw")
        return answer
