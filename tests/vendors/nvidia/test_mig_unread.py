"""A MIG device that NVML does not describe costs itself, and not the others of its GPU."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.model import Device, Discovery, Fault, FaultClass
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree
from tests.fakes.nvml.model import Gpu
from tests.vendors.nvidia.conftest import MakeVendor

IMPLAUSIBLE = "nvml_999"


@pytest.fixture
def double(tmp_path: Path) -> NvmlDouble:
    """Two A100, the second cut into three."""
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=(a100_40gb(0), a100_40gb(1))))
    double.set_mig(1, ["3g.20gb", "1g.5gb", "1g.5gb"])
    write_host_tree(tmp_path, double.scenario)
    return double


def spoil(double: NvmlDouble, *slots: int) -> None:
    """What NVML says of these MIG devices cannot be: no memory."""

    def changed(gpu: Gpu) -> Gpu:
        parts = (replace(p, memory_mb=0) if p.slot in slots else p for p in gpu.mig)
        return replace(gpu, mig=tuple(parts))

    double.update_gpu(1, changed)


def parts(found: Discovery) -> dict[int | None, Device]:
    return {device.index: device for device in found.devices if device.parent}


def codes(found: Discovery) -> list[tuple[str, str]]:
    return [(fault.device, fault.code) for fault in found.faults]


def test_the_others_are_offered_and_it_is_told_why(
    double: NvmlDouble, make_vendor: MakeVendor
) -> None:
    spoil(double, 1)
    found = make_vendor().discover()
    one = parts(found)[1]
    assert {n: d.resource for n, d in parts(found).items()} == {
        0: "nvidia.com/mig-3g.20gb",
        1: None,
        2: "nvidia.com/mig-1g.5gb",
    }
    (fault,) = found.faults
    assert (fault.device, fault.code) == (one.id, IMPLAUSIBLE)
    assert fault.kind.withdraws
    assert fault.reason.startswith("MIG device 1 of the GPU at ")
    assert "0 MiB" in fault.reason


def test_one_that_was_served_stays_as_it_was_and_is_unhealthy(
    double: NvmlDouble, make_vendor: MakeVendor
) -> None:
    vendor = make_vendor()
    before = parts(vendor.discover())
    spoil(double, 1)
    found = vendor.discover()
    assert parts(found) == before
    assert codes(found) == [(before[1].id, IMPLAUSIBLE)]
    assert vendor.unchanged()
    double.set_mig(1, ["3g.20gb", "1g.5gb", "1g.5gb"])
    assert not vendor.unchanged()
    assert vendor.discover().faults == ()


def test_where_none_can_be_read_it_is_the_gpu(double: NvmlDouble, make_vendor: MakeVendor) -> None:
    spoil(double, 0, 1, 2)
    found = make_vendor().discover()
    assert [fault.kind for fault in found.faults] == [FaultClass.RESET]
    assert not parts(found)


def test_a_right_that_is_lacking_or_a_lost_gpu_is_the_gpus(
    double: NvmlDouble, make_vendor: MakeVendor
) -> None:
    vendor = make_vendor()
    vendor.discover()
    double.fail("nvmlDeviceGetAttributes*", 4, gpu=1)
    assert only(vendor).code == "nvml_4"
    double.clear_faults()
    double.fail("nvmlDeviceGetAttributes*", 15, gpu=1)
    assert only(vendor).code == "gpu_lost"


def only(vendor: NvidiaVendor) -> Fault:
    (fault,) = vendor.discover().faults
    return fault
