"""The vendors' own tools: which test each has, how it is called for one GPU, and what it prints.

The forms are those of DCGM 3 and 4 (`dcgmi diag -j`), of gpu-burn's source, of the ROCm Validation
Suite's user guide and of xpu-smi 1.3's; none was run on hardware here.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from statistics import median
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from deviceplugin.diagnose.active.values import Wish
from deviceplugin.documents.diagnostics import COMPUTE_TEST, MEMORY_TEST, THERMAL_TEST

_PLACES = ("/usr/bin", "/usr/local/bin", "/opt/rocm/bin", "/opt/gpu-burn")
_RVS_FILES = "/opt/rocm/share/rocm-validation-suite/conf"
OWN_TIME_S = 1800.0
_MOST = 1 << 20  # characters that are looked at


class Said(Struct, frozen=True, kw_only=True):
    """What a tool said: its verdict, what it measured in the test's unit, and wrong results."""

    passed: bool
    value: float | None = None
    wrong: int = 0


class Target(Struct, frozen=True, kw_only=True):
    """What tools call the one GPU: its PCI address, its index in NVML, its id in the KFD; None
    where it has no such."""

    address: str | None = None
    index: int | None = None
    kfd: int | None = None


Command = Callable[[str, Target, Wish], Sequence[str] | None]


class ToolTest(Struct, frozen=True):
    """A test of a tool: its command line, None where it cannot be told which GPU to take, and what
    its output says, None for nothing."""

    command: Command
    parse: Callable[[str], Said | None]


class Tool(Struct, frozen=True, kw_only=True):
    """A tool that is installed at `path`. Those that choose themselves how long they run have
    `least_s` seconds."""

    name: str
    path: str
    tests: Mapping[str, ToolTest]
    least_s: float = 0.0


# What the section may call them. The others test no GPU: nvidia-smi tells, and cuda-memcheck, now
# compute-sanitizer, checks programs.
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "dcgmi": "dcgmi",
        "dcgm": "dcgmi",
        "gpu-burn": "gpu_burn",
        "gpu_burn": "gpu_burn",
        "rvs": "rvs",
        "rocm-validation-suite": "rvs",
        "xpu-smi": "xpu-smi",
    }
)
OUR_KERNELS = "our kernels"
STRESS_TEST = "stress-test"  # the section's word for what needs no tool of a vendor
TELL = ("nvidia-smi", "cuda-memcheck", "compute-sanitizer", "rocm-smi", "amd-smi")
KNOWN = MappingProxyType({"nvidia": "dcgmi or gpu-burn", "amd": "rvs", "intel": "xpu-smi"})


def _dcgm_memory(path: str, gpu: Target, _: Wish) -> Sequence[str] | None:
    if gpu.index is None:
        return None
    return (path, "diag", "-r", "memory", "-i", str(gpu.index), "-j")


def _dcgm_stress(path: str, gpu: Target, wish: Wish) -> Sequence[str] | None:
    if gpu.index is None:
        return None
    seconds = f"targeted_stress.test_duration={max(1, round(wish.seconds))}"
    return (path, "diag", "-r", "targeted_stress", "-p", seconds, "-i", str(gpu.index), "-j")


def parse_dcgm(text: str) -> Said | None:
    """All results are of the one GPU that was asked for; one that fails counts."""
    start = text.find("{")
    try:
        document = json.loads(text[start:_MOST]) if start >= 0 else None
    except (ValueError, RecursionError):
        return None
    found = [status.lower() for status in _statuses(document)]
    if "fail" in found:
        return Said(passed=False)
    return Said(passed=True) if "pass" in found else None


def _statuses(document: Any) -> Iterator[str]:
    root = document if isinstance(document, dict) else {}
    for name in ("DCGM Diagnostic", "DCGM GPU Diagnostic"):
        inner = root.get(name)
        for category in _list(inner, "test_categories"):
            for test in _list(category, "tests"):
                for result in _list(test, "results"):
                    if isinstance(result, dict):
                        yield str(result.get("status"))


