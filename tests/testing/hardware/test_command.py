"""The command on simulated machines, with scripts in place of the vendors' tools."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.testing.amd import DEMO_GPUS, write_amd_node
from deviceplugin.testing.hardware.command import NO_GPU_STATUS, main
from deviceplugin.testing.hardware.daemon import Running
from deviceplugin.testing.hardware.steps import Steps
from deviceplugin.testing.intel import B60, write_intel_node
from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import NvmlDouble
from tests.testing.hardware.conftest import Install, matrix, nvidia_smi_xml

pytestmark = pytest.mark.slow
TOPOLOGY = matrix([["X", "NODE", "NODE"], ["NODE", "X", "NODE"], ["NODE", "NODE", "X"]])
AMD_SMI = json.dumps(
    [
        {"gpu": 0, "bdf": "0000:05:00.0", "uuid": "00000000-0000-0000-0000-1", "partition_id": 0},
        *(
            {"gpu": n + 1, "bdf": f"0000:27:00.{n}", "uuid": "x", "partition_id": n}
            for n in range(8)
        ),
    ]
)
XPU_SMI = json.dumps(
    {
        "device_list": [
            {
                "device_function_type": "physical",
                "device_id": 0,
                "device_name": "Intel Arc Pro B60",
                "drm_device": "/dev/dri/card60",
                "pci_bdf_address": "0000:04:00.0",
            }
        ]
    }
)


@pytest.fixture
def host(tmp_path: Path, programs: Path) -> Path:
    root = tmp_path / "host"
    root.mkdir(exist_ok=True)
    return root


def run(host: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, str]]:
    """The exit status, and each check's verdict with its details."""
    status = main(["--host-root", str(host), "--watch", "0.2", "--format", "json", *more])
    checks = json.loads(capsys.readouterr().out)
    return status, {c["check"]: ": ".join([c["verdict"], *c["details"]]) for c in checks}


def differing(checks: dict[str, str]) -> dict[str, str]:
    return {name: told for name, told in checks.items() if told.startswith("differ")}


