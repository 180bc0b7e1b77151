"""What a node with the NVIDIA driver shows in /sys, /proc, /dev and /usr: plain files in a root."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.nvml.model import Gpu, Scenario

_PROC_DEVICES = """Character devices:
  1 mem
195 nvidia
195 nvidia-modeset
195 nvidiactl
195 nvidia-frontend
236 nvidia-caps-imex-channels
237 nvidia-caps
511 nvidia-uvm

Block devices:
259 blkext
"""
_LIBRARIES = ("libcuda", "libnvidia-ptxjitcompiler", "libnvidia-nvvm", "libnvidia-opencl")
_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_BINARIES = ("nvidia-smi", "nvidia-debugdump", "nvidia-persistenced")
_GPU_INSTANCES, _COMPUTE_INSTANCES = range(15), range(8)
_CONFIG_CAPABILITY, _MONITOR_CAPABILITY = 1, 2


def write_host_tree(root: Path, scenario: Scenario, lib_dir: str = "usr/lib64") -> None:
    """Write it all; called again after a change, it brings capability nodes up to date.

    Device nodes are plain files: making real ones needs privileges. A GPU that has gone from the
    scenario stays on the bus until the test removes its folder.
    """
    _write(root / "proc/devices", _PROC_DEVICES)
    _write(root / "proc/driver/nvidia-caps/mig-minors", _mig_minors(scenario))
    _write(root / "proc/driver/nvidia/version", _version(scenario))
    _write_nodes(root / "dev", scenario)
    for gpu in scenario.gpus:
        _write_pci(root / "sys/bus/pci/devices" / gpu.bdf, gpu)
        _write_proc(root / "proc/driver/nvidia/gpus" / gpu.bdf, gpu)
    _write_driver_files(root, lib_dir, scenario)


def gi_minor(gpu_minor: int, gi: int) -> int:
    """The capability minor of a GPU instance, by the documented table."""
    return 3 + 135 * gpu_minor + 9 * gi


def ci_minor(gpu_minor: int, gi: int, ci: int) -> int:
    return gi_minor(gpu_minor, gi) + 1 + ci


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _mig_minors(scenario: Scenario) -> str:
    """Every instance a GPU could have, as the driver lists them, whether it exists or not."""
    lines = [f"config {_CONFIG_CAPABILITY}", f"monitor {_MONITOR_CAPABILITY}"]
    for minor in sorted(gpu.minor for gpu in scenario.gpus if gpu.minor is not None):
        for gi in _GPU_INSTANCES:
            lines.append(f"gpu{minor}/gi{gi}/access {gi_minor(minor, gi)}")
            lines += [
                f"gpu{minor}/gi{gi}/ci{ci}/access {ci_minor(minor, gi, ci)}"
                for ci in _COMPUTE_INSTANCES
            ]
    return "\n".join(lines) + "\n"


def _version(scenario: Scenario) -> str:
    module = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {scenario.driver_version}"
    return f"{module}  Tue Apr  8 12:41:17 UTC 2025\nGCC version:  gcc version 12.3.0\n"


def _capability_minors(gpu: Gpu) -> Iterator[int]:
    for device in gpu.mig:
        if gpu.minor is not None:
            yield gi_minor(gpu.minor, device.gi)
            yield ci_minor(gpu.minor, device.gi, device.ci)


def _write_nodes(dev: Path, scenario: Scenario) -> None:
    shutil.rmtree(dev / "nvidia-caps", ignore_errors=True)
    names = [*_NODES, *(f"nvidia{gpu.minor}" for gpu in scenario.gpus if gpu.minor is not None)]
    capabilities = {_CONFIG_CAPABILITY, _MONITOR_CAPABILITY}
    capabilities.update(minor for gpu in scenario.gpus for minor in _capability_minors(gpu))
    for name in [*names, *(f"nvidia-caps/nvidia-cap{minor}" for minor in sorted(capabilities))]:
        _write(dev / name, "")


def _write_pci(folder: Path, gpu: Gpu) -> None:
    device_id = (gpu.pci_device_id or 0) >> 16
    _write(folder / "vendor", "0x10de\n")
    _write(folder / "device", f"0x{device_id:04x}\n")
    _write(folder / "class", f"{gpu.pci_class}\n")
    _write(folder / "numa_node", f"{gpu.numa_node}\n")
    _write(folder / "local_cpulist", f"{gpu.local_cpulist}\n")


def _write_proc(folder: Path, gpu: Gpu) -> None:
    lines = (
        f"Model: \t\t {gpu.name}",
        f"GPU UUID: \t {gpu.uuid}",
        f"Bus Location: \t {gpu.bdf}",
        f"Device Minor: \t {gpu.minor}",
    )
    _write(folder / "information", "\n".join(lines) + "\n")


def _write_driver_files(root: Path, lib_dir: str, scenario: Scenario) -> None:
    for library in _LIBRARIES:
        name = f"{library}.so.{scenario.driver_version}"
        _write(root / lib_dir / name, "")
        link = root / lib_dir / f"{library}.so.1"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
    for binary in _BINARIES:
        _write(root / "usr/bin" / binary, "")
        (root / "usr/bin" / binary).chmod(0o755)
