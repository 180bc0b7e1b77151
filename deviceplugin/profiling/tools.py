"""Which profilers are on the node, what they need, and whether it is so. Blocking.

A profiler is mostly in the container's image; what it needs is the node's all the same. Sources:
NVIDIA's ERR_NVGPUCTRPERM page and /proc/driver/nvidia/params; sysctl(5), Yama.rst and
perf-security.rst of the kernel; i915_perf.c (perf_stream_paranoid), xe_observation.c
(observation_paranoid); ROCm's documents name /dev/kfd and the render nodes.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from deviceplugin.host import Host
from deviceplugin.host.optional import optional_int, optional_names, optional_text

_FOLDERS = (
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/cuda/bin",
    "/opt/rocm/bin",
    "/opt/intel/oneapi/vtune/latest/bin64",
    "/opt/intel/oneapi/pti-gpu/latest/bin",
)
# Folders with a version in their name: above it, what it is like, and below it.
_VERSIONED = (
    ("/opt/nvidia/nsight-systems", "*", "/bin"),
    ("/opt/nvidia/nsight-compute", "*", ""),
    ("/opt", "rocm-*", "/bin"),
)
_PARAMETERS = "/proc/driver/nvidia/params"
Document = dict[str, Any]


class Tool(Struct, frozen=True, kw_only=True):
    """A profiler: its programs, what it measures, and the conditions that it needs."""

    name: str
    vendor: str
    programs: tuple[str, ...]
    purpose: str
    needs: tuple[str, ...] = ()


TOOLS: Sequence[Tool] = (
    Tool(
        name="nsight-systems",
        vendor="nvidia",
        programs=("nsys",),
        purpose="a time line of kernels, copies and calls",
        needs=("nvidia_counters", "perf_events"),
    ),
    Tool(
        name="nsight-compute",
        vendor="nvidia",
        programs=("ncu",),
        purpose="counters of single kernels",
        needs=("nvidia_counters",),
    ),
    Tool(
        name="nvprof",
        vendor="nvidia",
        programs=("nvprof",),
        purpose="the CUDA profiler before Ampere",
        needs=("nvidia_counters",),
    ),
    Tool(
        name="nvidia-smi", vendor="nvidia", programs=("nvidia-smi",), purpose="counters of the GPU"
    ),
    Tool(
        name="rocprof",
        vendor="amd",
        programs=("rocprofv3", "rocprofv2", "rocprof"),
        purpose="kernels, copies and counters",
        needs=("amd_compute",),
    ),
    Tool(
        name="rocprof-sys",
        vendor="amd",
        programs=("rocprof-sys-run", "omnitrace"),
        purpose="a time line of the program",
        needs=("amd_compute", "perf_events"),
    ),
    Tool(
        name="rocprof-compute",
        vendor="amd",
        programs=("rocprof-compute", "omniperf"),
        purpose="an analysis of kernels",
        needs=("amd_compute",),
    ),
    Tool(
        name="vtune",
        vendor="intel",
        programs=("vtune",),
        purpose="hot spots of CPU and GPU",
        needs=("intel_counters", "perf_events", "ptrace"),
    ),
    Tool(
        name="unitrace",
        vendor="intel",
        programs=("unitrace",),
        purpose="kernels and counters of Level Zero",
        needs=("intel_counters",),
    ),
    Tool(name="xpu-smi", vendor="intel", programs=("xpu-smi",), purpose="counters of the GPU"),
)
# As documents name them.
NAMED: Mapping[str, tuple[str, ...]] = {
    "nvidia-nsight": ("nsight-systems", "nsight-compute"),
    "cuda-profiler": ("nvprof", "nsight-systems", "nsight-compute"),
    "rocm-profiler": ("rocprof", "rocprof-sys", "rocprof-compute"),
}


class State(Struct, frozen=True, kw_only=True):
    """Whether a condition holds (None: nothing tells), what was read, and what makes it hold."""

    met: bool | None
    value: str
    remedy: str = ""


def tools_document(host: Host, own: Host, asked: Sequence[str] = ()) -> Document:
    """All tools and conditions; of `asked` names, those alone. `own` is where this process finds
    the kernel's settings, which are the same in a container."""
    wanted = {name for text in asked for name in NAMED.get(text, (text,))}
    chosen = [tool for tool in TOOLS if not wanted or {tool.name, *tool.programs} & wanted]
    states = {name: read(host, own) for name, read in _CONDITIONS.items()}
    known = {name for tool in TOOLS for name in (tool.name, *tool.programs)}
    return {
        "format": 1,
        "tools": [_tool(tool, host, states) for tool in chosen],
        "conditions": [
            {"name": name, "met": state.met, "value": state.value, "remedy": state.remedy}
            for name, state in states.items()
        ],
        "unknown": sorted(wanted - known),
        "searched": [folder for folder in _folders(host) if host.exists(folder)],
    }


