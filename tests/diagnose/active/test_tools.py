"""How the vendors' tools are called, and what their output means."""

from pathlib import Path

import pytest

from deviceplugin.diagnose.active.kfd import parse_location, read_kfd_id
from deviceplugin.diagnose.active.tools import (
    Said,
    Target,
    installed,
    missing,
    parse_burn,
    parse_dcgm,
    parse_rvs,
    parse_xpu,
)
from deviceplugin.diagnose.active.values import Wish
from deviceplugin.host import Host
from tests.diagnose.active.outputs import BURN, BURN_FAULTY, DCGM, RVS, XPU
from tests.telemetry.values import write_files

TARGET = Target(address="0000:07:00.0", index=3, kfd=51234)
WISH = Wish(test="compute_test", seconds=600, threshold=0.9)


@pytest.mark.parametrize(
    ("vendor", "test", "command"),
    [
        ("nvidia", "memory_test", "/x/dcgmi diag -r memory -i 3 -j"),
        (
            "nvidia",
            "compute_test",
            "/x/dcgmi diag -r targeted_stress -p targeted_stress.test_duration=600 -i 3 -j",
        ),
        (
            "amd",
            "memory_test",
            "/x/rvs -c /opt/rocm/share/rocm-validation-suite/conf/mem.conf -i 51234",
        ),
        ("intel", "memory_test", "/x/xpu-smi diag -d 0000:07:00.0 --singletest 2,3"),
    ],
)
def test_a_tool_is_told_which_gpu_to_take(vendor: str, test: str, command: str) -> None:
    tool = installed(vendor, (), lambda name: f"/x/{name}")[0]
    assert tool.tests[test].command(tool.path, TARGET, WISH) == tuple(command.split())
    assert tool.tests[test].command(tool.path, Target(), WISH) is None


def test_gpu_burn_sees_one_gpu_and_is_told_where_its_kernel_is() -> None:
    (tool,) = installed("nvidia", ("gpu-burn",), lambda name: f"/x/{name}")
    command = tool.tests["compute_test"].command(tool.path, TARGET, WISH)
    assert command == ("/x/gpu_burn", "-c", "/x/compare.ptx", "600")
    assert "memory_test" not in tool.tests


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ((), ["dcgmi", "gpu_burn"]),
        (("gpu-burn", "dcgmi"), ["gpu_burn", "dcgmi"]),
        (("nvidia-smi", "cuda-memcheck", "stress-test"), []),
        (("rvs",), []),
    ],
)
def test_the_section_names_which_tools_are_used(named: tuple[str, ...], found: list[str]) -> None:
    tools = installed("nvidia", named, lambda name: f"/x/{name}")
    assert [tool.name for tool in tools] == found


def test_what_is_not_installed_is_not_used_and_its_lack_is_told() -> None:
    assert installed("amd", (), lambda _: None) == []
    assert missing("amd", None) == "needs rvs where this command runs"
    assert "libcuda.so.1, or dcgmi" in missing("nvidia", None)
    assert missing("acme", None) == "there is no test of acme's GPUs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DCGM.replace("STATUS", "Pass"), Said(passed=True)),
        ("a warning\n" + DCGM.replace("STATUS", "Fail"), Said(passed=False)),
        (DCGM.replace("STATUS", "Skip"), None),
        ("no", None),
        ("{}", None),
        ('{"DCGM Diagnostic": {"test_categories": [1, {"tests": {}}]}}', None),
    ],
)
def test_dcgm_is_read(text: str, said: Said | None) -> None:
    assert parse_dcgm(text) == said


def test_gpu_burn_is_read() -> None:
    assert parse_burn(BURN) == Said(passed=True, value=14.25)
    assert parse_burn(BURN_FAULTY) == Said(passed=False, value=14.1, wrong=12)
    assert parse_burn("Killed") is None


def test_rvs_is_read_by_its_results_alone() -> None:
    assert parse_rvs(RVS) == Said(passed=True, value=17.0)
    assert parse_rvs(RVS.replace("TRUE", "FALSE")) == Said(passed=False, value=17.0)
    assert parse_rvs("[INFO] met: TRUE") is None


def test_xpu_smi_is_read_over_the_lines_of_a_cell() -> None:
    assert parse_xpu(XPU) == Said(passed=True, value=11.120225)
    assert parse_xpu(XPU.replace("Result: Pass", "Result: Fail")).passed is False  # type: ignore[union-attr]  # else it fails
    assert parse_xpu("Error: Level Zero Initialization Error") is None


def test_the_id_in_the_kfd_is_found_by_its_place(tmp_path: Path) -> None:
    nodes = "/sys/class/kfd/kfd/topology/nodes"
    files = {
        f"{nodes}/0/properties": "location_id 0\ndomain 0\n",
        f"{nodes}/0/gpu_id": "0\n",
        f"{nodes}/1/properties": "simd_count 4\nlocation_id 1792\ndomain 0\n",
        f"{nodes}/1/gpu_id": "51234\n",
    }
    write_files(tmp_path, files)
    assert read_kfd_id(Host(tmp_path), "0000:07:00.0") == 51234
    assert read_kfd_id(Host(tmp_path), "0000:08:00.0") is None
    assert read_kfd_id(Host(tmp_path / "none"), "0000:07:00.0") is None
    again = {
        f"{nodes}/2/properties": "location_id 1792\ndomain 0\n",
        f"{nodes}/2/gpu_id": "51235\n",
    }
    write_files(tmp_path, again)
    assert read_kfd_id(Host(tmp_path), "0000:07:00.0") is None, "a partitioned GPU has several"


def test_a_location_is_bus_device_and_function() -> None:
    assert parse_location("0001:C1:02.3") == (1, 0xC1 << 8 | 2 << 3 | 3)
    assert parse_location("07:00.0") is None
