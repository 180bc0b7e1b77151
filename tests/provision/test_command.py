"""`deviceplugin provision --dry-run`: the plan as table and as JSON; nothing is changed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deviceplugin.testing.amd import MI300X, SimulatedGpu, write_amd_node
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, h200, write_host_tree
from tests.rig import run_command

pytestmark = pytest.mark.slow

SMALL = ("seat", "section", "service")  # to know that it is off

LAYOUTS = """
partitions:
  - select: {product: H200}
    mig: {3g.71gb: 1, 1g.18gb: 2}
  - select: {product: A100}
    mig: {1g.5gb: 7}
"""


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=(h200(0), a100_40gb(1))))
    write_host_tree(tmp_path, double.scenario)
    layouts = tmp_path / "layouts.yaml"
    layouts.write_text(LAYOUTS)
    places = {"--host-root": tmp_path, "--state-dir": tmp_path / "state", "--layouts": layouts}
    return [f"{flag}={value}" for flag, value in places.items()]


def test_the_plan_is_shown_and_nothing_is_changed(flags: list[str], tmp_path: Path) -> None:
    scenario = (tmp_path / "usr/lib64/nvml-scenario").read_bytes()
    done = run_command("provision", "--dry-run", *flags)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["GPU", "PRODUCT", "WISH", "STATE"]
    assert lines[1].split()[:4] == ["nvidia", "0", "NVIDIA", "H200"]
    assert "  1. turn MIG mode on" in lines
    assert "  2. make 3g.71gb at 4" in lines
    assert "only by a reset of the GPU" in done.stdout
    assert (tmp_path / "usr/lib64/nvml-scenario").read_bytes() == scenario
    assert not (tmp_path / "state").exists()


def test_the_plan_is_a_document_too(flags: list[str]) -> None:
    done = run_command("provision", "--dry-run", "--format=json", *flags)
    document = json.loads(done.stdout)
    first, second = document["gpus"]
    assert (first["state"], second["state"]) == ("change", "refused")
    assert first["steps"][0] == {
        "do": "mig_mode",
        "name": None,
        "number": 1,
        "text": "turn MIG mode on",
    }
    assert document["problems"] == []


def test_layouts_of_a_file_are_planned_and_never_made(flags: list[str]) -> None:
    done = run_command("provision", *flags)
    assert done.returncode == 2
    assert "--dry-run" in done.stderr


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "not allowed"])
def test_a_driver_is_planned_to_be_loaded_again_where_that_is_allowed(
    tmp_path: Path, *, allowed: bool
) -> None:
    write_amd_node(tmp_path, [SimulatedGpu(address="0000:63:00.0", model=MI300X)])
    layouts = tmp_path / "layouts.yaml"
    layouts.write_text("partitions: [{compute: QPX, memory: NPS4}]")
    places = {"--host-root": tmp_path, "--state-dir": tmp_path / "state", "--layouts": layouts}
    flags = [f"{flag}={value}" for flag, value in places.items()]
    flags += ["--reload-drivers"] if allowed else []
    text = run_command("provision", "--dry-run", "--vendors=amd", *flags).stdout
    step = "the driver of 1 GPU is loaded again, then 1 in QPX"
    assert (step in text) == allowed
    assert ("deviceplugin provision --reload-drivers" in text) != allowed


def test_a_daemon_that_does_not_partition_imports_none_of_it() -> None:
    code = (
        "import sys, deviceplugin.run, deviceplugin.daemon.assembly, deviceplugin.config.load;"
        "print(sorted(name for name in sys.modules if 'provision' in name or 'partitioning' in name"
        " or name.endswith(('vendor.partitions', 'host.attributes', 'host.openers'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = ["deviceplugin.provision", *(f"deviceplugin.provision.{n}" for n in SMALL)]
    assert done.stdout.strip() == str(loaded)
