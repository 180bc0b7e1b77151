"""The part of the daemon that looks ahead: on, off, failing, certain at once, and its alerts."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, field
from structlog.testing import capture_logs

from deviceplugin.config.config import Config
from deviceplugin.config.load import load
from deviceplugin.daemon.maintenance import maintenance_command
from deviceplugin.documents.maintenance import (
    MaintenanceAlert,
    PredictiveMaintenance,
    parse_bound,
)
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.maintenance.service import Around, MaintenancePart, MaintenanceRequest
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from tests.rig import WAIT_S

NOW = 1_700_000_000.0
GPU = DeviceID("GPU-1")
ALERTS = tuple(
    MaintenanceAlert(name=name, condition=condition, severity=severity)  # type: ignore[arg-type]  # a literal
    for name, condition, severity in [
        ("high_failure_risk", "failure_probability > 0.8", "critical"),
        ("maintenance_due", "remaining_life < 30d", "warning"),
        ("relative", "relative_risk >= 5", "warning"),
        ("certain", "certain_findings >= 1", "critical"),
    ]
)
OFF: Mapping[str, Any] = {"predictive_maintenance": PredictiveMaintenance(enabled=False)}
ON: Mapping[str, Any] = {"predictive_maintenance": PredictiveMaintenance(alerts=ALERTS)}


class Settings(Struct, frozen=True):
    """Only sections."""

    sections: Mapping[str, Any] = field(default_factory=dict)


def document(probability: float = 0.02, **more: Any) -> dict[str, Any]:
    gpu = {
        "id": GPU,
        "failure_probability": probability,
        "interval_80": [probability / 2, min(1.0, probability * 2)],
        "relative_to_fleet": None,
        "calibrated": "yes",
        "remaining_life": None,
        **more,
    }
    window = {"start": 7200, "end": 14400, "gpu_hours": 1.5}
    schedule = {"windows": [window]}
    return {"window_days": 91, "gpus": [gpu], "maintenance_schedule": schedule}


class Node:
    """A part whose command prints `text`."""

    def __init__(self, sections: Mapping[str, Any] = ON) -> None:
        self.text = ""
        self.runs = 0
        self.store = InventoryStore(lambda: NOW)
        self.store.set_devices("nvidia", [Device(id=GPU, vendor="nvidia")])
        around = Around(lambda: NOW, self.store.latest)
        self.part = MaintenancePart(Settings(sections), self.look, around)
        self.part.first_s = 0.0

    async def look(self, _: Settings) -> tuple[bytes, int]:
        self.runs += 1
        return self.text.encode(), 1

    def says(self, document: object) -> None:
        self.text = json.dumps(document)

    def fail(self, code: str = "no_spare_rows") -> None:
        fault = Fault(
            device=GPU,
            source="nvidia.memory",
            code=code,
            reason="r",
            action="a",
            kind=FaultClass.WARN,
        )
        self.store.set_faults("nvidia.memory", [fault] if code else [])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MaintenancePart[Settings]]:
        tasks = [asyncio.create_task(_run(once)) for once in self.part.tasks().values()]
        try:
            async with asyncio.timeout(WAIT_S):
                yield self.part
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def series(self) -> dict[str, float]:
        lines = (line for family in self.part.collect() for line in family.lines())
        told = [line.rpartition(" ") for line in lines if line[0] != "#"]
        return {name.removeprefix("deviceplugin_"): float(value) for name, _, value in told}


async def _run(once: Any) -> None:
    await once()


@pytest.fixture
def node() -> Node:
    return Node()


async def test_what_is_foreseen_is_measured(node: Node) -> None:
    node.says(document(relative_to_fleet=1.5))
    async with node.running() as part:
        await part.last.until(lambda found: found is not None)
    assert part.notice == ""
    assert node.series() == {
        "maintenance_failing": 0,
        "maintenance_timestamp_seconds": NOW,
        'failure_probability{calibrated="yes",device="GPU-1",window_days="91"}': 0.02,
        'failure_probability_low{device="GPU-1",window_days="91"}': 0.01,
        'failure_probability_high{device="GPU-1",window_days="91"}': 0.04,
        'failure_relative_risk{device="GPU-1"}': 1.5,
        "maintenance_window_start_seconds": 7200,
        "maintenance_window_gpu_hours": 1.5,
    }
    answer = await part._answer(MaintenanceRequest(operation="maintenance"))
    assert answer == {"document": part.last.value, "made_at": NOW}


@pytest.mark.parametrize(
    ("found", "alert"),
    [
        (document(0.9), "high_failure_risk"),
        (document(remaining_life={"low_days": 29.0, "high_days": None}), "maintenance_due"),
        (document(relative_to_fleet=5.0), "relative"),
    ],
    ids=["probability", "life", "relative"],
)
async def test_an_alert_fires_while_its_bound_holds(
    node: Node, found: dict[str, Any], alert: str
) -> None:
    with capture_logs() as logs:
        node.says(found)
        await node.part._look()
        node.says(document())
        await node.part._look()
    told = [(one["event"], one["alert"], one["device"]) for one in logs]
    assert told == [("maintenance_alert", alert, GPU), ("maintenance_alert_ended", alert, GPU)]


async def test_a_certain_finding_fires_at_once_and_ends_with_its_fault(node: Node) -> None:
    node.part.first_s = 1000.0  # no look ahead is needed
    with capture_logs() as logs:
        async with node.running() as part:
            node.fail()
            await part.firing.until(bool)
            assert part.certain == {GPU: ("bank_without_spares",)}
            assert part.notice.startswith("certain: bank_without_spares of GPU-1, certain of GPU-1")
            assert node.series()['certain_finding{device="GPU-1",finding="bank_without_spares"}']
            labels = 'alert="certain",device="GPU-1",severity="critical"'
            assert node.series()[f"maintenance_alert{{{labels}}}"] == 1
            node.fail("")
            await part.firing.until(lambda firing: not firing)
    assert [one["event"] for one in logs] == [
        "certain_finding",
        "maintenance_alert",
        "maintenance_alert_ended",
    ]
    assert (part.notice, node.runs) == ("", 0)


async def test_only_predictions_that_are_asked_for_are_measured() -> None:
    section = PredictiveMaintenance(predictions=("remaining_life",))
    node = Node({"predictive_maintenance": section})
    node.says(document(remaining_life={"low_days": 2.0, "high_days": None}))
    await node.part._look()
    assert node.series() == {
        "maintenance_failing": 0,
        "maintenance_timestamp_seconds": NOW,
        'remaining_life_low_seconds{device="GPU-1"}': 2 * 86_400,
    }


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"gpus": [{"id": 5}]}', '{"gpus": [{"id": "a"}]}', "[" * 100_000],
    ids=["nothing", "a list", "an id that is none", "a GPU without figures", "a deep one"],
)
async def test_an_answer_that_is_none_is_told(node: Node, text: str) -> None:
    node.text = text
    await node.part._look()
    expected = "what may fail could not be found out: the command ended with 1 and no document"
    assert node.part.notice == expected
    assert node.series() == {"maintenance_failing": 1}
    node.says(document())
    await node.part._look()
    assert node.part.notice == ""


async def test_a_command_that_cannot_be_run_is_told_once_and_what_was_found_stays() -> None:
    async def look(_: Settings) -> tuple[bytes, int]:
        raise DevicePluginError("no answer within 300 s")

    node = Node()
    around = Around(lambda: NOW, node.store.latest)
    part: MaintenancePart[Settings] = MaintenancePart(Settings(ON), look, around)
    with capture_logs() as logs:
        await part._look()
        await part._look()
    assert part.notice == "what may fail could not be found out: no answer within 300 s"
    assert [one["event"] for one in logs] == ["maintenance_not_foreseen"]


@pytest.mark.parametrize("sections", [{}, OFF], ids=["no section", "false"])
async def test_off_it_runs_nothing_until_a_reload_asks_for_it(sections: Mapping[str, Any]) -> None:
    node = Node(sections)
    node.says(document())
    node.fail()
    async with node.running() as part:
        await asyncio.sleep(0)
        assert (node.runs, node.series(), part.notice) == (0, {}, "")
        await part.use(Settings(ON))
        assert part.firing.value
        await part.last.until(lambda found: found is not None)
        await part.use(Settings(sections))
        assert (part.notice, node.series()) == ("", {})


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("failure_probability > 0.8", 0.81, True),
        ("failure_probability > 80%", 0.8, False),
        ("failure_probability >= 0.8", 0.8, True),
        ("remaining_life < 30d", 29.9, True),
        ("remaining_life <= 720h", 30.0, True),
        ("remaining_life<1y", 400.0, False),
        ("relative_risk >= 5", 5.0, True),
        ("certain_findings > 0", 0.0, False),
        ("failure_probability > 0.8", None, False),
    ],
)
def test_a_bound_holds_beyond_its_limit(text: str, value: float | None, holds: bool) -> None:
    assert parse_bound(text).holds(value) is holds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("failure_probability", "one bound such as failure_probability > 0.8"),
        ("temperature > 80", "one bound such as"),
        ("failure_probability < 0.8", "failure_probability > 0.8"),
        ("remaining_life < 30", "remaining_life with d or h or y"),
        ("remaining_life < 30%", "remaining_life with d or h or y"),
        ("failure_probability > 80", "a probability up to 1 or 100%"),
        ("relative_risk >= 5d", "relative_risk with no unit"),
    ],
)
def test_a_bound_that_is_none_is_refused_with_what_to_write(
    tmp_path: Path, text: str, told: str
) -> None:
    alerts = f"  alerts:\n  - {{name: a, condition: '{text}'}}\n"
    with pytest.raises(ConfigError, match="condition") as caught:
        loaded(tmp_path, alerts)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("  interval: 59s\n", "interval"),
        ("  window: 12h\n", "whole days"),
        ("  predictions: [lottery]\n", "predictions"),
        ("  signs: /etc/deviceplugin/signs.csv\n", "none without fleet"),
        ("  fleet: /etc/shadow\n", "/etc/deviceplugin"),
        ("  alerts: [{name: a, condition: relative_risk > 1}]\n" * 1, ""),
        (
            "  alerts:\n" + "  - {name: a, condition: relative_risk > 1}\n" * 2,
            "a name of its own",
        ),
    ],
    ids=["interval", "window", "prediction", "signs alone", "foreign file", "right", "twice"],
)
def test_a_section_that_is_wrong_is_refused(tmp_path: Path, text: str, told: str) -> None:
    if not told:
        loaded(tmp_path, text)
        return
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert told in str(caught.value)


def loaded(folder: Path, text: str) -> Config:
    path = folder / "a.yaml"
    path.write_text(f"predictive_maintenance:\n  enabled: true\n{text}")
    return load({"config": str(path), "node_name": "n"})[0]


def test_the_command_has_the_sections_files(tmp_path: Path) -> None:
    config = loaded(tmp_path, "  fleet: /etc/deviceplugin/fleet.csv\n  window: 30d\n")
    command = maintenance_command(config)
    assert command[1:7] == (*("-P", "-m", "deviceplugin", "maintenance", "show"), "--format=json")
    assert command[7:] == (
        f"--state-dir={config.state_dir}",
        "--fleet=/etc/deviceplugin/fleet.csv",
        "--days=30",
    )
