"""Each file of amdgpu has a number of its own here: one that is taken for another is seen."""

import struct
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.kfd import TOPOLOGY
from deviceplugin.host.pci import DEVICES
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendors.amd.gpu_metrics import GpuMetrics, parse_gpu_metrics
from deviceplugin.vendors.amd.telemetry import Meter
from tests.telemetry.values import values_of, write_files

BDF = "0000:05:00.0"
D = f"{DEVICES}/{BDF}"
GPU = Device(id=DeviceID(BDF), vendor="amd", pci_address=BDF, driver="amdgpu", index=0, ecc=True)
FILES = {
    "gpu_busy_percent": 41,
    "mem_busy_percent": 42,
    "mem_info_vram_total": 1000,
    "mem_info_vram_used": 310,
    "pcie_replay_count": 7,
    "hwmon/hwmon3/name": "amdgpu",
    "hwmon/hwmon3/temp1_input": 51_000,
    "hwmon/hwmon3/temp1_label": "edge",
    "hwmon/hwmon3/temp2_input": 61_500,
    "hwmon/hwmon3/temp2_label": "junction",
    "hwmon/hwmon3/temp2_crit": 100_000,
    "hwmon/hwmon3/temp2_emergency": 105_000,
    "hwmon/hwmon3/temp3_input": 71_000,
    "hwmon/hwmon3/temp3_label": "mem",
    "hwmon/hwmon3/power1_average": 250_000_000,
    "hwmon/hwmon3/power1_cap": 300_000_000,
    "hwmon/hwmon3/freq1_input": 1_700_000_000,
    "hwmon/hwmon3/freq2_input": 1_600_000_000,
    "hwmon/hwmon3/fan1_input": 1500,
    "hwmon/hwmon3/pwm1": 51,
    "hwmon/hwmon3/pwm1_max": 255,
    "ras/umc_err_count": "ue: 3\nce: 4",
    "ras/xgmi_wafl_err_count": "ue: 8\nce: 9",
    "ras/gpu_vram_bad_pages": "\n".join(
        f"{n:#x} : 0x1000 : {flag}" for n, flag in enumerate("R" * 5 + "P" * 3 + "F" * 2)
    ),
}
SHOWN = {
    "utilization_ratio engine=compute": 0.41,
    "utilization_ratio engine=memory": 0.42,
    "memory_total_bytes": 1000,
    "memory_used_bytes": 310,
    "memory_free_bytes": 690,
    "pcie_replays_total": 7,
    "temperature_celsius sensor=gpu": 51,
    "temperature_celsius sensor=hotspot": 61.5,
    "temperature_celsius sensor=memory": 71,
    "temperature_limit_celsius sensor=hotspot limit=slowdown": 100,
    "temperature_limit_celsius sensor=hotspot limit=shutdown": 105,
    "power_watts": 250,
    "power_limit_watts": 300,
    "clock_hertz clock=sm": 1.7e9,
    "clock_hertz clock=memory": 1.6e9,
    "fan_rpm fan=1": 1500,
    "fan_ratio fan=1": 0.2,
    "ecc_errors_total kind=uncorrected since=driver": 11,
    "ecc_errors_total kind=corrected since=driver": 13,
    "link_errors_total link=xgmi kind=uncorrected": 8,
    "link_errors_total link=xgmi kind=corrected": 9,
    "retired_pages state=retired": 5,
    "retired_pages state=pending": 3,
    "retired_pages state=failed": 2,
    "ecc_enabled": 1,
}


@pytest.fixture
def meter(tmp_path: Path) -> Meter:
    write_files(tmp_path, {f"{D}/{name}": text for name, text in FILES.items()})
    return Meter(Host(tmp_path))


def test_every_value_is_its_own(meter: Meter) -> None:
    assert values_of(meter.sample([GPU]), GPU.id) == pytest.approx(SHOWN)


def test_what_is_not_there_is_absent(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{D}/gpu_busy_percent": 0, f"{D}/mem_busy_percent": "N/A"})
    sample = Meter(Host(tmp_path)).sample([replace(GPU, ecc=None)])
    assert values_of(sample, GPU.id) == {"utilization_ratio engine=compute": 0}


def test_a_gpu_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match="gone"):
        Meter(Host(tmp_path)).sample([GPU])


def test_another_drivers_function_is_not_read(meter: Meter) -> None:
    assert meter.sample([replace(GPU, driver="vfio-pci")]).measured == ()


def table(size: int, revision: int, **numbers: tuple[int, str, int]) -> bytes:
    """A table of all ones with these numbers in it: offset, form and value."""
    content = bytearray(b"\xff" * size)
    struct.pack_into("<HBB", content, 0, size, 1, revision)
    for offset, form, value in numbers.values():
        struct.pack_into(form, content, offset, value)
    return bytes(content)