def _tool(tool: Tool, host: Host, states: Mapping[str, State]) -> Document:
    places = (f"{folder}/{name}" for name in tool.programs for folder in _folders(host))
    path = next(filter(host.exists, places), None)
    lacks = [name for name in tool.needs if states[name].met is False]
    untold = [name for name in tool.needs if states[name].met is None]
    return {
        "name": tool.name,
        "vendor": tool.vendor,
        "purpose": tool.purpose,
        "path": path,  # None: not in the folders that are seen
        "needs": list(tool.needs),
        "allowed": False if lacks else None if untold else True,
        "lacks": lacks,
    }


def _folders(host: Host) -> Iterator[str]:
    yield from _FOLDERS
    for folder, pattern, below in _VERSIONED:
        for name in sorted(optional_names(host, folder), reverse=True):
            if fnmatchcase(name, pattern):
                yield f"{folder}/{name}{below}"


def _nvidia(host: Host, _: Host) -> State:
    text = optional_text(host, _PARAMETERS)
    found = re.search(r"(?m)^RmProfilingAdminOnly: (\d+)", text or "")
    if found is None:
        return State(met=None, value=f"{_PARAMETERS} does not tell it")
    return State(
        met=found[1] == "0",
        value=f"RmProfilingAdminOnly: {found[1]}",
        remedy="options nvidia NVreg_RestrictProfilingToAdminUsers=0 in /etc/modprobe.d, or"
        " CAP_SYS_ADMIN for the container",
    )


def _perf(_: Host, own: Host) -> State:
    return _at_most(own, "kernel/perf_event_paranoid", 2, "CAP_PERFMON for the container, or ")


def _ptrace(_: Host, own: Host) -> State:
    """Without Yama nothing holds it back among processes of one user."""
    if own.exists("/proc/sys/kernel") and not own.exists("/proc/sys/kernel/yama"):
        return State(met=True, value="the kernel has no Yama")
    return _at_most(own, "kernel/yama/ptrace_scope", 0, "CAP_SYS_PTRACE for the container, or ")


def _intel(_: Host, own: Host) -> State:
    """The one of the driver that is loaded; each has it from its start on."""
    known = [
        _at_most(own, path, 0, "CAP_PERFMON for the container, or ")
        for path in ("dev/i915/perf_stream_paranoid", "dev/xe/observation_paranoid")
    ]
    told = [state for state in known if state.met is not None]
    return next((state for state in told if not state.met), (told or known)[0])


def _amd(host: Host, _: Host) -> State:
    there = host.exists("/dev/kfd")
    return State(
        met=there,
        value="/dev/kfd is there" if there else "/dev/kfd is not there",
        remedy="load amdgpu; a container has it with an amd.com/gpu",
    )


def _at_most(own: Host, name: str, most: int, otherwise: str) -> State:
    path, setting = f"/proc/sys/{name}", name.replace("/", ".")
    found = optional_int(own, path)
    if found is None:
        return State(met=None, value=f"{path} is not there")
    remedy = f"{otherwise}sysctl -w {setting}={most}"
    return State(met=found <= most, value=f"{setting} = {found}", remedy=remedy)


_CONDITIONS: Mapping[str, Callable[[Host, Host], State]] = {
    "nvidia_counters": _nvidia,
    "amd_compute": _amd,
    "intel_counters": _intel,
    "perf_events": _perf,
    "ptrace": _ptrace,
}
