"""What `deviceplugin health` says about the end of a fault."""

import pytest

from deviceplugin.health.records import CORDON, OPERATOR, FaultRecords, Timestamp, with_event
from deviceplugin.health.report import cleared_by
from deviceplugin.health.section import HealthSection
from deviceplugin.inventory.conditions import RECOVERING, SOURCE
from deviceplugin.model import DeviceID, Fault, FaultClass

GPU = DeviceID("GPU-1")


def fault(
    source: str = "nvidia.xid", code: str = "79", kind: FaultClass = FaultClass.WARN
) -> Fault:
    return Fault(device=GPU, source=source, code=code, reason="r", kind=kind)


@pytest.mark.parametrize(
    ("told", "end"),
    [
        (fault(SOURCE, RECOVERING), "time"),
        (fault(OPERATOR, CORDON), "deviceplugin uncordon GPU-1"),
        (fault("nvidia.nvml"), "itself, as soon as nvidia.nvml does not report it any more"),
    ],
    ids=["recovering", "cordon", "asked again"],
)
def test_a_fault_that_is_not_remembered_ends_by_itself(told: Fault, end: str) -> None:
    assert cleared_by(FaultRecords(), told) == end


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        (FaultClass.WARN, "time, when it does not happen again"),
        (FaultClass.RESET, "a reset of the GPU, a driver reload or a reboot"),
        (FaultClass.REBOOT, "a reboot of the node"),
        (FaultClass.HARDWARE, "an operator: deviceplugin uncordon GPU-1 --forget-faults"),
    ],
)
def test_a_remembered_fault_ends_by_what_its_class_says(kind: FaultClass, end: str) -> None:
    told = fault(kind=kind)
    memory = with_event(FaultRecords(), told, Timestamp(now=1.0, boot=None), HealthSection())
    assert cleared_by(memory, told) == end
