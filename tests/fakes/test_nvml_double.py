"""Facts about the NVML double, as the real pynvml sees them from a process of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.fakes.nvml import (
    Fabric,
    NvmlDouble,
    RemappedRows,
    SramErrors,
    gi_minor,
    with_nvlink_pairs,
    with_nvswitch,
    write_host_tree,
)
from tests.fakes.nvml_probe import Probe, probing

pytestmark = pytest.mark.slow


def test_calls_before_init_are_refused(double: NvmlDouble) -> None:
    with probing(double.library) as probe:
        assert probe("DeviceGetCount()") == "NVML 1"


@pytest.mark.parametrize("code", [9, 18, 999])
def test_init_fails_as_the_scenario_says_and_works_once_it_stops(
    double: NvmlDouble, code: int
) -> None:
    double.update(lambda scenario: replace(scenario, init_code=code))
    with probing(double.library) as probe:
        assert probe("Init()") == f"NVML {code}"
        double.update(lambda scenario: replace(scenario, init_code=0))
        assert probe("Init()") == "None"


def test_an_error_line_can_fail_init(double: NvmlDouble) -> None:
    double.fail("nvmlInit*", 9)
    with probing(double.library) as probe:
        assert probe("Init()") == "NVML 9"
        double.clear_faults()
        assert probe("Init()") == "None"


def test_gpus_are_enumerated(probe: Probe) -> None:
    assert probe("DeviceGetCount()") == "4"
    assert probe("DeviceGetUUID(h)") == "'GPU-33333333-3333-3333-3333-333333333333'"
    assert probe("DeviceGetName(h)") == "'NVIDIA A100-SXM4-40GB'"
    assert probe("DeviceGetPciInfo(h).busId") == "'00000000:1F:00.0'"
    assert probe("DeviceGetMinorNumber(h)") == "3"
    assert probe("DeviceGetMemoryInfo(h).total") == "42298834944"
    assert probe("DeviceGetMemoryInfo(h, version=nvmlMemory_v2).free") == "42298834944"
    assert probe("DeviceGetCudaComputeCapability(h)") == "(8, 0)"
    assert probe("SystemGetDriverVersion()") == "'550.163.01'"
    assert probe("SystemGetCudaDriverVersion_v2()") == "12040"


@pytest.mark.parametrize(
    "find",
    [
        "DeviceGetHandleByUUID(b'GPU-33333333-3333-3333-3333-333333333333')",
        "DeviceGetHandleByPciBusId(b'0000:1f:00.0')",
    ],
    ids=["uuid", "pci"],
)
def test_a_gpu_has_one_handle_however_it_is_found(probe: Probe, find: str) -> None:
    assert probe(f"DeviceGetIndex({find})") == "3"
    address = "ctypes.cast({}, ctypes.c_void_p).value"
    assert probe(f"{address.format(find)} == {address.format('h')}") == "True"


@pytest.mark.parametrize(
    "reading",
    ["DeviceGetFanSpeed(h)", "DeviceGetGpuFabricInfo(h, byref(c_nvmlGpuFabricInfo_t()))"],
)
def test_a_value_the_scenario_lacks_is_not_supported(probe: Probe, reading: str) -> None:
    assert probe(reading) == "NVML 3"


def test_health_readings_follow_the_scenario(double: NvmlDouble, probe: Probe) -> None:
    changed: dict[str, Any] = {  # fields of a GPU
        "remapped": RemappedRows(uncorrected=2, pending=True),
        "sram": SramErrors(threshold_exceeded=True),
        "recovery_action": 2,
        "clocks_event_reasons": 0x40,
        "fabric": Fabric(clique=7),
        "retired_double": 3,
    }
    double.update_gpu(3, lambda gpu: replace(gpu, **changed))
    assert probe("DeviceGetRemappedRows(h)") == "(0, 2, 1, 0)"
    assert probe("DeviceGetRowRemapperHistogram(h).max") == "640"
    assert probe("DeviceGetTotalEccErrors(h, 1, 0)") == "0"
    assert probe("DeviceGetCurrentClocksEventReasons(h)") == "64"
    assert probe("len(DeviceGetRetiredPages(h, 1))") == "3"
    fields = "[(v.nvmlReturn, v.value.uiVal) for v in DeviceGetFieldValues(h, [230, 144, 9999])]"
    assert probe(fields) == "[(0, 2), (0, 1), (3, 0)]"
    probe("sram = c_nvmlEccSramErrorStatus_v1_t()")
    assert (
        probe("(DeviceGetSramEccErrorStatus(h, byref(sram)), sram.bThresholdExceeded)") == "(0, 1)"
    )
    probe("fabric = c_nvmlGpuFabricInfo_v2_t()")
    assert probe("(DeviceGetGpuFabricInfoV(h, byref(fabric)), fabric.cliqueId)") == "(0, 7)"


def test_links_end_at_the_switch_or_at_the_peer(double: NvmlDouble, probe: Probe) -> None:
    gpus = double.scenario.gpus
    double.update(lambda scenario: replace(scenario, gpus=with_nvswitch(gpus)))
    assert probe("DeviceGetNvLinkState(h, 11)") == "1"
    assert probe("DeviceGetNvLinkRemoteDeviceType(h, 11)") == "2"
    assert probe("DeviceGetNvLinkState(h, 12)") == "NVML 3"
    wired = with_nvlink_pairs(gpus, [(2, 3)], links=2)
    double.update(lambda scenario: replace(scenario, gpus=wired, ancestors={(2, 3): 10}))
    assert probe("DeviceGetNvLinkRemotePciInfo(h, 1).busId") == "'00000000:17:00.0'"
    pair = "DeviceGetTopologyCommonAncestor(h, DeviceGetHandleByIndex({}))"
    assert [probe(pair.format(index)) for index in (0, 2)] == ["40", "10"]


def test_a_lost_gpu_fails_alone_and_comes_back(double: NvmlDouble, probe: Probe) -> None:
    double.lose(3)
    assert probe("DeviceGetCount()") == "4"
    assert probe("DeviceGetHandleByIndex(3)") == "NVML 15"
    assert probe("DeviceGetTemperature(h, 0)") == "NVML 15"
    assert probe("DeviceGetIndex(DeviceGetHandleByIndex(2))") == "2"
    double.recover(3)
    assert probe("DeviceGetTemperature(h, 0)") == "34"


def test_an_error_can_spare_handles_or_hit_one_function_of_all_gpus(
    double: NvmlDouble, probe: Probe
) -> None:
    double.fail("*", 16, gpu=3, except_for="nvmlDeviceGetHandleBy*")
    assert probe("DeviceGetIndex(DeviceGetHandleByIndex(3))") == "NVML 16"
    assert probe("DeviceGetHandleByIndex(3) is None") == "False"
    double.clear_faults()
    double.fail("nvmlDeviceGetMigMode", 999)
    assert probe("DeviceGetMigMode(DeviceGetHandleByIndex(0))") == "NVML 999"


def test_a_removed_gpu_is_not_counted_and_its_handle_is_lost(
    double: NvmlDouble, probe: Probe
) -> None:
    double.remove(1)
    assert probe("DeviceGetCount()") == "3"
    assert probe("DeviceGetIndex(h)") == "2"
    double.remove(3)
    assert probe("DeviceGetUUID(h)") == "NVML 15"


def test_a_hanging_call_returns_once_the_hang_is_lifted(double: NvmlDouble, probe: Probe) -> None:
    double.hang("nvmlDeviceGetMemoryInfo", gpu=3)
    thread = "threading.Thread(target=lambda: done.append(DeviceGetMemoryInfo(h).used))"
    probe("import threading; done = []")
    probe(f"t = {thread}; t.start()")
    assert probe("t.join(0.1) or (t.is_alive(), DeviceGetCount(), done)") == "(True, 4, [])"
    double.unhang()
    assert probe("t.join() or done") == "[0]"


def test_a_slow_call_takes_its_time(double: NvmlDouble, probe: Probe) -> None:
    double.slow("nvmlDeviceGetCount", ms=80)
    before = time.monotonic()
    assert probe("DeviceGetCount()") == "4"
    assert time.monotonic() - before >= 0.08


def test_events_come_only_after_registration_and_by_mask(double: NvmlDouble, probe: Probe) -> None:
    double.raise_event(3, xid=31)
    probe("s = EventSetCreate(); DeviceRegisterEvents(h, 0x8, s)")
    double.raise_event(2, xid=48)
    double.raise_event(3, xid=0, type=0x100)
    double.raise_event(3, xid=79, gi=1, ci=0)
    probe("e = EventSetWait_v2(s, 5000)")
    event = "(e.eventType, e.eventData, e.gpuInstanceId, e.computeInstanceId)"
    assert probe(event) == "(8, 79, 1, 0)"
    assert probe("DeviceGetIndex(e.device)") == "3"
    assert probe("EventSetWait_v2(s, 0)") == "NVML 10"


def test_every_event_set_gets_each_event(double: NvmlDouble, probe: Probe) -> None:
    for name in ("a", "b"):
        probe(f"{name} = EventSetCreate(); DeviceRegisterEvents(h, 0x8, {name})")
    probe.start("EventSetWait_v2(a, 60000).eventData")
    double.raise_event(3, xid=94)
    assert probe.answer() == "94"
    assert probe("EventSetWait_v2(b, 0).eventData") == "94"


def test_a_wait_fails_when_an_error_line_says_so(double: NvmlDouble, probe: Probe) -> None:
    probe("s = EventSetCreate(); DeviceRegisterEvents(h, 0x8, s)")
    probe.start("EventSetWait_v2(s, 60000)")
    double.fail("nvmlEventSetWait", 15)
    assert probe.answer() == "NVML 15"


def test_unsupported_event_types_are_refused(double: NvmlDouble, probe: Probe) -> None:
    assert probe("DeviceRegisterEvents(h, 1 << 40, EventSetCreate())") == "NVML 3"


@pytest.mark.parametrize(
    "line", ["gpu uuid=GPU-1", "gpu gpu=0 uuid=x colour=red", "gpus gpu=0", "error code=1"]
)
def test_a_wrong_line_aborts_with_one_line_on_stderr(double: NvmlDouble, line: str) -> None:
    (double.folder / "nvml-scenario").write_text(f"system init=0\n{line}\n")
    load = f"import ctypes; ctypes.CDLL({str(double.library)!r}).nvmlInit_v2()"
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=False)
    assert done.returncode == -6
    assert done.stderr.startswith("nvml double: ")
    assert line in done.stderr


def test_the_host_tree_has_what_discovery_reads(double: NvmlDouble, tmp_path: Path) -> None:
    double.set_mig(3, ["1g.5gb", "1g.5gb"])
    write_host_tree(tmp_path, double.scenario)
    pci = tmp_path / "sys/bus/pci/devices/0000:1f:00.0"
    assert (pci / "vendor").read_text() == "0x10de\n"
    minors = (tmp_path / "proc/driver/nvidia-caps/mig-minors").read_text().splitlines()
    assert "gpu3/gi8/access 480" in minors
    assert gi_minor(31, 14) + 8 == 4322
    assert {"nvidia-cap480", "nvidia-cap481"} <= set(os.listdir(tmp_path / "dev/nvidia-caps"))
    assert (double.folder / "libcuda.so.1").resolve().name == "libcuda.so.550.163.01"
