"""Alerts over time: pending, firing, resolved."""

from types import MappingProxyType

from deviceplugin.alerts.judge import States, alerts_of, changes, judged
from deviceplugin.alerts.section import AlertSection
from deviceplugin.model import Device, DeviceID
from deviceplugin.telemetry.model import DeviceView, Reading, TelemetryView

HOT = alerts_of(
    [
        AlertSection(name="hot", condition="temperature > 85°C", duration="1m"),
        AlertSection(name="frames", condition="throughput < 1000fps"),
    ]
)
A, B = DeviceID("A"), DeviceID("B")


def look(*, up: bool = True, **celsius: float | None) -> TelemetryView:
    views = {}
    for name, value in celsius.items():
        device = Device(id=DeviceID(name), vendor="nvidia")
        labels = (("sensor", "gpu"),)
        reading = (
            ()
            if value is None
            else (
                Reading(
                    metric="temperature_celsius",
                    device=device.id,
                    value=value,
                    at=0.0,
                    labels=labels,
                ),
            )
        )
        views[device.id] = DeviceView(device=device, up=up, readings=reading)
    return TelemetryView(interval_s=1.0, devices=MappingProxyType(views))


def run(*looks: tuple[float, TelemetryView]) -> tuple[States, list[tuple[str, str]]]:
    states: States = {}
    events = []
    for now, view in looks:
        following = judged(states, HOT, view, now)
        events += [(event, str(one.device)) for event, one in changes(states, following)]
        states = following
    return states, events


def test_an_alert_fires_when_it_has_held_for_so_long() -> None:
    states, events = run((0, look(A=86.0, B=84.0)), (59, look(A=90.0, B=84.0)))
    assert events == []
    assert [(one.firing, one.since, one.value) for one in states.values()] == [(False, 0, 90.0)]
    assert run((0, look(A=86.0)), (60, look(A=86.0)))[1] == [("alert_firing", "A")]


def test_an_interruption_begins_it_anew() -> None:
    assert run((0, look(A=86.0)), (50, look(A=80.0)), (60, look(A=86.0)))[1] == []


def test_a_firing_alert_is_told_once_and_its_end_too() -> None:
    hot = look(A=86.0)
    _, events = run((0, hot), (60, hot), (70, hot), (80, look(A=20.0)), (90, look(A=20.0)))
    assert events == [("alert_firing", "A"), ("alert_resolved", "A")]


def test_a_value_that_is_not_told_or_a_lost_device_ends_it() -> None:
    for end in (look(A=None), look(up=False, A=99.0), look()):
        assert run((0, look(A=86.0)), (60, look(A=86.0)), (70, end))[1][-1] == (
            "alert_resolved",
            "A",
        )


def test_a_clock_that_was_set_back_begins_it_anew() -> None:
    states, _ = run((100, look(A=86.0)), (10, look(A=86.0)))
    assert [one.since for one in states.values()] == [10]


def test_what_nobody_can_judge_is_no_alert() -> None:
    assert [alert.name for alert in HOT] == ["hot"]
