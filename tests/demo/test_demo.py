"""The demo as a person starts it: each scenario to its end."""

import re
import signal
import subprocess
import sys

import pytest

from tests.rig import environment, fetch, run_command

LINES = {
    "nvidia": (
        "Simulated node: 8 NVIDIA A100",
        "NVIDIA_VISIBLE_DEVICES=GPU-",
        "allocatable nvidia.com/gpu 6 -> 5",
    ),
    "amd": (
        "Simulated node: one AMD MI300X whole",
        "/dev/kfd (rw)",
        "Simulated: The administrator switches 0000:27:00.0 from CPX to SPX:",
        "allocatable amd.com/cpx_nps4 8 -> 0",
        "allocatable amd.com/cpx_nps4 0 -> 8",
    ),
    "intel": (
        "Simulated node: one Intel Arc Pro B60 whole",
        "INTEL_XE_MEMORY=4GiB",
        "Simulated: The administrator writes 6 to sriov_numvfs of 0000:b4:00.0:",
        "allocatable intel.com/xe-4gb 4 -> 10",
        "allocatable intel.com/gpu 0 -> 1",
    ),
    "partitions": (
        "Simulated node: two AMD MI300X and an Intel Arc Pro B60",
        "`deviceplugin provision` starts",
        "allocatable amd.com/gpu 2 -> 1",
        "allocatable amd.com/cpx_nps1 0 -> 8",
        "allocatable intel.com/xe-4gb 0 -> 4",
    ),
    "mixed": (
        "three vendors, one daemon",
        "A pod asks for nvidia.com/mig-1g.5gb: 1, amd.com/mxgpu-4gb: 1, intel.com/xe-4gb: 1",
        "Simulated: NVIDIA's driver fails",
        "allocatable nvidia.com/gpu 6 -> 0",
        "A pod asks for amd.com/mxgpu-4gb: 1, intel.com/xe-4gb: 1; its container gets:",
        "allocatable nvidia.com/gpu 0 -> 6",
    ),
}


@pytest.mark.parametrize("scenario", LINES)
def test_a_scenario_runs_to_its_end(scenario: str) -> None:
    ended = run_command("demo", "--scenario", scenario)
    assert (ended.returncode, ended.stderr) == (0, "")
    for line in (
        *LINES[scenario],
        "(nothing here is real hardware)",
        "pods killed by the restart: 0",
    ):
        assert line in ended.stdout


def test_an_unknown_scenario_names_the_known_ones() -> None:
    ended = run_command("demo", "--scenario", "matrox")
    assert ended.returncode == 2
    assert "mixed, nvidia, amd, intel, partitions" in ended.stderr


def test_a_kept_node_says_where_its_page_is() -> None:
    heard = ("env", "--default-signal=INT")  # what runs in the background may ignore it
    command = [*heard, sys.executable, "-u", "-m", "deviceplugin", "demo", "--keep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as demo:
        try:
            assert demo.stdout is not None
            (url,) = next(f for line in demo.stdout if (f := re.findall(r"http://\S+/", line)))
            status, page = fetch(url)
        finally:
            demo.send_signal(signal.SIGINT)
    assert status == 200
    for profile in ("1g.5gb", "mxgpu-4gb", "xe-4gb", "default/trainer"):
        assert profile in page