def test_an_nvidia_machine_agrees_with_nvidia_smi(
    a100s: NvmlDouble,
    host: Path,
    install: Install,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    xml = nvidia_smi_xml(a100s.scenario.gpus)
    install("nvidia-smi", **{"q-x": xml, "topo-m": TOPOLOGY})
    status, checks = run(host, capsys, "--captures", str(tmp_path / "captures"), "--name", "three")
    assert (status, differing(checks)) == (0, {})
    assert checks["registration"].startswith("agree: nvidia.com/gpu 2, nvidia.com/mig-1g.5gb 1")
    assert checks["Allocate nvidia.com/gpu"] == "agree: 1 and 2 of 2; NVIDIA_VISIBLE_DEVICES"
    assert checks["preferred nvidia.com/gpu"] == "agree: of 1, 2"
    assert checks["health watch"] == "agree: no change in 0.2 s; 4 Healthy, 0 Unhealthy"
    assert checks["nvidia-smi: links"] == "agree: NODE"
    assert checks["nvidia-smi: partitions"] == "agree: 2 in all"
    assert checks["nvidia-smi: temperature measured"].startswith("agree: ")
    assert " °C beside " in checks["nvidia-smi: temperature measured"]
    assert checks["settings unchanged"] == "agree: 18 settings"
    capture = tmp_path / "captures/three"
    kept = "".join(path.read_text() for path in capture.iterdir())
    for gpu in a100s.scenario.gpus:
        assert gpu.uuid not in kept
        assert gpu.serial is not None
        assert gpu.serial not in kept
    assert "/home/ada/secret" not in kept
    assert "0000:07:00.0" in kept
    about = json.loads((capture / "capture.json").read_text())
    assert about["redacted"] == {"UUID": 5, "host name": 1, "serial number": 3}


def test_an_amd_and_intel_machine_agrees_with_its_tools(
    host: Path, install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_amd_node(host, DEMO_GPUS)
    write_intel_node(host, replace(B60, card=60, render=190, group=300))
    install("amd-smi", **{"list-json": AMD_SMI})
    install("xpu-smi", **{"discovery-j": XPU_SMI})
    status, checks = run(host, capsys, "--captures", str(tmp_path / "captures"))
    assert (status, differing(checks)) == (0, {})
    assert checks["amd-smi: partitions"] == "agree: 9 in all"
    assert checks["amd-smi: memory"] == "not available: it does not say it"
    assert checks["xpu-smi: minor"] == "agree: /dev/dri/card60"
    assert checks["capture"].startswith("agree: ")
    assert "nvidia-smi" not in " ".join(checks)


def test_a_machine_that_differs_is_told_and_ends_with_status_1(
    a100s: NvmlDouble, host: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    xml = nvidia_smi_xml(a100s.scenario.gpus[:2], total="81920 MiB")
    later = nvidia_smi_xml(a100s.scenario.gpus[:2], persistence_mode="Disabled", gpu_temp="99 C")
    install("nvidia-smi", **{"q-x": xml, "q-x.later": later})
    status, checks = run(host, capsys)
    assert status == 1
    assert differing(checks).keys() == {
        "nvidia-smi: count",
        "nvidia-smi: PCI address",
        "nvidia-smi: memory",
        "nvidia-smi: temperature measured",
        "settings unchanged",
    }
    assert "was Enabled and is Disabled" in checks["settings unchanged"]


def test_a_gpu_without_its_driver_differs(
    host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/sys/bus/pci/devices/0000:07:00.0"
    write_tree(host, f"{path}/vendor = 0x10de\n{path}/device = 0x20b0\n{path}/class = 0x030200")
    status, checks = run(host, capsys, "--captures", str(tmp_path / "captures"))
    assert status == 1
    assert differing(checks).keys() == {"discover"}
    assert checks["discover"].startswith("differ: 0000:07:00.0 (nvidia) is not found: ")
    assert "libnvidia-ml.so.1" in checks["discover"]
    assert checks["capture"] == "not available: no driver that could be asked"
    assert not (tmp_path / "captures").exists()


def test_a_directory_that_is_no_capture_is_left_alone(
    host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_intel_node(host, B60)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    status, checks = run(host, capsys, "--captures", str(tmp_path), "--name", "mine")
    assert status == 1
    assert checks["capture"] == f"differ: {tmp_path}/mine: it has files and is no capture"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_capture_is_made_again_in_its_place(
    host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_intel_node(host, B60)
    for old in ("again", "again"):
        status, _ = run(host, capsys, "--captures", str(tmp_path), "--name", old)
        assert status == 0
        assert not (tmp_path / "again/amd.tree").exists()
        (tmp_path / "again/amd.tree").write_text("")


async def test_a_daemon_that_ends_at_once_does_not_serve(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"event": "vendor_failed", "level": "error"}\n')
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])  # noqa: ASYNC220  # it returns at once
    node = Running(stub=KubeletStub(tmp_path), process=process, log=tmp_path / "log")
    steps = Steps(node, {}, {}, tmp_path, 0.0)
    first, log = await steps.take()
    assert first.details == ("the daemon did not start",)
    assert log.details == ("vendor_failed: ",)


def test_a_lost_gpu_is_unhealthy_in_both_and_its_fault_is_shown(
    a100s: NvmlDouble, host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a100s.lose(1)
    _, checks = run(host, capsys)
    assert checks["discover"].startswith("agree: ")
    assert "GPU is lost" in checks["discover"]
    assert checks["nvidia-smi"] == "not available: nvidia-smi is not installed"


def test_a_library_that_crashes_costs_no_verdict(
    a100s: NvmlDouble, host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a100s.crash("nvmlDeviceGetUtilizationRates")
    status, checks = run(host, capsys, "--captures", str(tmp_path / "captures"))
    assert status == 1
    # It crashes where it is measured: the daemon that measures, and the recorder.
    assert differing(checks).keys() == {"telemetry", "end", "capture"}
    assert "ended with status -11" in checks["capture"]


def test_a_machine_without_a_gpu_says_so_in_one_line(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--host-root", str(host)]) == NO_GPU_STATUS
    assert capsys.readouterr().out == (
        "no GPU on this machine: none on the PCI bus, no driver tells of any\n"
    )


def test_the_text_is_a_table(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_intel_node(host, B60)
    assert main(["--host-root", str(host), "--watch", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "discover                 agree          1 devices"
    assert lines[-1] == "7 agree, 0 differ, 3 not available"
