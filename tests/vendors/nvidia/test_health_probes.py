"""What NVML's counters and states say of a GPU, and what is made of answers that fail."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from deviceplugin.errors import LibraryError
from deviceplugin.model import FaultClass
from deviceplugin.vendors.nvidia.probes import Probes
from tests.fakes.nvml import Gpu, a100_40gb
from tests.fakes.nvml.model import EccCounter, RemappedRows, RowHistogram, SramErrors
from tests.vendors.nvidia.health_machine import Machine

Found = set[tuple[str, str, FaultClass]]


def found(machine: Machine, index: int = 0) -> Found:
    device = [d for d in machine.devices() if d.parent is None][index]
    faults = machine.vendor.probe_health(device).faults
    assert all(f.reason and f.action and f.device == device.id for f in faults)
    return {(f.source, f.code, f.kind) for f in faults}


def ecc(count: int) -> tuple[EccCounter, ...]:
    return (EccCounter(type=1, counter=0, value=count),)


CASES: dict[str, tuple[Callable[[Gpu], Gpu], Found]] = {
    "well": (lambda gpu: gpu, set()),
    "remap_failure": (
        lambda gpu: replace(gpu, remapped=RemappedRows(failure=True)),
        {("nvidia.memory", "remap_failure", FaultClass.HARDWARE)},
    ),
    "remap_pending": (
        lambda gpu: replace(gpu, remapped=RemappedRows(pending=True)),
        {("nvidia.memory", "remap_pending", FaultClass.WARN)},
    ),
    "no_spares": (
        lambda gpu: replace(gpu, histogram=RowHistogram(max=630, none=2)),
        {("nvidia.memory", "no_spare_rows", FaultClass.WARN)},
    ),
    "sram": (
        lambda gpu: replace(gpu, sram=SramErrors(threshold_exceeded=True)),
        {("nvidia.memory", "sram_threshold", FaultClass.HARDWARE)},
    ),
    "ecc": (
        lambda gpu: replace(gpu, ecc=ecc(3)),
        {("nvidia.ecc", "uncorrected", FaultClass.WARN)},
    ),
    "ecc_volta": (
        lambda gpu: replace(gpu, architecture=5, ecc=ecc(1)),
        {("nvidia.ecc", "uncorrected", FaultClass.RESET)},
    ),
    "retired_volta": (
        lambda gpu: replace(gpu, architecture=5, retired_single=40, retired_double=23),
        {("nvidia.memory", "retired_pages", FaultClass.HARDWARE)},
    ),
    "retirement_pending": (
        lambda gpu: replace(gpu, architecture=5, retired_pending=1),
        {("nvidia.memory", "retirement_pending", FaultClass.WARN)},
    ),
    "verdict_reset": (
        lambda gpu: replace(gpu, recovery_action=1),
        {("nvidia.recovery", "gpu_reset", FaultClass.RESET)},
    ),
    "verdict_reboot": (
        lambda gpu: replace(gpu, recovery_action=2),
        {("nvidia.recovery", "node_reboot", FaultClass.REBOOT)},
    ),
    "verdict_unknown": (
        lambda gpu: replace(gpu, recovery_action=42),
        {("nvidia.recovery", "action_42", FaultClass.RESET)},
    ),
    "nothing_known": (
        lambda gpu: replace(
            gpu,
            remapped=None,
            histogram=None,
            sram=None,
            ecc=(),
            recovery_action=None,
            energy_mj=None,
            clocks_event_reasons=None,
        ),
        set(),
    ),
}


@pytest.mark.parametrize(("change", "expected"), CASES.values(), ids=CASES)
def test_a_state_of_the_gpu_is_a_fault_and_clears_with_it(
    machine: Machine, change: Callable[[Gpu], Gpu], expected: Found
) -> None:
    machine.double.update_gpu(0, change)
    assert found(machine) == expected
    assert found(machine, 1) == set()
    machine.double.update_gpu(0, lambda _: a100_40gb(0))
    assert found(machine) == set()


def test_what_cannot_be_asked_now_keeps_its_last_answer(machine: Machine) -> None:
    machine.double.update_gpu(0, lambda gpu: replace(gpu, remapped=RemappedRows(failure=True)))
    before = found(machine)
    machine.double.update_gpu(0, lambda gpu: replace(gpu, remapped=None))
    assert found(machine) == before != set()
    machine.double.update_gpu(0, lambda gpu: replace(gpu, energy_mj=3))
    assert found(machine) == set()


def test_one_question_that_fails_does_not_hide_the_others(machine: Machine) -> None:
    machine.double.update_gpu(0, lambda gpu: replace(gpu, sram=SramErrors(threshold_exceeded=True)))
    machine.double.fail("nvmlDeviceGetRemappedRows", 999, gpu=0)
    assert found(machine) == {("nvidia.memory", "sram_threshold", FaultClass.HARDWARE)}


def test_a_lost_gpu_cannot_be_probed(machine: Machine) -> None:
    device = machine.devices()[0]
    machine.double.lose(0)
    with pytest.raises(LibraryError):
        machine.vendor.probe_health(device)


def test_a_verdict_that_is_lifted_is_a_reset_and_a_reboot_verdict_is_none(
    machine: Machine,
) -> None:
    device = machine.devices()[0]

    def after(action: int) -> bool:
        machine.double.update_gpu(0, lambda gpu: replace(gpu, recovery_action=action))
        return machine.vendor.probe_health(device).reset

    assert [after(action) for action in (0, 1, 0, 0, 2, 0, 4, 0)] == [
        *(False, False, True, False),
        *(False, False, False, True),
    ]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_slowdown_is_an_event_when_it_comes_and_once_a_minute(machine: Machine) -> None:
    device, clock = machine.devices()[0], Clock()
    ask, probes = machine.vendor._session.ask, Probes(clock)

    def events(reasons: int, at: float) -> list[str]:
        clock.now_s = at
        machine.double.update_gpu(0, lambda gpu: replace(gpu, clocks_event_reasons=reasons))
        return [event.code for event in probes.judge(device, ask(device)).events]

    assert events(0x4, 0) == []
    assert events(0x48, 5) == ["hw_slowdown", "hw_thermal"]
    assert events(0x48, 64) == []
    assert events(0x48, 65) == ["hw_slowdown", "hw_thermal"]
    assert events(0x0, 70) == []
    assert events(0x8, 75) == ["hw_slowdown"]


def test_a_power_brake_on_several_gpus_blames_no_single_one(machine: Machine) -> None:
    devices = [d for d in machine.devices() if d.parent is None]
    ask, probes = machine.vendor._session.ask, Probes(Clock())
    for index in (0, 1):
        machine.double.update_gpu(index, lambda gpu: replace(gpu, clocks_event_reasons=0x80))
    codes = [[e.code for e in probes.judge(device, ask(device)).events] for device in devices]
    assert codes == [["power_brake"], ["power_brake_shared"]]
