"""The double is partitioned as a driver is: mode, instances, and the errors of each call."""

import pytest
from msgspec.structs import replace

from tests.fakes.nvml import NvmlDouble, Process, Scenario, a100_40gb, h200
from tests.fakes.nvml_probe import Probe

IN_USE, RESET_REQUIRED, INSUFFICIENT = 19, 16, "NVML 23"
MAKE = "DeviceCreateGpuInstanceWithPlacement(h, {}, ctypes.byref(place({}, {})))"


@pytest.fixture
def gpu(double: NvmlDouble, probe: Probe) -> Probe:
    """`h` is an H200 in MIG mode."""
    double.write(Scenario(gpus=(h200(0),)))
    probe("h = DeviceGetHandleByIndex(0)")
    probe("place = c_nvmlGpuInstancePlacement_t")
    assert probe("DeviceSetMigMode(h, 1)") == "0"
    return probe


def test_a_place_is_given_once(gpu: Probe) -> None:
    gpu(f"g = {MAKE.format(9, 4, 4)}")
    assert gpu(MAKE.format(9, 4, 4)) == INSUFFICIENT
    assert gpu(MAKE.format(19, 5, 1)) == INSUFFICIENT
    assert gpu(MAKE.format(9, 2, 4)) == "NVML 2"  # no place of this profile
    assert gpu("DeviceGetGpuInstanceRemainingCapacity(h, 9)") == "1"
    assert gpu("GpuInstanceGetInfo(g).placement.start") == "4"


def test_a_profile_has_so_many_instances(gpu: Probe) -> None:
    gpu(f"g = {MAKE.format(20, 0, 1)}")
    assert gpu(MAKE.format(20, 1, 1)) == INSUFFICIENT


def test_a_compute_instance_makes_the_device_and_keeps_the_instance(gpu: Probe) -> None:
    gpu(f"g = {MAKE.format(19, 6, 1)}")
    assert gpu("DeviceGetMigDeviceHandleByIndex(h, 0)") == "NVML 6"
    gpu("c = GpuInstanceCreateComputeInstance(g, 0)")
    first = gpu("DeviceGetUUID(DeviceGetMigDeviceHandleByIndex(h, 0))")
    assert gpu("GpuInstanceDestroy(g)") == f"NVML {IN_USE}"
    assert gpu("GpuInstanceCreateComputeInstance(g, 0)") == INSUFFICIENT
    assert gpu("ComputeInstanceDestroy(c)") == "0"
    gpu("c = GpuInstanceCreateComputeInstance(g, 0)")
    assert gpu("DeviceGetUUID(DeviceGetMigDeviceHandleByIndex(h, 0))") != first
    assert gpu("(ComputeInstanceDestroy(c), GpuInstanceDestroy(g))") == "(0, 0)"
    assert gpu("GpuInstanceDestroy(g)") == "NVML 6"


def test_an_instance_that_a_scenario_came_with_can_be_destroyed(
    double: NvmlDouble, gpu: Probe
) -> None:
    double.set_mig(0, ["3g.71gb"])
    gpu(
        "g = DeviceGetGpuInstanceById(h, DeviceGetGpuInstanceId("
        "DeviceGetMigDeviceHandleByIndex(h, 0)))"
    )
    gpu("c = GpuInstanceGetComputeInstanceById(g, 0)")
    assert gpu("(ComputeInstanceDestroy(c), GpuInstanceDestroy(g))") == "(0, 0)"


def test_an_instance_with_a_process_is_in_use(double: NvmlDouble, gpu: Probe) -> None:
    double.set_mig(0, ["1g.18gb"])
    gi = double.scenario.gpu(0).mig[0].gi
    process = Process(pid=7, memory=1, gi=gi, ci=0)
    double.update_gpu(0, lambda one: replace(one, processes=(process,)))
    gpu(f"g = DeviceGetGpuInstanceById(h, {gi})")
    gpu("c = GpuInstanceGetComputeInstanceById(g, 0)")
    assert gpu("ComputeInstanceDestroy(c)") == f"NVML {IN_USE}"
    assert gpu("DeviceSetMigMode(h, 0)") == str(IN_USE)
    assert gpu("DeviceGetMigMode(h)") == "[1, 0]"


def test_instances_keep_the_mode_on(gpu: Probe) -> None:
    gpu(f"g = {MAKE.format(0, 0, 8)}")
    assert gpu("DeviceSetMigMode(h, 0)") == str(IN_USE)
    assert gpu("(GpuInstanceDestroy(g), DeviceSetMigMode(h, 0))") == "(0, 0)"
    assert gpu(MAKE.format(0, 0, 8)) == "NVML 3"


def test_ampere_changes_its_mode_by_a_reset(double: NvmlDouble, probe: Probe) -> None:
    assert probe("DeviceSetMigMode(h, 1)") == str(RESET_REQUIRED)
    assert probe("DeviceGetMigMode(h)") == "[0, 1]"
    double.reset(3)
    assert probe("DeviceGetMigMode(h)") == "[1, 1]"
    double.write(Scenario(gpus=(h200(3, mig_current=1, mig_pending=1),)))
    double.reset(3)
    probe("h = DeviceGetHandleByIndex(0)")
    assert probe("DeviceGetMigMode(h)") == "[0, 0]"


def test_a_card_without_mig_has_no_mode_to_set(double: NvmlDouble, probe: Probe) -> None:
    double.write(Scenario(gpus=(a100_40gb(3, mig_current=None, mig_pending=None),)))
    probe("h = DeviceGetHandleByIndex(0)")
    assert probe("DeviceSetMigMode(h, 1)") == "NVML 3"
