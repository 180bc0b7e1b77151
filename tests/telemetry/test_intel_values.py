"""Each file of xe and i915 has a number of its own here: one that is taken for another is seen."""

from pathlib import Path

import pytest

from deviceplugin.host import Host
from deviceplugin.host.pci import DEVICES
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendors.intel.telemetry import Meter
from tests.telemetry.test_amd_values import open_node
from tests.telemetry.values import values_of, write_files

BDF = "0000:04:00.0"
D = f"{DEVICES}/{BDF}"
GPU = Device(id=DeviceID(BDF), vendor="intel", pci_address=BDF, memory_bytes=24 << 30, ecc=False)
XE = {
    "hwmon/hwmon3/name": "xe",
    "hwmon/hwmon3/temp2_input": 48_000,
    "hwmon/hwmon3/temp2_crit": 100_000,
    "hwmon/hwmon3/temp3_input": 52_000,
    "hwmon/hwmon3/energy1_input": 812_000_000,
    "hwmon/hwmon3/power1_max": 200_000_000,
    "hwmon/hwmon3/fan1_input": 900,
    "tile0/gt0/freq0/act_freq": 2400,
    "tile0/gt0/gtidle/idle_residency_ms": 5000,
    "tile0/gt0/freq0/throttle/status": 1,
    "tile0/gt0/freq0/throttle/reason_pl1": 1,
    "tile0/gt0/freq0/throttle/reason_thermal": 0,
}
SHOWN = {
    "temperature_celsius sensor=gpu": 48,
    "temperature_celsius sensor=memory": 52,
    "temperature_limit_celsius sensor=gpu limit=slowdown": 100,
    "energy_joules_total": 812,
    "power_limit_watts": 200,
    "fan_rpm fan=1": 900,
    "clock_hertz clock=graphics": 2.4e9,
    "throttled reason=pl1": 1,
    "throttled reason=thermal": 0,
    "memory_total_bytes": 24 << 30,
    "ecc_enabled": 0,
}


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def write(root: Path, **files: object) -> None:
    write_files(root, {f"{D}/{name}": text for name, text in {**XE, **files}.items()})


def test_every_value_is_its_own(tmp_path: Path) -> None:
    write(tmp_path)
    assert values_of(Meter(Host(tmp_path)).sample([GPU]), GPU.id) == pytest.approx(SHOWN)


DIFFERENCES = {"power_watts": 150, "utilization_ratio engine=awake": 0.75}


def test_power_and_the_time_awake_are_differences(tmp_path: Path) -> None:
    clock = Clock()
    meter = Meter(Host(tmp_path), clock)
    write(tmp_path)
    meter.sample([GPU])
    clock.now += 10
    write(
        tmp_path,
        **{
            "hwmon/hwmon3/energy1_input": 2_312_000_000,
            "tile0/gt0/gtidle/idle_residency_ms": 7500,
        },
    )
    shown = values_of(meter.sample([GPU]), GPU.id)
    assert {name: shown[name] for name in DIFFERENCES} == pytest.approx(DIFFERENCES)


def test_a_counter_that_was_set_back_is_no_difference(tmp_path: Path) -> None:
    clock = Clock()
    meter = Meter(Host(tmp_path), clock)
    write(tmp_path)
    meter.sample([GPU])
    clock.now += 10
    write(tmp_path, **{"hwmon/hwmon3/energy1_input": 5})
    assert "power_watts" not in values_of(meter.sample([GPU]), GPU.id)


def test_i915_has_other_files(tmp_path: Path) -> None:
    files = {
        "hwmon/hwmon1/name": "i915",
        "hwmon/hwmon1/energy1_input": 1_000_000,
        "drm/card1/gt/gt0/rps_act_freq_mhz": 1550,
        "drm/card1/gt/gt0/throttle_reason_pl4": 1,
    }
    write_files(tmp_path, {f"{D}/{name}": text for name, text in files.items()})
    shown = values_of(Meter(Host(tmp_path)).sample([GPU]), GPU.id)
    assert shown["clock_hertz clock=graphics"] == 1.55e9
    assert shown["throttled reason=pl4"] == 1
    assert shown["energy_joules_total"] == 1


ERRORS = {
    "ecc_errors_total kind=corrected since=driver": 5,
    "ecc_errors_total kind=uncorrected since=driver": 320,
}


def test_intels_own_driver_counts_errors_of_each_gt(tmp_path: Path) -> None:
    files = {
        "gt0/error_counter/correctable_eu_grf": 1,
        "gt1/error_counter/correctable_guc": 4,
        "gt0/error_counter/fatal_slm": 20,
        "gt1/error_counter/fatal_guc": 300,
        "gt0/error_counter/engine_reset": 5000,
    }
    write_files(tmp_path, {f"{D}/drm/card1/gt/{name}": text for name, text in files.items()})
    shown = values_of(Meter(Host(tmp_path)).sample([GPU]), GPU.id)
    assert {name: shown[name] for name in ERRORS} == ERRORS


FDINFO = """drm-driver:\txe
drm-pdev:\t0000:04:00.0
drm-client-id:\t12
drm-total-vram0:\t900 KiB
drm-resident-vram0:\t700 KiB
drm-resident-system:\t5 KiB
drm-cycles-rcs:\t{busy}
drm-total-cycles-rcs:\t{total}
"""


def test_a_process_has_memory_and_a_part_of_the_cycles(tmp_path: Path) -> None:
    meter = Meter(Host(tmp_path))
    open_node(tmp_path, 200, 3, "/dev/dri/renderD128", FDINFO.format(busy=100, total=1000))
    (first,) = meter.processes([GPU])
    assert (first.memory_bytes, first.utilization_ratio) == (700 << 10, None)
    write_files(tmp_path, {"/proc/200/fdinfo/3": FDINFO.format(busy=400, total=2000)})
    (second,) = meter.processes([GPU])
    assert (second.pid, second.device) == (200, GPU.id)
    assert second.utilization_ratio == pytest.approx(0.3)
