"""Facts of a GPU that expectations are held against: confidential computing, ECC, bandwidth."""

import pytest
from msgspec.structs import replace

from tests.fakes.nvml import NvmlDouble
from tests.fakes.nvml.model import Fault
from tests.vendors.nvidia.conftest import MakeVendor

UNKNOWN = {"confidential_computing", "memory_bandwidth"}


@pytest.mark.parametrize(
    ("feature", "devtools", "mode"),
    [(0, 0, "off"), (1, 0, "on"), (1, 1, "devtools"), (0, 1, "off")],
)
def test_the_mode_of_confidential_computing_is_an_attribute(
    node: NvmlDouble, make_vendor: MakeVendor, feature: int, devtools: int, mode: str
) -> None:
    node.update(lambda s: replace(s, confidential=feature, devtools=devtools))
    devices = make_vendor().discover().devices
    assert {d.attributes["confidential_computing"] for d in devices} == {mode}


@pytest.mark.parametrize(
    ("clock_mhz", "bits", "bandwidth"),
    [
        (1215, 5120, "1555 GB/s"),  # A100 40 GB: 1,555 GB/s in its data sheet
        (2619, 5120, "3352 GB/s"),  # H100 SXM: 3.35 TB/s
        (6251, 192, "300 GB/s"),  # L4: 300 GB/s
        (5001, 256, "320 GB/s"),  # T4: 320 GB/s
    ],
)
def test_the_bandwidth_of_the_memory_is_that_of_clock_and_bus(
    node: NvmlDouble, make_vendor: MakeVendor, clock_mhz: int, bits: int, bandwidth: str
) -> None:
    known = {"max_clock_mem_mhz": clock_mhz, "memory_bus_bits": bits}
    node.update_gpu(0, lambda gpu: replace(gpu, **known))
    (gpu,) = (d for d in make_vendor().discover().devices if d.index == 0 and not d.parent)
    assert gpu.attributes["memory_bandwidth"] == bandwidth


def test_what_the_driver_does_not_tell_is_no_attribute(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    found = make_vendor().discover()
    assert not any(UNKNOWN & d.attributes.keys() for d in found.devices)
    assert found.faults == ()


@pytest.mark.parametrize("code", [3, 4, 13, 999])
def test_a_question_of_these_that_fails_costs_the_fact_alone(
    node: NvmlDouble, make_vendor: MakeVendor, code: int
) -> None:
    names = ("nvmlSystemGetConfComputeState", "nvmlDeviceGetMemoryBusWidth")
    wrong = tuple(Fault(kind="error", function=name, code=code) for name in names)
    node.update(lambda s: replace(s, confidential=1, faults=wrong))
    found = make_vendor().discover()
    assert not any(UNKNOWN & d.attributes.keys() for d in found.devices)
    assert found.faults == ()
    assert len(found.devices) == 7
