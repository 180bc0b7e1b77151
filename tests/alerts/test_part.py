"""Alerts in a daemon's loop: told in the log, on /metrics, and by the part's remark."""

import asyncio
from types import MappingProxyType
from typing import Any

import structlog
from msgspec import Struct
from structlog.testing import capture_logs

from deviceplugin.alerts.section import AlertSection, MonitoringSection
from deviceplugin.alerts.service import AlertsPart, Watched
from deviceplugin.health.report import Listed
from deviceplugin.metrics.registry import Registry
from deviceplugin.metrics.section import MetricsSection
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Resource,
    ResourceName,
    Share,
)
from deviceplugin.telemetry.model import TelemetryView
from tests.alerts.test_judge import look
from tests.rig import WAIT_S

SLICES = ResourceName("nvidia.com/gpu-memory")
GIB = 1 << 30


class OfNode(Struct):
    sections: dict[str, Any]


class Node:
    """What alerts are about, as a test sets it."""

    def __init__(self, *alerts: AlertSection, pods: bool = False) -> None:
        self.view: TelemetryView | None = None
        self.now = 0.0
        self.held: list[tuple[tuple[str, str, str], ResourceName, DeviceID]] = []
        self.listed: Listed = {}
        sections = {
            "monitoring": MonitoringSection(enabled=True, alerts=alerts),
            "metrics": MetricsSection(pods=pods),
        }
        watched = Watched(
            now=lambda: self.now,
            view=lambda: self.view,
            held=lambda: self.held,
            listed=lambda: self.listed,
        )
        self.part = AlertsPart(OfNode(sections), watched)
        self.part.look_s = 0.001

    def series(self) -> set[str]:
        registry = Registry()
        registry.register_all(self.part.collectors())
        return {line for line in registry.text().splitlines() if not line.startswith("#")}


HOT = AlertSection(name="hot", condition="temperature > 85°C", severity="critical")


async def test_an_alert_is_told_once_when_it_fires_and_when_it_ends() -> None:
    structlog.reset_defaults()
    node = Node(HOT)
    node.view = look(A=86.0, B=20.0)
    with capture_logs() as lines:
        task = asyncio.ensure_future(node.part.tasks()["alerts"]())
        async with asyncio.timeout(WAIT_S):
            while not node.part.states:  # noqa: ASYNC110
                await asyncio.sleep(0)
            fired = node.series()
            node.view = look(A=20.0, B=20.0)
            while node.part.states:  # noqa: ASYNC110
                await asyncio.sleep(0)
        task.cancel()
    wanted = 'deviceplugin_alert_firing{alert="hot",device="A",severity="critical"} 1.0'
    assert wanted in fired
    assert not any(line.startswith("deviceplugin_alert_firing{") for line in node.series())
    told = [(line["event"], line["log_level"], line["device"], line["value"]) for line in lines]
    assert told == [
        ("alert_firing", "error", "A", "86°C"),
        ("alert_resolved", "info", "A", "86°C"),
    ]


async def test_another_section_ends_the_alerts_of_the_last_one() -> None:
    node = Node(HOT)
    node.view = look(A=86.0)
    task = asyncio.ensure_future(node.part.tasks()["alerts"]())
    async with asyncio.timeout(WAIT_S):
        while not node.part.states:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await node.part.use(OfNode({}))
        while node.part.states:  # noqa: ASYNC110
            await asyncio.sleep(0)
    task.cancel()
    assert node.series() == {'deviceplugin_collector_success{collector="alerts"} 1.0'}


def test_alerts_without_measurements_are_remarked_on() -> None:
    node = Node(HOT)
    assert "telemetry.enabled" in node.part.remark()
    node.view = look()
    assert node.part.remark() == ""
    assert Node().part.remark() == ""


def _sliced(*devices: str) -> Listed:
    share = Share(count=2, unit_bytes=GIB)
    entries = tuple(
        AdvertisedDevice(
            id=AdvertisedID(f"{device}::{number}"),
            device=DeviceID(device),
            health=Health.HEALTHY,
            replica=number,
            share=share,
        )
        for device in devices
        for number in range(2)
    )
    return MappingProxyType({SLICES: Resource(name=SLICES, vendor="nvidia", devices=entries)})


def test_what_is_granted_is_counted_by_device_and_by_container() -> None:
    node = Node(pods=True)
    node.listed = _sliced("A", "B")
    node.held = [
        (("team", "one", "main"), SLICES, DeviceID("A")),
        (("team", "one", "main"), SLICES, DeviceID("A")),
        (("team", "two", "main"), SLICES, DeviceID("A")),
    ]
    one = 'container="main",device="A",namespace="team",pod="one"'
    assert node.series() >= {
        'deviceplugin_device_holders{device="A"} 2.0',
        'deviceplugin_device_holders{device="B"} 0.0',
        'deviceplugin_device_shares{device="A"} 2.0',
        f'deviceplugin_device_granted_bytes{{device="A"}} {3.0 * GIB!r}',
        f"deviceplugin_container_granted_bytes{{{one}}} {2.0 * GIB!r}",
    }


def test_containers_are_not_named_without_leave() -> None:
    node = Node()
    node.listed = _sliced("A")
    node.held = [(("team", "one", "main"), SLICES, DeviceID("A"))]
    assert not any("team" in line for line in node.series())
