"""The vendors' own tools: how they are asked, and what they say of the GPUs.

Read from `nvidia-smi -q -x` and `nvidia-smi topo -m` (nvsmi_device_v12.dtd), `amd-smi list --json`
(ROCm 6.4 and 7) and `xpu-smi discovery -j` (1.2 and 1.3). Asking changes no setting.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.host.pci import parse_address
from deviceplugin.testing.hardware.topology import parse_topology
from deviceplugin.testing.hardware.values import (
    XPU_METRICS,
    Values,
    of_amd_smi,
    of_nvidia_smi,
    of_xpu_smi,
    xpu_devices,
)

LIMIT_S = 30.0
_MIB = re.compile(r"(\d+) MiB")


class ToolGpu(Struct, frozen=True, kw_only=True):
    """A GPU as a tool tells of it; what it does not tell is None.

    `parts` are its MIG devices (GPU instance, compute instance), or partitions (number, 0).
    `links` maps the PCI address of a peer to the word of the topology matrix: NV12, PIX.
    """

    pci_address: str
    uuid: str | None = None
    name: str | None = None
    memory_bytes: int | None = None
    minor: str | None = None
    mig: str | None = None
    ecc: str | None = None
    parts: frozenset[tuple[int, int]] | None = None
    links: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class Output(Struct, frozen=True, kw_only=True):
    """What a command printed; `problem` says in one line why there is nothing."""

    text: str = ""
    problem: str = ""


class Tool(Struct, frozen=True, kw_only=True):
    """A vendor's tool: `command` prints what `parse` reads, raising ValueError."""

    vendor: str
    command: tuple[str, ...]
    parse: Callable[[str], tuple[ToolGpu, ...]]

    @property
    def name(self) -> str:
        """The program."""
        return self.command[0]


