"""Units that entries of partitions name, held against the hardware."""

from typing import Any

import pytest

from deviceplugin.documents.expect import outcome
from deviceplugin.documents.told import checked
from deviceplugin.documents.walk import Entry

GIB = 1 << 30


def device(resource: str, product: str, gib: int = 4, **attributes: str) -> dict[str, Any]:
    return {
        "id": "d",
        "parent": "p",
        "resource": resource,
        "product": product,
        "memory_bytes": gib * GIB,
        "attributes": attributes,
    }


MIG = device("nvidia.com/mig-1g.5gb", "NVIDIA A100", compute_capability="8.0", multiprocessors="14")
VGPU = device("nvidia.com/vgpu", "NVIDIA A10-8Q", 8, compute_capability="8.6")
MXGPU = device("amd.com/mxgpu-4gb", "MI300X VF", compute_units="304", gfx_version="gfx942")
HIDDEN = device("amd.com/mxgpu-4gb-vfio", "AMD Instinct MI210 VF")
XE = device("intel.com/xe-4gb", "Intel Arc Pro B60", compute_units="64")


def held(section: str, key: str, value: int, found: dict[str, Any], **beside: str) -> Any:
    lists = "profiles" if section == "vgpu" else "instances"
    entry = Entry(f"{section}.{lists}[0].{key}", str(value), checked(""), beside)
    one = outcome(entry, {"devices": [found]})
    return one.met, one.measured


TURNS = ", by turns with the GPU's others"


@pytest.mark.parametrize(
    ("section", "key", "value", "found", "met", "measured"),
    [
        ("mig", "compute_units", 14, MIG, True, "14 multiprocessors"),
        ("mig", "compute_units", 7, MIG, False, "14 multiprocessors"),
        ("mig", "tensor_cores", 1, MIG, True, "56 tensor cores"),
        ("mig", "tensor_cores", 57, MIG, False, "56 tensor cores"),
        ("vgpu", "compute_units", 56, VGPU, True, f"72 multiprocessors{TURNS}"),
        ("vgpu", "tensor_cores", 289, VGPU, False, f"288 tensor cores{TURNS}"),
        ("mxgpu", "compute_units", 32, MXGPU, True, f"304 compute units{TURNS}"),
        ("mxgpu", "rocm_cores", 16, MXGPU, True, f"1216 SIMD units{TURNS}"),
        ("mxgpu", "compute_units", 105, HIDDEN, False, f"104 compute units{TURNS}"),
        ("mxgpu", "rocm_cores", 1, HIDDEN, None, "nothing tells its SIMD units"),
        ("intel_xe", "compute_units", 64, XE, False, f"20 Xe-cores{TURNS}"),
        ("intel_xe", "execution_units", 32, XE, True, f"160 vector engines{TURNS}"),
    ],
)
def test_units_are_held_against_the_hardware(
    section: str, key: str, value: int, found: dict[str, Any], met: bool | None, measured: str
) -> None:
    name = found["resource"].partition("/")[2].removesuffix("-vfio")
    size = f"{found['memory_bytes'] // GIB}GiB"
    assert held(section, key, value, found, name=name, memory=size) == (met, measured)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mig.instances[0].compute_units", "many"),
        ("workloads.training.gpu_memory", "much"),
        ("workloads.training.compute_capability", "new"),
        ("workloads.training.precision", "FP7"),
    ],
)
def test_a_value_that_is_wrong_is_held_against_nothing(key: str, value: str) -> None:
    entry = Entry(key, value, checked(""), {"name": "mig-1g.5gb"})
    assert outcome(entry, {"devices": [MIG]}).met is None


def test_other_devices_are_not_meant() -> None:
    nothing = (None, "no device of it is there")
    assert held("mig", "compute_units", 14, MIG, name="mig-2g.10gb") == nothing
    assert held("vgpu", "compute_units", 14, VGPU, name="v", memory="16GiB") == nothing
    assert held("mxgpu", "rocm_cores", 1, XE, name="xe-4gb") == nothing
