"""Which profilers are there, and what they lack."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.cli.profile import tools_text
from deviceplugin.host import Host
from deviceplugin.profiling.tools import tools_document
from tests.telemetry.values import write_files

KERNEL = "/proc/sys/kernel"
RIGHT = {
    "/proc/driver/nvidia/params": "ResmanDebugLevel: 4294967295\nRmProfilingAdminOnly: 0\n",
    f"{KERNEL}/perf_event_paranoid": "1",
    f"{KERNEL}/yama/ptrace_scope": "0",
    "/proc/sys/dev/xe/observation_paranoid": "0",
    "/dev/kfd": "",
    "/opt/nvidia/nsight-systems/2025.1.1/bin/nsys": "",
    "/usr/local/cuda/bin/ncu": "",
    "/opt/rocm-6.4.0/bin/rocprofv3": "",
    "/usr/bin/nvidia-smi": "",
    "/opt/intel/oneapi/vtune/latest/bin64/vtune": "",
}
WRONG = {
    "/proc/driver/nvidia/params": "RmProfilingAdminOnly: 1",
    f"{KERNEL}/perf_event_paranoid": "4",
    f"{KERNEL}/yama/ptrace_scope": "1",
    "/proc/sys/dev/xe/observation_paranoid": "1",
}
REMEDIES = {
    "nvidia_counters": "NVreg_RestrictProfilingToAdminUsers=0",
    "perf_events": "sysctl -w kernel.perf_event_paranoid=2",
    "ptrace": "sysctl -w kernel.yama.ptrace_scope=0",
    "intel_counters": "sysctl -w dev.xe.observation_paranoid=0",
    "amd_compute": "load amdgpu",
}


def document(root: Path, files: Mapping[str, object], *asked: str) -> dict[str, Any]:
    write_files(root, files)
    return tools_document(Host(root), Host(root), asked)


def test_tools_are_found_and_allowed_on_a_right_node(tmp_path: Path) -> None:
    found = document(tmp_path, RIGHT)
    tools = {one["name"]: one for one in found["tools"]}
    assert tools["nsight-systems"]["path"] == "/opt/nvidia/nsight-systems/2025.1.1/bin/nsys"
    assert tools["nsight-compute"]["path"] == "/usr/local/cuda/bin/ncu"
    assert tools["rocprof"]["path"] == "/opt/rocm-6.4.0/bin/rocprofv3"
    assert tools["unitrace"]["path"] is None
    assert {one["allowed"] for one in found["tools"]} == {True}
    assert {one["met"] for one in found["conditions"]} == {True}


def test_what_a_node_does_not_allow_is_told_with_what_to_do(tmp_path: Path) -> None:
    found = document(tmp_path, WRONG)
    conditions = {one["name"]: one for one in found["conditions"]}
    for name, text in REMEDIES.items():
        assert conditions[name]["met"] is False
        assert text in conditions[name]["remedy"]
    lacks = {one["name"]: one["lacks"] for one in found["tools"]}
    assert lacks["nsight-systems"] == ["nvidia_counters", "perf_events"]
    assert lacks["vtune"] == ["intel_counters", "perf_events", "ptrace"]
    assert lacks["nvidia-smi"] == []
    text = tools_text(found)
    assert "no       nvidia_counters, perf_events" in text
    assert "RmProfilingAdminOnly: 1" in text


def test_what_nothing_tells_is_unknown_and_neither_yes_nor_no(tmp_path: Path) -> None:
    found = document(tmp_path, {"/dev/kfd": ""})
    met = {one["name"]: one["met"] for one in found["conditions"]}
    assert met == {
        "nvidia_counters": None,
        "amd_compute": True,
        "intel_counters": None,
        "perf_events": None,
        "ptrace": None,
    }
    allowed = {one["name"]: one["allowed"] for one in found["tools"]}
    assert (allowed["nsight-compute"], allowed["rocprof"]) == (None, True)


def test_a_kernel_without_yama_holds_no_ptrace_back(tmp_path: Path) -> None:
    found = document(tmp_path, {f"{KERNEL}/perf_event_paranoid": "2"})
    assert {one["name"]: one["met"] for one in found["conditions"]}["ptrace"] is True


@pytest.mark.parametrize(
    ("asked", "tools", "unknown"),
    [
        (
            ("nvidia-nsight", "nvidia-smi"),
            ["nsight-systems", "nsight-compute", "nvidia-smi"],
            [],
        ),
        (("rocm-profiler",), ["rocprof", "rocprof-sys", "rocprof-compute"], []),
        (("vtune", "wishful-profiler"), ["vtune"], ["wishful-profiler"]),
        (("ncu",), ["nsight-compute"], []),
    ],
)
def test_tools_are_those_that_the_section_names(
    tmp_path: Path, asked: tuple[str, ...], tools: list[str], unknown: list[str]
) -> None:
    found = document(tmp_path, {}, *asked)
    assert [one["name"] for one in found["tools"]] == tools
    assert found["unknown"] == unknown
    assert (f"not known: {', '.join(unknown)}" in tools_text(found)) is bool(unknown)
