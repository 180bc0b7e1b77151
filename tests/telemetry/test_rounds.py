"""Rounds of samples, with vendors that behave and misbehave."""

from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.errors import LibraryError
from deviceplugin.model import ContainerEdits, Device, DeviceID, Discovery
from deviceplugin.telemetry.counts import SampleCounts
from deviceplugin.telemetry.model import TelemetryView
from deviceplugin.telemetry.sampler import Sampler, grouped, sampled
from deviceplugin.telemetry.state import Answer, next_view
from deviceplugin.vendor import Measured, Sample

A, B = (Device(id=DeviceID(name), vendor="acme") for name in "ab")
PART = Device(id=DeviceID("a-1"), vendor="acme", parent=A.id)
DEVICES = {device.id: device for device in (PART, B, A)}
GOOD = (Measured(metric="power_watts", device=A.id, value=5.0),)


class Acme:
    """A vendor whose sample is the function of a test."""

    name = "acme"

    def __init__(self, sample: Callable[[Sequence[Device]], Any]) -> None:
        self.sample = sample

    def discover(self) -> Discovery:
        return Discovery()

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        return ContainerEdits()


def test_a_gpu_is_asked_with_its_partitions() -> None:
    assert grouped([PART, B, A]) == [(A, PART), (B,)]
    assert grouped([PART]) == [(PART,)]


async def answers_of(sample: Callable[[Sequence[Device]], Any], deadline_s: float = 60.0) -> Any:
    sampler = Sampler(Acme(sample), SampleCounts(), deadline_s)
    try:
        return await sampled([sampler], DEVICES)
    finally:
        sampler.close()


async def test_one_gpu_that_fails_costs_itself() -> None:
    def sample(devices: Sequence[Device]) -> Sample:
        if devices[0] is B:
            raise LibraryError("nvmlX", 15, "lost")
        return Sample(measured=GOOD, lost=(PART.id,))

    found = await answers_of(sample)
    assert found[A.id] == Answer(up=True, measured=GOOD)
    assert (found[PART.id].up, found[B.id].up) == (False, False)


async def test_one_gpu_that_hangs_costs_those_behind_it_the_round() -> None:
    end = Event()

    def sample(devices: Sequence[Device]) -> Sample:
        end.wait()
        return Sample()

    found = await answers_of(sample, deadline_s=0.05)
    end.set()
    assert found == {i: Answer(up=False, hangs=True) for i in (A.id, PART.id)}


@pytest.mark.parametrize(
    "measured",
    [
        Measured(metric="power", device=A.id, value=1.0),
        Measured(metric="power_watts", device=A.id, value=1.0, labels=(("sensor", "x"),)),
        Measured(metric="power_watts", device=A.id, value=float("nan")),
        Measured(metric="power_watts", device=B.id, value=1.0),
        Measured(metric="clock_hertz", device=A.id, value=1.0, labels=(("clock", "x" * 99),)),
    ],
    ids=["unknown", "label", "nan", "foreign", "long"],
)
async def test_what_is_no_value_of_the_device_is_left_out(measured: Measured) -> None:
    found = await answers_of(lambda devices: Sample(measured=(measured,)))
    assert found[A.id].measured == ()


async def test_no_sample_is_a_failure() -> None:
    assert (await answers_of(lambda devices: None))[A.id] == Answer(up=False)


def view_after(*rounds: tuple[dict[DeviceID, Answer], float]) -> TelemetryView:
    view = TelemetryView(interval_s=10.0)
    for answers, now in rounds:
        view = next_view(view, {A.id: A}, answers, now)
    return view


ANSWER = {A.id: Answer(up=True, measured=GOOD)}


def test_a_silent_gpu_keeps_its_readings_for_three_rounds() -> None:
    silent = {A.id: Answer(up=False, hangs=True)}
    after = view_after((ANSWER, 0.0), (silent, 30.0)).devices[A.id]
    assert (after.up, after.seen_at, after.value("power_watts")) == (False, 0.0, 5.0)
    later = view_after((ANSWER, 0.0), (silent, 31.0)).devices[A.id]
    assert later.readings == ()


def test_a_gpu_behind_one_that_hangs_is_up_until_it_is_stale() -> None:
    assert view_after((ANSWER, 0.0), ({}, 10.0)).devices[A.id].up
    assert not view_after((ANSWER, 0.0), ({}, 31.0)).devices[A.id].up


def test_a_lost_gpu_has_no_readings_and_keeps_when_it_was_seen() -> None:
    lost = view_after((ANSWER, 0.0), ({A.id: Answer(up=False)}, 10.0)).devices[A.id]
    assert (lost.up, lost.readings, lost.seen_at) == (False, (), 0.0)


def test_a_gpu_that_is_gone_stays_and_its_partition_does_not() -> None:
    answers = {**ANSWER, PART.id: Answer(up=True)}
    before = next_view(TelemetryView(interval_s=10.0), DEVICES, answers, 0.0)
    after = next_view(before, {B.id: B}, {}, 10.0)
    assert set(after.devices) == {A.id, B.id}
    assert not after.devices[A.id].up


def test_gpus_that_are_gone_are_bounded() -> None:
    view = TelemetryView(interval_s=10.0)
    for n in range(200):
        device = replace(A, id=DeviceID(f"gpu-{n}"))
        view = next_view(view, {device.id: device}, {device.id: Answer(up=True)}, float(n))
    assert len(view.devices) == 65
