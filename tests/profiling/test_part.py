"""Profiling as a part: follows telemetry, writes, answers, and costs nothing while it is off."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from structlog.testing import capture_logs

from deviceplugin.cli.profile import profile_text
from deviceplugin.config.load import load
from deviceplugin.documents.profiling import Profiling, ProfilingOutput
from deviceplugin.errors import ConfigError
from deviceplugin.profiling.service import ProfileRequest, ProfilingPart
from deviceplugin.runtime.control import ControlError
from deviceplugin.runtime.latest import Latest
from deviceplugin.telemetry.model import TelemetryView
from deviceplugin.telemetry.section import TelemetrySection
from tests.profiling.test_window import TRAIN, seen

MEASURED = {"telemetry": TelemetrySection(enabled=True)}
ON = {**MEASURED, "profiling": Profiling()}


class Config(Struct, frozen=True):
    sections: Mapping[str, Any]
    state_dir: Path


class Rig:
    def __init__(self, folder: Path, sections: Mapping[str, Any]) -> None:
        self.folder, self.now = folder, 1_800_000_000.0
        self.view = Latest[TelemetryView | None](None)
        self.part = ProfilingPart(Config(sections, folder), self.view, lambda: self.now)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.part._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def measured(self, load: float) -> None:
        """A round of telemetry, until it is written or has failed."""
        self.now += 10
        before = self.lines()
        failing = self.part.failing
        self.view.set(seen(load, TRAIN))
        async with asyncio.timeout(30):
            while self.lines() == before and self.part.failing == failing:  # noqa: ASYNC110  # files
                await asyncio.sleep(0.01)

    def lines(self) -> list[dict[str, Any]]:
        files = sorted(self.folder.glob("profiling/*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    async def ask(self, pod: str, seconds: str = "30") -> dict[str, Any]:
        operation = self.part.operations()["profile"]
        request = ProfileRequest(operation="profile", pod=pod, seconds=seconds)
        return await operation.answer(request)

    def metrics(self) -> list[str]:
        return [line for family in self.part.collect() for line in family.lines()]


async def test_every_round_is_a_line_and_answers_about_its_pod(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ON)
    async with rig.running():
        for load in (0.2, 0.4, 0.6):
            await rig.measured(load)
        assert [line["compute_utilization"] for line in rig.lines()] == [0.2, 0.4, 0.6]
        document = await rig.ask("team/train")
    assert document["containers"][0]["metrics"]["compute_utilization"]["mean"] == pytest.approx(0.4)
    text = profile_text(document)
    assert "40% (20% to 60%)" in text
    assert "12.00 s" in text
    assert "memory_transfer_time: no counter of this vendor" in text
    assert rig.part.remark() == ""


@pytest.mark.parametrize(
    ("pod", "seconds", "text"),
    [
        ("nobody", "30", "pod nobody held no GPU in the last 10 s"),
        ("train", "0", "--seconds: 1 to 300"),
        ("train", "301", "--seconds: 1 to 300"),
    ],
)
async def test_what_cannot_be_answered_is_said(
    tmp_path: Path, pod: str, seconds: str, text: str
) -> None:
    rig = Rig(tmp_path, ON)
    async with rig.running():
        await rig.measured(0.2)
        with pytest.raises(ControlError, match=text):
            await rig.ask(pod, seconds)


async def test_off_nothing_is_kept_written_or_shown(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MEASURED)
    async with rig.running():
        rig.view.set(seen(0.5, TRAIN))
        await asyncio.sleep(0)
        with pytest.raises(ControlError, match="profiling is off"):
            await rig.ask("train")
        assert (rig.metrics(), rig.lines()) == ([], [])
        await rig.part.use(Config(ON, tmp_path))
        await rig.measured(0.7)
        assert len(rig.lines()) >= 1
        assert "deviceplugin_profiling_failing 0.0" in rig.metrics()


async def test_what_cannot_be_written_is_told_once_and_nothing_else_stops(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ON)
    (tmp_path / "profiling").write_text("a file")
    with capture_logs() as logs:
        async with rig.running():
            await rig.measured(0.2)
            rig.view.set(seen(0.3, TRAIN))
            await asyncio.sleep(0)
            assert "profiles are not written" in rig.part.remark()
            assert "deviceplugin_profiling_failing 1.0" in rig.metrics()
            assert (await rig.ask("train"))["rounds"] >= 1
            (tmp_path / "profiling").unlink()
            await rig.measured(0.4)
            assert rig.part.remark() == ""
    assert [one["event"] for one in logs] == ["profile_not_written"]


def test_without_telemetry_it_says_that_nothing_is_measured(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {"profiling": Profiling()})
    assert "nothing is measured (telemetry.enabled)" in rig.part.remark()


def loaded(path: Path, text: str) -> Mapping[str, Any]:
    (path / "config.yaml").write_text(text)
    return load({"config": str(path / "config.yaml")})[0].sections


def test_the_section_switches_telemetry_on_where_it_is_not_given(tmp_path: Path) -> None:
    assert loaded(tmp_path, "profiling: {}")["telemetry"].enabled
    off = "profiling: {}\ntelemetry: {enabled: false}"
    assert not loaded(tmp_path, off)["telemetry"].enabled


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{output: {location: /etc}}", "a path below /var/lib/deviceplugin"),
        ("{output: {location: /dev/shm/x}}", "not below /dev"),
        ("{output: {retention: 1m}}", "a time from 1h to 1y"),
        ("{output: {format: csv}}", "json"),
        ("{metrics: [flops]}", "kernel_execution_time"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        loaded(tmp_path, f"profiling: {text}")


def test_the_location_of_the_reference_is_taken(tmp_path: Path) -> None:
    found = loaded(tmp_path, "profiling: {output: {location: /tmp/profiling, retention: 7d}}")
    assert found["profiling"].output == ProfilingOutput(location="/tmp/profiling", retention="7d")
