"""Each value of NVML has a number of its own here: one that is taken for another is seen."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.errors import LibraryError
from deviceplugin.host import Host
from deviceplugin.model import Device
from deviceplugin.vendor import Sample
from deviceplugin.vendors import nvidia
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, with_nvswitch, write_host_tree
from tests.fakes.nvml.model import Gpm, Gpu, Process, RemappedRows, RowHistogram
from tests.telemetry.values import values_of

MIB = 1 << 20


def busy(gpu: Gpu) -> Gpu:
    """Numbers of which no two are alike."""
    return replace(
        gpu,
        memory_total_bytes=150_754_820_096,
        memory_used_bytes=5_399_576_576,
        memory_reserved_bytes=601 * MIB,
        temperature_c=64,
        power_usage_mw=692_589,
        power_limit_mw=700_000,
        energy_mj=16_004_394,
        utilization_gpu_percent=97,
        utilization_memory_percent=22,
        encoder_percent=11,
        decoder_percent=12,
        jpeg_percent=13,
        ofa_percent=14,
        clock_graphics_mhz=1515,
        clock_sm_mhz=1485,
        clock_mem_mhz=3201,
        clock_video_mhz=1545,
        clocks_event_reasons=0x44,
        pcie_replays=17,
        fan_speed_percent=31,
        shutdown_c=95,
        slowdown_c=89,
        memory_max_c=96,
        remapped=RemappedRows(corrected=5, uncorrected=6, pending=True),
        histogram=RowHistogram(max=3072, high=7, partial=8, low=9, none=10),
        fields=FIELDS,
        gpm=GPM,
    )


FIELDS = {
    3: 41,
    4: 42,
    5: 43,
    6: 44,
    74: 16_142_692_096,
    75: 1_000_000_000,
    76: 2_000_000_000,
    77: 3_000_000_000,
    82: 52,
    38: 51,
    45: 53,
    52: 54,
    59: 55,
}
GPM = tuple(
    Gpm(metric=metric, value=value)
    for metric, value in {
        1: 97_573,
        2: 94_002,
        5: 61_500,
        10: 33_250,
        20: 1500,
        21: 2500,
    }.items()
)
WHOLE = {
    "memory_total_bytes": 150_754_820_096,
    "memory_used_bytes": 5_399_576_576,
    "memory_free_bytes": 150_754_820_096 - 5_399_576_576 - 601 * MIB,
    "memory_reserved_bytes": 601 * MIB,
    "temperature_celsius sensor=gpu": 64,
    "temperature_celsius sensor=memory": 52,
    "temperature_limit_celsius sensor=gpu limit=shutdown": 95,
    "temperature_limit_celsius sensor=gpu limit=slowdown": 89,
    "temperature_limit_celsius sensor=memory limit=slowdown": 96,
    "power_watts": 692.589,
    "power_limit_watts": 700,
    "energy_joules_total": 16004.394,
    "utilization_ratio engine=compute": 0.97,
    "utilization_ratio engine=memory": 0.22,
    "utilization_ratio engine=encoder": 0.11,
    "utilization_ratio engine=decoder": 0.12,
    "utilization_ratio engine=jpeg": 0.13,
    "utilization_ratio engine=ofa": 0.14,
    "clock_hertz clock=graphics": 1515e6,
    "clock_hertz clock=sm": 1485e6,
    "clock_hertz clock=memory": 3201e6,
    "clock_hertz clock=video": 1545e6,
    "throttled reason=power_cap": 1,
    "throttled reason=hw_slowdown": 0,
    "throttled reason=sync_boost": 0,
    "throttled reason=sw_thermal": 0,
    "throttled reason=hw_thermal": 1,
    "throttled reason=power_brake": 0,
    "throttled_seconds_total reason=power": 16.142692096,
    "throttled_seconds_total reason=thermal": 1,
    "throttled_seconds_total reason=sync_boost": 2,
    "throttled_seconds_total reason=board_limit": 3,
    "ecc_errors_total kind=corrected since=driver": 41,
    "ecc_errors_total kind=uncorrected since=driver": 42,
    "ecc_errors_total kind=corrected since=ever": 43,
    "ecc_errors_total kind=uncorrected since=ever": 44,
    "ecc_enabled": 1,
    "remapped_rows_total kind=corrected": 5,
    "remapped_rows_total kind=uncorrected": 6,
    "row_remap_pending": 1,
    "row_remap_failed": 0,
    "row_banks spare=max": 3072,
    "row_banks spare=high": 7,
    "row_banks spare=partial": 8,
    "row_banks spare=low": 9,
    "row_banks spare=none": 10,
    "pcie_replays_total": 17,
    "link_errors_total link=nvlink kind=crc_flit": 51,
    "link_errors_total link=nvlink kind=crc_data": 53,
    "link_errors_total link=nvlink kind=replay": 54,
    "link_errors_total link=nvlink kind=recovery": 55,
    "fan_ratio fan=0": 0.31,
}
RATES = {
    "utilization_ratio engine=graphics": 0.97573,
    "utilization_ratio engine=sm": 0.94002,
    "utilization_ratio engine=tensor": 0.615,
    "utilization_ratio engine=dram": 0.3325,
    "pcie_bytes_per_second direction=tx": 1.5 * MIB,
    "pcie_bytes_per_second direction=rx": 2.5 * MIB,
}


@pytest.fixture
def double(tmp_path: Path) -> NvmlDouble:
    """Two GPUs on an NVSwitch: the first is busy, the second cut into instances."""
    first, second = with_nvswitch([a100_40gb(0), a100_40gb(1)])
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=(busy(first), second)))
    double.set_mig(1, ["3g.20gb", "1g.5gb"])
    write_host_tree(tmp_path, double.scenario)
    return double


class Node:
    """The vendor with what it has discovered."""

    def __init__(self, root: Path) -> None:
        self.vendor: NvidiaVendor = nvidia.create(Host(root), {})
        self.devices = self.vendor.discover().devices

    def gpu(self, index: int) -> list[Device]:
        """A GPU and its instances."""
        whole = next(d for d in self.devices if d.index == index and d.parent is None)
        return [whole, *(d for d in self.devices if d.parent == whole.id)]

    def sample(self, index: int) -> Sample:
        return self.vendor.sample(self.gpu(index))

    def sample_with(self, index: int, metric: str, device: Device | None = None) -> Sample:
        """The first sample that has the metric, of the GPU if of no other device."""
        device = device or self.gpu(index)[0]
        while True:
            sample = self.sample(index)
            if any(m.metric == metric and m.device == device.id for m in sample.measured):
                return sample


@pytest.fixture
def node(tmp_path: Path, double: NvmlDouble) -> Node:
    return Node(tmp_path)


def test_every_value_is_its_own(node: Node) -> None:
    (gpu,) = node.gpu(0)
    shown = values_of(node.sample(0), gpu.id)
    assert shown.keys() == WHOLE.keys()
    assert shown == pytest.approx(WHOLE)


@pytest.mark.parametrize(
    ("bit", "reason"),
    [
        (0x04, "power_cap"),
        (0x08, "hw_slowdown"),
        (0x10, "sync_boost"),
        (0x20, "sw_thermal"),
        (0x40, "hw_thermal"),
        (0x80, "power_brake"),
        (0x01, None),
        (0x02, None),
    ],
)
def test_each_reason_to_slow_down_is_its_own(
    bit: int, reason: str | None, node: Node, double: NvmlDouble
) -> None:
    double.update_gpu(0, lambda gpu: replace(gpu, clocks_event_reasons=bit))
    shown = values_of(node.sample(0), node.gpu(0)[0].id)
    prefix = "throttled reason="
    stands = {n.removeprefix(prefix) for n, v in shown.items() if n.startswith(prefix) and v}
    assert stands == ({reason} if reason else set())


def test_rates_come_with_the_second_sample(node: Node) -> None:
    (gpu,) = node.gpu(0)
    sample = node.sample_with(0, "pcie_bytes_per_second")
    assert values_of(sample, gpu.id) == pytest.approx(WHOLE | RATES)


def test_what_a_gpu_does_not_have_is_absent(node: Node, double: NvmlDouble) -> None:
    double.update_gpu(
        0,
        lambda gpu: replace(
            gpu,
            **dict.fromkeys(("temperature_c", "power_usage_mw", "fan_speed_percent"), None),
            fields={},
            histogram=None,
            gpm=(),
        ),
    )
    shown = values_of(node.sample(0), node.gpu(0)[0].id)
    assert not [name for name in shown if "sensor=memory" in name and "limit" not in name]
    assert not {"power_watts", "fan_ratio fan=0", "row_banks spare=max"} & shown.keys()
    assert "temperature_celsius sensor=gpu" not in shown
    assert shown["power_limit_watts"] == 700


def test_a_field_that_is_not_there_is_asked_for_once(node: Node, double: NvmlDouble) -> None:
    fields = {number: value for number, value in FIELDS.items() if number != 82}
    double.update_gpu(0, lambda gpu: replace(gpu, fields=fields))
    node.sample(0)
    double.update_gpu(0, lambda gpu: replace(gpu, fields=FIELDS))
    shown = values_of(node.sample(0), node.gpu(0)[0].id)
    assert "temperature_celsius sensor=memory" not in shown
    assert shown["ecc_errors_total kind=corrected since=ever"] == 43


def test_an_instance_has_its_own_memory_and_engine(node: Node, double: NvmlDouble) -> None:
    _, first, second = node.gpu(1)
    counters = [
        Gpm(metric=1, value=value, gi=int(part.attributes["gpu_instance"]))
        for part, value in ((first, 40_000), (second, 75_000))
    ]
    double.update_gpu(1, lambda gpu: replace(gpu, gpm=tuple(counters)))
    sample = node.sample_with(1, "utilization_ratio", second)
    assert values_of(sample, first.id)["utilization_ratio engine=compute"] == pytest.approx(0.4)
    assert values_of(sample, second.id)["utilization_ratio engine=compute"] == pytest.approx(0.75)
    assert values_of(sample, first.id)["memory_total_bytes"] == first.memory_bytes
    assert values_of(sample, second.id)["memory_total_bytes"] == second.memory_bytes
    assert "power_watts" not in values_of(sample, first.id)


def test_an_instance_that_is_gone_costs_itself(node: Node, double: NvmlDouble) -> None:
    devices = node.gpu(1)
    double.set_mig(1, ["1g.5gb"])
    sample = node.vendor.sample(devices)
    assert set(sample.lost) == {device.id for device in devices[1:]}
    assert "power_watts" in values_of(sample, devices[0].id)


def test_a_lost_gpu_is_an_error(node: Node, double: NvmlDouble) -> None:
    double.lose(0)
    with pytest.raises(LibraryError):
        node.sample(0)


def test_processes_are_those_of_the_gpu_and_of_its_instances(
    node: Node, double: NvmlDouble
) -> None:
    whole, first, _ = node.gpu(1)
    gi, ci = (int(first.attributes[f"{part}_instance"]) for part in ("gpu", "compute"))
    one = Process(pid=31, memory=7, gi=gi, ci=ci)
    double.update_gpu(1, lambda gpu: replace(gpu, processes=(one,)))
    busy = (
        Process(pid=11, memory=5 * MIB, sm=60),
        Process(pid=12, memory=6 * MIB),
        Process(pid=11, memory=5 * MIB, graphics=True),
    )
    double.update_gpu(0, lambda gpu: replace(gpu, processes=busy))
    found = node.vendor.processes([*node.gpu(0), *node.gpu(1)])
    gpu = node.gpu(0)[0].id
    assert [(p.pid, p.device, p.memory_bytes, p.utilization_ratio) for p in found] == [
        (11, gpu, 5 * MIB, pytest.approx(0.6)),
        (12, gpu, 6 * MIB, 0.0),
        (31, first.id, 7, None),
    ]
    assert whole.id != first.id


@pytest.mark.slow
def test_a_child_process_measures_the_same(node: Node, double: NvmlDouble, tmp_path: Path) -> None:
    section = nvidia.SECTIONS["nvidia"](library_process=True)
    vendor = nvidia.create(Host(tmp_path), {"nvidia": section})
    try:
        vendor.discover()
        (gpu,) = node.gpu(0)
        assert values_of(vendor.sample([gpu]), gpu.id) == pytest.approx(WHOLE)
        assert vendor.processes([gpu]) == ()
    finally:
        vendor.close()