ENERGY = {"energy": (24, "<Q", 5 << 16)}
THROTTLES = ("prochot", "power_cap", "thermal_socket", "thermal_vr", "thermal_memory")


def throttles(at: int, rounds: int, *counts: int) -> dict[str, tuple[int, str, int]]:
    """Rounds of the firmware at an offset, and those that each reason had, behind it."""
    return {f"r{at + 4 * n}": (at + 4 * n, "<I", c) for n, c in enumerate((rounds, *counts))}


PREFIX = {
    "hotspot": (4, "<H", 61),
    "mem": (6, "<H", 62),
    "power": (10, "<H", 630),
    "gfx": (12, "<H", 64),
    "umc": (14, "<H", 65),
}
NEWER = GpuMetrics(compute=0.64, memory=0.65, hotspot_c=61, memory_c=62, power_w=630)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            table(
                120,
                3,
                hotspot=(6, "<H", 71),
                mem=(8, "<H", 72),
                gfx=(16, "<H", 73),
                umc=(18, "<H", 74),
                mm=(20, "<H", 75),
                power=(22, "<H", 76),
                throttle=(112, "<Q", 1 << 33),
            ),
            GpuMetrics(
                compute=0.73,
                memory=0.74,
                media=0.75,
                hotspot_c=71,
                memory_c=72,
                power_w=76,
                throttled={"power_cap": False, "current": False, "thermal": True},
            ),
        ),
        (
            table(288, 4, **PREFIX, **ENERGY, replays=(88, "<Q", 9)),
            replace(NEWER, energy_j=5, pcie_replays=9),
        ),
        (
            table(360, 5, **PREFIX, energy=(88, "<Q", 6 << 16), replays=(152, "<Q", 8)),
            replace(NEWER, energy_j=6, pcie_replays=8),
        ),
        (
            table(328, 5, **PREFIX, energy=(56, "<Q", 7 << 16), replays=(120, "<Q", 7)),
            replace(NEWER, energy_j=7, pcie_replays=7),
        ),
        (
            table(
                1664,
                6,
                **PREFIX,
                energy=(16, "<Q", 8 << 16),
                b=(312 + 168 + 4, "<I", 50),
                replays=(104, "<Q", 6),
                **throttles(32, 100, 1, 2, 3, 4, 5),
            ),
            replace(
                NEWER,
                energy_j=8,
                partitions=(None, 0.5, *[None] * 6),
                pcie_replays=6,
                rounds=100,
                residencies=dict(zip(THROTTLES, (1, 2, 3, 4, 5), strict=True)),
            ),
        ),
        (
            table(
                2208,
                7,
                **PREFIX,
                **ENERGY,
                b=(344 + 232 * 2, "<I", 30),
                replays=(112, "<Q", 5),
                **throttles(40, 200, 6, 7, 8, 9, 10),
            ),
            replace(
                NEWER,
                energy_j=5,
                partitions=(None, None, 0.3, *[None] * 5),
                pcie_replays=5,
                rounds=200,
                residencies=dict(zip(THROTTLES, (6, 7, 8, 9, 10), strict=True)),
            ),
        ),
        (
            table(3360, 8, **PREFIX, **ENERGY, b=(344 + 376 * 7, "<I", 90)),
            replace(NEWER, energy_j=5, partitions=(*[None] * 7, 0.9)),
        ),
        (table(312, 6, **PREFIX, energy=(16, "<Q", 8 << 16)), NEWER),
        (table(64, 9, **PREFIX), None),
        (b"\x08\x00\x02\x01" + b"\0" * 8, None),
        (b"\x10\x00", None),
        (table(288, 4)[:100], None),
    ],
    ids=[
        "1.3",
        "1.4",
        "1.5",
        "1.5-short",
        "1.6",
        "1.7",
        "1.8",
        "1.6-before",
        "1.9",
        "2.1",
        "headless",
        "cut",
    ],
)
def test_a_table_is_read_by_its_own_revision(content: bytes, expected: GpuMetrics | None) -> None:
    assert parse_gpu_metrics(content) == expected


def write_table(root: Path, content: bytes) -> None:
    path = root / D.lstrip("/") / "gpu_metrics"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


