"""Facts about MIG on the NVML double, as the real pynvml sees them."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.fakes.nvml import (
    GiProfile,
    NvmlDouble,
    Scenario,
    a100_40gb,
    a100_80gb,
    b200,
    h100_80gb,
    h200,
    with_mig,
)
from tests.fakes.nvml.model import Gpu
from tests.fakes.nvml_probe import Probe

MIG_UUIDS = "[DeviceGetUUID(DeviceGetMigDeviceHandleByIndex(h, i)) for i in {}]"
PROFILE_INDICES = {
    "19": 0,
    "14": 1,
    "9": 2,
    "5": 3,
    "0": 4,
    "20": 7,
    "15": 9,
}

CUTS = [
    (a100_40gb, ["7g.40gb"]),
    (a100_40gb, ["3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb+me"]),
    (a100_40gb, ["1c.3g.20gb", "2c.3g.20gb", "1g.10gb"]),
    (a100_80gb, ["1g.10gb"] * 7),
    (h100_80gb, ["3g.40gb", "3g.40gb"]),
    (h200, ["1g.18gb", "2g.35gb", "3g.71gb"]),
    (b200, ["1g.23gb", "1g.45gb", "3g.90gb"]),
]


def test_mig_devices_are_listed_with_holes(double: NvmlDouble, probe: Probe) -> None:
    assert probe("DeviceGetMaxMigDeviceCount(h)") == "0"
    double.set_mig(3, ["3g.20gb", None, "1g.5gb"])
    assert probe("DeviceGetMigMode(h)") == "[1, 1]"
    assert probe("DeviceGetMaxMigDeviceCount(h)") == "7"
    assert probe(MIG_UUIDS.format("(0, 2)")) == (
        "['MIG-30000000-0000-0000-0000-000000000000', 'MIG-32000000-0000-0000-0000-000000000000']"
    )
    assert probe("DeviceGetMigDeviceHandleByIndex(h, 1)") == "NVML 6"
    assert probe("DeviceGetRemappedRows(h)") == "NVML 3"
    probe("m = DeviceGetMigDeviceHandleByIndex(h, 2)")
    assert probe("DeviceIsMigDeviceHandle(m).value") == "1"
    assert probe("(DeviceGetGpuInstanceId(m), DeviceGetComputeInstanceId(m))") == "(7, 0)"
    assert probe("DeviceGetIndex(DeviceGetDeviceHandleFromMigDeviceHandle(m))") == "3"


def cut_up(double: NvmlDouble, probe: Probe, card: Callable[[int], Gpu], names: list[str]) -> None:
    """GPU 3 becomes that card, cut; `h` is it and `devices` are its MIG devices."""
    double.write(Scenario(gpus=(with_mig(card(3), names),)))
    probe("h = DeviceGetHandleByIndex(0)")
    probe(f"devices = [DeviceGetMigDeviceHandleByIndex(h, i) for i in range({len(names)})]")
    probe("gi = lambda m: DeviceGetGpuInstanceById(h, DeviceGetGpuInstanceId(m))")
    probe("ci = lambda m: GpuInstanceGetComputeInstanceById(gi(m), DeviceGetComputeInstanceId(m))")


def name_by_memory(mig_mb: int, total_bytes: int) -> int:
    """Gigabytes of a profile name: eighths of the card, rounded half up."""
    eighths = -(-8 * (mig_mb << 20) // total_bytes)
    return (eighths * -(-total_bytes // 2**30) + 4) // 8


@pytest.mark.parametrize(("card", "names"), CUTS, ids=lambda v: getattr(v, "__name__", None))
def test_slices_and_memory_of_a_device_make_the_name_asked_for(
    card: Callable[[int], Gpu], names: list[str], double: NvmlDouble, probe: Probe
) -> None:
    cut_up(double, probe, card, names)
    probe(
        "shape = lambda a: (a.computeInstanceSliceCount, a.gpuInstanceSliceCount, a.memorySizeMB)"
    )
    for slot, name in enumerate(names):
        shape = probe(f"shape(DeviceGetAttributes(devices[{slot}]))")
        compute, slices, memory_mb = map(int, shape.strip("()").split(", "))
        prefix = f"{compute}c." if compute != slices else ""
        total_bytes = card(0).memory_total_bytes
        assert total_bytes is not None
        size = name_by_memory(memory_mb, total_bytes)
        assert f"{prefix}{slices}g.{size}gb" == name.removesuffix("+me")


@pytest.mark.parametrize(("card", "names"), CUTS, ids=lambda v: getattr(v, "__name__", None))
def test_the_profile_ids_of_an_instance_are_on_offer(
    card: Callable[[int], Gpu], names: list[str], double: NvmlDouble, probe: Probe
) -> None:
    cut_up(double, probe, card, names)
    for slot, name in enumerate(names):
        driver_id = probe(f"GpuInstanceGetInfo(gi(devices[{slot}])).profileId")
        offered = f"DeviceGetGpuInstanceProfileInfo(h, {PROFILE_INDICES[driver_id]})"
        assert probe(f"{offered}.id") == driver_id
        assert name.endswith(probe(f"{offered}.name").strip("'").removeprefix("MIG "))
        ci_index = probe(f"ComputeInstanceGetInfo(ci(devices[{slot}])).profileId")
        compute = f"GpuInstanceGetComputeInstanceProfileInfo(gi(devices[{slot}]), {ci_index}, 0)"
        assert probe(f"{compute}.name") == f"'MIG {name}'"


def test_unknown_profile_indices_are_data(double: NvmlDouble, probe: Probe) -> None:
    odd = GiProfile(index=17, id=47, name="3g.20gb+gfx", slices=3, instances=1, sms=42, memory_mb=1)
    double.update_gpu(3, lambda gpu: replace(gpu, gi_profiles=(*gpu.gi_profiles, odd)))
    assert probe("DeviceGetGpuInstanceProfileInfo(h, 17).id") == "47"
    assert probe("DeviceGetGpuInstanceProfileInfo(h, 5)") == "NVML 3"
    assert probe("DeviceGetGpuInstanceProfileInfo(h, 18)") == "NVML 2"


def test_a_cut_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no room for 3g\.20gb"):
        with_mig(a100_40gb(0), ["3g.20gb"] * 3)


def test_a_new_cut_gives_new_uuids_and_old_mig_handles_find_nothing(
    double: NvmlDouble, probe: Probe
) -> None:
    double.set_mig(3, ["1g.5gb"])
    probe("m = DeviceGetMigDeviceHandleByIndex(h, 0)")
    double.set_mig(3, ["1g.5gb"])
    assert probe("DeviceGetUUID(m)") == "NVML 6"
    assert probe(MIG_UUIDS.format("(0,)")) == "['MIG-30000000-0000-0000-0000-000000000001']"