def ask(command: tuple[str, ...], limit_s: float = LIMIT_S) -> Output:
    """Run a command to its end, at most `limit_s` seconds."""
    program = shutil.which(command[0])
    if program is None:
        return Output(problem=f"{command[0]} is not installed")
    spelled = " ".join(command)
    try:
        done = subprocess.run(  # noqa: S603  # a vendor's tool, with arguments of our own
            [program, *command[1:]], capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Output(problem=f"{spelled} did not end within {limit_s:g} s")
    except OSError as error:
        return Output(problem=f"{spelled} cannot be started: {error.strerror}")
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        said = (done.stderr.decode("utf-8", "replace").strip() or text.strip()).partition("\n")[0]
        return Output(problem=f"{spelled} ended with status {done.returncode}: {said}"[:300])
    return Output(text=text)


def measured(tool: Tool, listed: str) -> Values | str:
    """What a tool measures now, or why it does not say it; `listed` is what it printed of its
    GPUs."""
    try:
        command = _measuring(tool, listed)
        output = ask(command)
        return output.problem or _values(tool, output.text, listed)
    except ValueError as error:
        return f"what {tool.name} measures cannot be read: {error}"


def _measuring(tool: Tool, listed: str) -> tuple[str, ...]:
    if tool.vendor == "amd":
        return ("amd-smi", "metric", "--json")
    if tool.vendor == "intel":
        devices = ",".join(xpu_devices(listed))
        return ("xpu-smi", "dump", "-d", devices, "-m", XPU_METRICS, "-n", "1")
    return tool.command


def _values(tool: Tool, text: str, listed: str) -> Values:
    if tool.vendor == "amd":
        return of_amd_smi(text, listed)
    if tool.vendor == "intel":
        return of_xpu_smi(text, xpu_devices(listed))
    return of_nvidia_smi(text)


def parse_nvidia_smi(text: str) -> tuple[ToolGpu, ...]:
    """The GPUs of `nvidia-smi -q -x` in its order, which is that of NVML's indices; ValueError."""
    try:
        root = ET.fromstring(text)  # noqa: S314  # the driver's own tool
    except ET.ParseError as error:
        raise ValueError(f"it is not XML: {error}") from error
    return tuple(_nvidia_gpu(gpu) for gpu in root.iter("gpu"))


def with_links(gpus: tuple[ToolGpu, ...], topology: str) -> tuple[ToolGpu, ...]:
    """The GPUs with what `nvidia-smi topo -m` prints of them."""
    found = parse_topology(topology)
    return tuple(
        replace(
            gpu,
            links=MappingProxyType(
                {
                    gpus[peer].pci_address: word
                    for (one, peer), word in found.items()
                    if one == index and peer < len(gpus)
                }
            ),
        )
        for index, gpu in enumerate(gpus)
    )


def parse_settings(text: str) -> Mapping[str, str]:
    """What an administrator sets, of each GPU in `nvidia-smi -q -x`; ValueError."""
    try:
        root = ET.fromstring(text)  # noqa: S314  # the driver's own tool
    except ET.ParseError as error:
        raise ValueError(f"it is not XML: {error}") from error
    return {
        f"{gpu.get('id')} {path}": value
        for gpu in root.iter("gpu")
        for path in _SETTINGS
        if (value := _text(gpu, path)) is not None
    }


def parse_amd_smi(text: str) -> tuple[ToolGpu, ...]:
    """The GPUs of `amd-smi list --json`, partitions joined to their GPU; ValueError."""
    found = _json(text)
    rows = found.get("gpu_data", []) if isinstance(found, dict) else found
    parts: dict[str, set[tuple[int, int]]] = {}
    for row in rows:
        address, number = parse_address(_key(row, "bdf")), row.get("partition_id")
        part = number if isinstance(number, int) else 0
        # A partition's address has its number as the function.
        whole = f"{address.rpartition('.')[0]}.0" if part else address
        parts.setdefault(whole, set()).add((part, 0))
    return tuple(ToolGpu(pci_address=a, parts=frozenset(p)) for a, p in sorted(parts.items()))


def parse_xpu_smi(text: str) -> tuple[ToolGpu, ...]:
    """The GPUs of `xpu-smi discovery -j`; ValueError."""
    return tuple(
        ToolGpu(
            pci_address=parse_address(_key(row, "pci_bdf_address")),
            name=row.get("device_name"),
            minor=row.get("drm_device"),
        )
        for row in _key(_json(text), "device_list")
        if row.get("device_function_type", "physical") == "physical"
    )


TOPOLOGY = ("nvidia-smi", "topo", "-m")
TOOLS = (
    Tool(vendor="nvidia", command=("nvidia-smi", "-q", "-x"), parse=parse_nvidia_smi),
    Tool(vendor="amd", command=("amd-smi", "list", "--json"), parse=parse_amd_smi),
    Tool(vendor="intel", command=("xpu-smi", "discovery", "-j"), parse=parse_xpu_smi),
)
_UNKNOWN = frozenset({"", "N/A", "None", "Unknown Error", "Not Supported"})
_SETTINGS = (
    "persistence_mode",
    "mig_mode/current_mig",
    "mig_mode/pending_mig",
    "ecc_mode/current_ecc",
    "ecc_mode/pending_ecc",
    "compute_mode",
    "gpu_power_readings/current_power_limit",
    "applications_clocks/graphics_clock",
    "applications_clocks/mem_clock",
)


def _nvidia_gpu(gpu: ET.Element) -> ToolGpu:
    memory = _MIB.fullmatch(_text(gpu, "fb_memory_usage/total") or "")
    mig = _switch(gpu, "mig_mode/current_mig")
    ids = ("gpu_instance_id", "compute_instance_id")
    numbers = ([part.findtext(name, "-1") for name in ids] for part in gpu.iter("mig_device"))
    parts = {(int(instance), int(compute)) for instance, compute in numbers}
    return ToolGpu(
        pci_address=parse_address(_text(gpu, "pci/pci_bus_id") or gpu.get("id") or ""),
        uuid=_text(gpu, "uuid"),
        name=_text(gpu, "product_name"),
        memory_bytes=int(memory[1]) << 20 if memory else None,
        minor=_text(gpu, "minor_number"),
        mig=mig,
        ecc=_switch(gpu, "ecc_mode/current_ecc"),
        parts=frozenset(parts) if mig == "enabled" else None,
    )


def _switch(gpu: ET.Element, path: str) -> str | None:
    text = (_text(gpu, path) or "").lower()
    return text if text in ("enabled", "disabled") else None


def _text(gpu: ET.Element, path: str) -> str | None:
    text = (gpu.findtext(path) or "").strip()
    return None if text.strip("[]") in _UNKNOWN else text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error


def _key(row: Any, key: str) -> Any:
    if not isinstance(row, dict) or key not in row:
        raise ValueError(f"it has no {key}")
    return row[key]