RESIDENCIES = {
    "throttled_ratio reason=prochot": 0.05,
    "throttled_ratio reason=power_cap": 0.2,
    "throttled_ratio reason=thermal_socket": 0.35,
    "throttled_ratio reason=thermal_vr": 0.5,
    "throttled_ratio reason=thermal_memory": 0.9,
}
OF_TABLE = {
    "utilization_ratio engine=compute": 0.64,
    "utilization_ratio engine=memory": 0.65,
    "energy_joules_total": 5,
    "power_watts": 630,
    "temperature_celsius sensor=hotspot": 61,
    "temperature_celsius sensor=memory": 62,
    "pcie_replays_total": 9,
    "ecc_enabled": 1,
}
OLDER = {
    "utilization_ratio engine=decoder": 0.75,
    "throttled reason=power_cap": 0,
    "throttled reason=current": 0,
    "throttled reason=thermal": 1,
}


def test_an_older_table_has_flags_and_the_decoder(tmp_path: Path) -> None:
    numbers = {"mm": (20, "<H", 75), "throttle": (112, "<Q", 1 << 33)}
    write_table(tmp_path, table(120, 3, **numbers))
    shown = values_of(Meter(Host(tmp_path)).sample([replace(GPU, ecc=None)]), GPU.id)
    assert shown == pytest.approx(OLDER)


def test_each_reason_has_its_part_of_the_time_between_two_samples(tmp_path: Path) -> None:
    meter = Meter(Host(tmp_path))
    write_table(tmp_path, table(1664, 6, **throttles(32, 1000, 10, 20, 30, 40, 50)))
    first = values_of(meter.sample([GPU]), GPU.id)
    write_table(tmp_path, table(1664, 6, **throttles(32, 1100, 15, 40, 65, 90, 140)))
    second = values_of(meter.sample([GPU]), GPU.id)
    write_table(tmp_path, table(1664, 6, **throttles(32, 50, 1, 1, 1, 1, 1)))
    third = values_of(meter.sample([GPU]), GPU.id)
    assert second.keys() - first.keys() == second.keys() - third.keys()
    assert {n: v for n, v in second.items() if n not in first} == pytest.approx(RESIDENCIES)


def test_the_table_stands_for_files_that_are_not_there(tmp_path: Path) -> None:
    numbers = {**PREFIX, **ENERGY, "replays": (88, "<Q", 9)}
    write_table(tmp_path, table(288, 4, **numbers))
    assert values_of(Meter(Host(tmp_path)).sample([GPU]), GPU.id) == pytest.approx(OF_TABLE)


def test_a_partition_has_its_own_memory_and_engines(tmp_path: Path) -> None:
    node = f"{TOPOLOGY}/nodes/3"
    properties = "simd_count 38\ndrm_render_minor 129\nlocation_id 1280\ndomain 0\n"
    write_files(
        tmp_path,
        {
            f"{TOPOLOGY}/generation_id": 4,
            f"{node}/properties": properties,
            f"{node}/mem_banks/0/properties": "size_in_bytes 900\n",
            f"{node}/mem_banks/0/used_memory": 123,
        },
    )
    write_table(tmp_path, table(1664, 6, b=(312 + 168, "<I", 50)))
    part = replace(
        GPU,
        id=DeviceID("p1"),
        parent=GPU.id,
        index=1,
        memory_bytes=900,
        nodes=("/dev/kfd", "/dev/dri/renderD129"),
    )
    shown = values_of(Meter(Host(tmp_path)).sample([GPU, part]), part.id)
    assert shown == {
        "memory_total_bytes": 900,
        "memory_used_bytes": 123,
        "memory_free_bytes": 777,
        "utilization_ratio engine=compute": 0.5,
    }


FDINFO = """pos:\t0
drm-driver:\tamdgpu
drm-pdev:\t0000:05:00.0
drm-client-id:\t{client}
drm-memory-vram:\t{kib} KiB
drm-memory-gtt:\t99 KiB
drm-engine-gfx:\t1000 ns
"""


def open_node(root: Path, pid: int, descriptor: int, node: str, text: str) -> None:
    """A process with an open DRM node."""
    link = root / f"proc/{pid}/fd/{descriptor}"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(node)
    write_files(root, {f"/proc/{pid}/fdinfo/{descriptor}": text})


def test_a_client_is_counted_once_and_on_its_partition(tmp_path: Path) -> None:
    part = replace(GPU, id=DeviceID("p1"), parent=GPU.id, nodes=("/dev/dri/renderD129",))
    for descriptor in (4, 5):
        text = FDINFO.format(client=8, kib=16)
        open_node(tmp_path, 100, descriptor, "/dev/dri/renderD128", text)
    open_node(tmp_path, 101, 4, "/dev/dri/renderD129", FDINFO.format(client=9, kib=32))
    open_node(tmp_path, 102, 4, "/dev/null", FDINFO.format(client=10, kib=64))
    found = Meter(Host(tmp_path)).processes([GPU, part])
    assert [(p.pid, p.device, p.memory_bytes) for p in found] == [
        (100, GPU.id, 16 << 10),
        (101, part.id, 32 << 10),
    ]
