"""NVML events become faults of the right class, of the right device."""

import pytest
from msgspec.structs import replace

from deviceplugin.model import Device, DeviceID, FaultClass
from deviceplugin.vendors.nvidia.events import NvmlEvent, faults_of
from deviceplugin.vendors.nvidia.xids import XIDS, xid_of
from tests.fakes.nvml.cards import gpu_uuid
from tests.rig import WAIT_S
from tests.vendors.nvidia.health_machine import Machine

GPU = gpu_uuid(0)

# Facts: NVIDIA's XID catalogue, immediate resolution.
DOCUMENTED = {
    8: FaultClass.APP,
    13: FaultClass.APP,
    31: FaultClass.APP,
    43: FaultClass.INFO,
    45: FaultClass.INFO,
    46: FaultClass.RESET,
    48: FaultClass.RESET,
    54: FaultClass.HARDWARE,
    62: FaultClass.RESET,
    63: FaultClass.WARN,
    64: FaultClass.RESET,
    68: FaultClass.APP,
    74: FaultClass.RESET,
    79: FaultClass.REBOOT,
    92: FaultClass.WARN,
    94: FaultClass.APP,
    95: FaultClass.RESET,
    109: FaultClass.RESET,
    110: FaultClass.RESET,
    119: FaultClass.RESET,
    120: FaultClass.RESET,
    121: FaultClass.WARN,
    136: FaultClass.RESET,
    140: FaultClass.RESET,
    142: FaultClass.HARDWARE,
    143: FaultClass.RESET,
    151: FaultClass.REBOOT,
    154: FaultClass.INFO,
    156: FaultClass.RESET,
    167: FaultClass.REBOOT,
    999: FaultClass.WARN,
    17: FaultClass.WARN,
}


def test_each_xid_of_the_driver_arrives_in_its_documented_class(machine: Machine) -> None:
    with machine.watching() as report:
        for code in DOCUMENTED:
            machine.double.raise_event(0, xid=code)
        faults = [report.events.get(timeout=WAIT_S) for _ in DOCUMENTED]
    assert {int(f.code): f.kind for f in faults} == DOCUMENTED
    assert {f.device for f in faults} == {GPU}
    assert all(f.reason and f.action for f in faults)


def test_every_entry_of_the_catalogue_says_what_to_do() -> None:
    assert len(XIDS) > 100
    assert all(xid.name and xid.action for xid in XIDS.values())
    assert xid_of(12345).kind is FaultClass.WARN


# nvml.h, nvmlEventType*.
@pytest.mark.parametrize(
    ("bit", "code", "kind", "action"),
    [
        (0x2, "double_bit_ecc", FaultClass.WARN, "see the XID"),
        (0x400, "memory_retired", FaultClass.WARN, "at the next drain"),
        (0x800, "memory_retirement_failed", FaultClass.RESET, "it may need replacing"),
        (0x1000, "poison", FaultClass.APP, "restart the applications"),
        (0x2000, "fatal_poison", FaultClass.RESET, "reset the GPU"),
        (0x4000, "gpu_unavailable", FaultClass.RESET, "reboot the node if that fails"),
    ],
)
def test_each_other_event_is_a_fault_that_says_what_to_do(
    bit: int, code: str, kind: FaultClass, action: str
) -> None:
    ampere = Device(id=DeviceID(GPU), vendor="nvidia", architecture="ampere")
    (fault,) = faults_of(NvmlEvent(gpu=DeviceID(GPU), type=bit, data=0), [ampere])
    assert (fault.device, fault.source) == (GPU, "nvidia.event")
    assert (fault.code, fault.kind) == (code, kind)
    assert action in (fault.action or "")


@pytest.mark.parametrize(("bit", "code"), [(0x2, "double_bit_ecc"), (0x4000, "gpu_unavailable")])
def test_other_events_of_the_driver_arrive(machine: Machine, bit: int, code: str) -> None:
    with machine.watching() as report:
        machine.double.raise_event(1, xid=0, type=bit)
        fault = report.events.get(timeout=WAIT_S)
    assert (fault.device, fault.code) == (gpu_uuid(1), code)


def test_an_event_of_no_meaning_is_no_fault(machine: Machine) -> None:
    event = NvmlEvent(gpu=DeviceID(GPU), type=0x200, data=0)
    assert faults_of(event, machine.devices()) == ()


@pytest.mark.parametrize("xid", [79, 154, 167])
def test_an_xid_after_which_the_driver_is_to_be_asked_asks_for_another_look(
    machine: Machine, xid: int
) -> None:
    with machine.watching() as report:
        machine.double.raise_event(0, xid=13)
        assert report.events.get(timeout=WAIT_S).code == "13"
        assert report.looks.empty()
        machine.double.raise_event(0, xid=xid)
        report.looks.get(timeout=WAIT_S)
        assert report.events.get(timeout=WAIT_S).code == str(xid)


@pytest.mark.parametrize("bit", [0x100, 0x8000], ids=["mig", "recovery"])
def test_changes_ask_for_another_look(machine: Machine, bit: int) -> None:
    with machine.watching() as report:
        machine.double.raise_event(0, xid=0, type=bit)
        report.looks.get(timeout=WAIT_S)
        assert report.events.empty()


def test_a_gpu_that_refuses_to_be_watched_does_not_keep_the_others_from_it(
    machine: Machine,
) -> None:
    machine.devices()
    machine.double.fail("nvmlDeviceRegisterEvents", 999, gpu=0)
    with machine.watching() as report:
        machine.double.raise_event(1, xid=13)
        assert report.events.get(timeout=WAIT_S).device == gpu_uuid(1)


def test_an_event_reaches_the_instances_that_it_names_and_no_other(machine: Machine) -> None:
    machine.double.set_mig(0, ["1g.5gb", "1g.5gb", "2g.10gb"])
    devices = machine.devices()
    part = next(d for d in devices if d.parent)
    gi, ci = int(part.attributes["gpu_instance"]), int(part.attributes["compute_instance"])

    def targets(gpu_instance: int | None, compute_instance: int | None) -> set[str]:
        event = NvmlEvent(
            gpu=devices[0].id,
            type=8,
            data=95,
            gpu_instance=gpu_instance,
            compute_instance=compute_instance,
        )
        return {fault.device for fault in faults_of(event, devices)}

    assert targets(gi, ci) == {part.id}
    assert targets(gi, None) == {part.id}
    assert targets(None, None) == {GPU}
    assert targets(99, 0) == {GPU}


def test_an_event_of_the_driver_names_a_gpu_instance_alone_or_none(machine: Machine) -> None:
    machine.double.set_mig(0, ["1g.5gb", "2g.10gb"])
    part = next(d for d in machine.devices() if d.parent)
    with machine.watching() as report:
        machine.double.raise_event(0, xid=94, gi=int(part.attributes["gpu_instance"]))
        assert report.events.get(timeout=WAIT_S).device == part.id
        machine.double.raise_event(0, xid=94)
        assert report.events.get(timeout=WAIT_S).device == GPU


def test_a_double_bit_error_takes_a_gpu_that_cannot_contain_it(machine: Machine) -> None:
    machine.double.update_gpu(0, lambda gpu: replace(gpu, architecture=5))
    event = NvmlEvent(gpu=DeviceID(GPU), type=0x2, data=0)
    (fault,) = faults_of(event, machine.devices())
    assert fault.kind is FaultClass.RESET
