"""What tools say that they measure, and when that is not what we measure."""

import json
from pathlib import Path

import pytest

from deviceplugin.testing.hardware.values import (
    QUANTITIES,
    compared,
    of_amd_smi,
    of_nvidia_smi,
    of_page,
    of_xpu_smi,
    xpu_devices,
)
from deviceplugin.testing.hardware.verdict import Verdict

GPU = "0000:05:00.0"
CAPTURES = Path(__file__).parents[2] / "captures"
SAID = {"temperature": 61.0, "power": 630.0, "memory used": 300 << 20, "utilisation": 0.64}
PAGE = """
deviceplugin_gpu_temperature_celsius{pci="0000:05:00.0",partition="",sensor="hotspot"} 99.0
deviceplugin_gpu_temperature_celsius{pci="0000:05:00.0",partition="",sensor="gpu"} 61.0
deviceplugin_gpu_power_watts{pci="0000:05:00.0",partition=""} 630.0
deviceplugin_gpu_memory_used_bytes{pci="0000:05:00.0",partition=""} 314572800.0
deviceplugin_gpu_memory_used_bytes{pci="0000:05:00.0",partition="0:1"} 5.0
deviceplugin_gpu_utilization_ratio{pci="0000:05:00.0",partition="",engine="memory"} 0.1
deviceplugin_gpu_utilization_ratio{pci="0000:05:00.0",partition="",engine="compute"} 0.64
"""


def value(number: float, unit: str) -> dict[str, object]:
    return {"value": number, "unit": unit}


ROW = {
    "gpu": 3,
    "usage": {"gfx_activity": value(64, "%"), "umc_activity": value(1, "%")},
    "power": {"socket_power": value(630, "W"), "gfx_voltage": "N/A"},
    "temperature": {"edge": "N/A", "hotspot": value(61, "C"), "mem": value(2, "C")},
    "mem_usage": {"total_vram": value(9, "MB"), "used_vram": value(300, "MB")},
}
LISTED = [
    {"gpu": 3, "bdf": GPU, "partition_id": 0},
    {"gpu": 4, "bdf": "0000:05:00.1", "partition_id": 1},
]
DUMP = """Timestamp, DeviceId, GPU Utilization (%), GPU Power (W), \
GPU Core Temperature (Celsius Degree), GPU Memory Used (MiB)
22:00:00.000,    0, 64.00, 630.00, 61.00, 300.00
22:00:00.000,    7, 1.00, 1.00, 1.00, 1.00
"""


def test_our_page_has_the_values_of_whole_gpus() -> None:
    assert of_page(PAGE) == {GPU: SAID}


@pytest.mark.parametrize("wrapped", [False, True], ids=["rocm-6", "rocm-7"])
def test_amd_smi_measures(wrapped: bool) -> None:  # a column
    metric: object = [ROW, {**ROW, "gpu": 4}]
    text = json.dumps({"gpu_data": metric} if wrapped else metric)
    assert of_amd_smi(text, json.dumps(LISTED)) == {GPU: SAID}


def test_xpu_smi_measures() -> None:
    discovery = json.dumps({"device_list": [{"device_id": 0, "pci_bdf_address": GPU}]})
    assert of_xpu_smi(DUMP, xpu_devices(discovery)) == {GPU: SAID}
    unknown = DUMP.replace("61.00", "N/A")
    assert "temperature" not in of_xpu_smi(unknown, {"0": GPU})[GPU]


def test_a_real_nvidia_smi_measures() -> None:
    text = (CAPTURES / "nvidia-h200-x1-580.159.04/nvidia-smi-q-x.txt").read_text()
    (values,) = of_nvidia_smi(text).values()
    assert values == {
        "temperature": 34,
        "power": 78.91,
        "memory used": 0,
        "utilisation": 0,
    }


@pytest.mark.parametrize("text", ["", "<", "[", "a,b"])
def test_what_cannot_be_read_is_a_value_error(text: str) -> None:
    for read in (of_nvidia_smi, lambda t: of_amd_smi(t, "[]"), lambda t: of_xpu_smi(t, {})):
        if text == "[" or read is of_nvidia_smi:
            with pytest.raises(ValueError, match=r"\S"):
                read(text)


APART = {
    "temperature": (5.5, 4.5),
    "power": (90.0, 70.0),
    "memory used": (90 << 20, 70 << 20),
    "utilisation": (0.3, 0.2),
}


@pytest.mark.parametrize("name", QUANTITIES)
def test_values_may_be_a_tolerance_apart_and_no_more(name: str) -> None:
    far, near = APART[name]
    ours = {GPU: SAID}
    for apart, verdict in ((far, Verdict.DIFFER), (near, Verdict.AGREE)):
        theirs = {GPU: SAID | {name: SAID[name] - apart}}
        checks = {check.name: check.verdict for check in compared("x", theirs, ours, ours)}
        assert checks.pop(f"x: {name} measured") is verdict
        assert set(checks.values()) == {Verdict.AGREE}


def test_what_changes_meanwhile_may_be_anything_in_between() -> None:
    ours = ({GPU: SAID}, {GPU: SAID | {"power": 100.0}})
    theirs = {GPU: SAID | {"power": 300.0}}
    assert {check.verdict for check in compared("x", theirs, *ours)} == {Verdict.AGREE}


def test_what_one_of_us_does_not_say_is_not_compared() -> None:
    theirs = {GPU: {"power": 1.0, "temperature": 60.0}}
    ours = {GPU: {"temperature": 61.0}}
    told = {check.name: check for check in compared("x", theirs, ours, ours)}
    assert told["x: power measured"].details == ("we do not measure it",)
    assert told["x: utilisation measured"].details == ("it does not say it",)
    assert told["x: temperature measured"].verdict is Verdict.AGREE