def _list(value: Any, name: str) -> Sequence[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else ()


def _burn(path: str, _: Target, wish: Wish) -> Sequence[str]:
    """Of the GPUs that it sees, which is the one alone (CUDA_VISIBLE_DEVICES)."""
    compiled = str(PurePath(path).with_name("compare.ptx"))
    return (path, "-c", compiled, str(max(1, round(wish.seconds))))


_RATE = re.compile(r"\((\d{1,12}) Gflop/s\)")
_ERRORS = re.compile(r"errors: (-?\d{1,12})")
_BURNED = re.compile(r"GPU 0: (OK|FAULTY)")


def parse_burn(text: str) -> Said | None:
    """The rate is the median of its lines; errors since the last summary, so the most counts."""
    text = text[-_MOST:]
    ended = _BURNED.search(text)
    if ended is None:
        return None
    rates = [float(number) for number in _RATE.findall(text) if int(number)]
    wrong = max((int(number) for number in _ERRORS.findall(text)), default=0)
    value = median(rates) / 1000 if rates else None
    return Said(passed=ended[1] == "OK", value=value, wrong=max(0, wrong))


def _rvs(name: str) -> Command:
    """Its `-i` overrides the devices of the file, which are all of them."""

    def command(path: str, gpu: Target, _: Wish) -> Sequence[str] | None:
        file = f"{_RVS_FILES}/{name}"
        return (path, "-c", file, "-i", str(gpu.kfd)) if gpu.kfd is not None else None

    return command


_MET = re.compile(r"met: (TRUE|FALSE)")
_RVS_RATE = re.compile(r"Gflops:? (\d{1,12}(?:\.\d{1,9})?)", re.IGNORECASE)
_PASSED = re.compile(r"\bpass(?:ed)?:? (TRUE|FALSE)|\b(PASS|FAIL)\b")


def parse_rvs(text: str) -> Said | None:
    """Of its RESULT lines alone."""
    lines = [line for line in text[-_MOST:].splitlines() if "[RESULT" in line]
    joined = "\n".join(lines)
    words = _MET.findall(joined) + ["".join(one) for one in _PASSED.findall(joined)]
    if not words:
        return None
    rates = [float(number) for number in _RVS_RATE.findall(joined)]
    value = median(rates) / 1000 if rates else None
    return Said(passed=not {"FALSE", "FAIL"} & set(words), value=value)


def _xpu(*arguments: str) -> Command:
    def command(path: str, gpu: Target, _: Wish) -> Sequence[str] | None:
        return (path, "diag", "-d", gpu.address, *arguments) if gpu.address else None

    return command


_RESULT = re.compile(r"Result: (Pass|Fail)")
_GFLOPS = re.compile(r"GFLOPS is (\d{1,12}(?:\.\d{1,9})?)")
_GBPS = re.compile(r"bandwidth is (\d{1,12}(?:\.\d{1,9})?) GBPS")


def parse_xpu(text: str) -> Said | None:
    """Its table, of which cells go over several lines."""
    flat = " ".join(text[:_MOST].replace("|", " ").split())
    results = _RESULT.findall(flat)
    if not results:
        return None
    flops, bandwidth = _GFLOPS.search(flat), _GBPS.search(flat)
    value = float(flops[1]) / 1000 if flops else float(bandwidth[1]) if bandwidth else None
    return Said(passed="Fail" not in results, value=value)


_TESTS: Mapping[str, tuple[str, Mapping[str, ToolTest]]] = MappingProxyType(
    {
        "dcgmi": (
            "nvidia",
            {
                MEMORY_TEST: ToolTest(_dcgm_memory, parse_dcgm),
                COMPUTE_TEST: ToolTest(_dcgm_stress, parse_dcgm),
                THERMAL_TEST: ToolTest(_dcgm_stress, parse_dcgm),
            },
        ),
        "gpu_burn": (
            "nvidia",
            {
                COMPUTE_TEST: ToolTest(_burn, parse_burn),
                THERMAL_TEST: ToolTest(_burn, parse_burn),
            },
        ),
        "rvs": (
            "amd",
            {
                MEMORY_TEST: ToolTest(_rvs("mem.conf"), parse_rvs),
                COMPUTE_TEST: ToolTest(_rvs("gst_single.conf"), parse_rvs),
                THERMAL_TEST: ToolTest(_rvs("gst_single.conf"), parse_rvs),
            },
        ),
        "xpu-smi": (
            "intel",
            {
                MEMORY_TEST: ToolTest(_xpu("--singletest", "2,3"), parse_xpu),
                COMPUTE_TEST: ToolTest(_xpu("--singletest", "1"), parse_xpu),
                THERMAL_TEST: ToolTest(_xpu("--singletest", "6"), parse_xpu),
            },
        ),
    }
)


def installed(vendor: str, named: Sequence[str], which: Callable[[str], str | None]) -> list[Tool]:
    """The vendor's tools that are here, of those that are named, by default all, in that order."""
    wanted = [NAMES[name] for name in named if name in NAMES]
    names = dict.fromkeys(wanted) if named else dict.fromkeys(_TESTS)
    found = []
    for name in names:
        of, tests = _TESTS[name]
        path = which(name) if of == vendor else None
        if path is not None:
            own_s = 0.0 if name == "gpu_burn" else OWN_TIME_S
            found.append(Tool(name=name, path=path, tests=tests, least_s=own_s))
    return found


def find_program(name: str) -> str | None:
    """Where a program of this machine is: on PATH, or where its packages put it."""
    return shutil.which(name) or shutil.which(name, path=":".join(_PLACES))


def missing(vendor: str, library: str | None) -> str:
    """Why a GPU of the vendor cannot be tested here, and what to do."""
    needs = KNOWN.get(vendor)
    if needs is None:
        return f"there is no test of {vendor}'s GPUs"
    own = "the CUDA driver's libcuda.so.1, or " if vendor == "nvidia" and library is None else ""
    return f"needs {own}{needs} where this command runs"
