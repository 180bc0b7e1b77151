"""Simulated machines with the vendors' tools beside them, as scripts that print a text."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.fakes.nvml import Gpu, NvmlDouble, Scenario, a100_40gb, build_library, write_host_tree

# Prints the file beside it that is named by its arguments.
_SCRIPT = """#!{python}
import pathlib, sys
here = pathlib.Path({folder!r})
name = "-".join([{tool!r}, *(a.lstrip("-") for a in sys.argv[1:])])
calls = here / (name + ".calls")
count = int(calls.read_text()) if calls.exists() else 0
calls.write_text(str(count + 1))
later = here / (name + ".later")
text = later if count and later.exists() else here / name
if not text.exists():
    sys.exit("no such answer")
print(text.read_text(), end="")
"""
_PROCESS = "<process_info><process_name>/home/ada/secret</process_name></process_info>"
Install = Callable[..., Path]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH, so that a machine's own tools are not asked."""
    build_library(tmp_path / "built")  # before the compiler is out of reach
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def install(programs: Path) -> Install:
    """`install("nvidia-smi", **{"q-x": text})`: a tool on PATH, its answers by its arguments.

    An answer `q-x.later` is given from the second time on.
    """

    def make(tool: str, **answers: str) -> Path:
        for arguments, text in answers.items():
            (programs / f"{tool}-{arguments}").write_text(text)
        script = programs / tool
        script.write_text(_SCRIPT.format(python=sys.executable, folder=str(programs), tool=tool))
        script.chmod(0o755)
        return script

    return make


_INSIDE = ("total", "current_ecc", "current_mig", "gpu_temp")  # of another element


def nvidia_smi_xml(gpus: Sequence[Gpu], **changes: str) -> str:
    """What `nvidia-smi -q -x` prints of them; `changes` replace texts by element name."""
    inner = "\n".join(_gpu_xml(gpu, changes) for gpu in gpus)
    head = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n'
    return (
        f"{head}<nvidia_smi_log>\n<driver_version>550.163.01</driver_version>\n"
        f"<attached_gpus>{len(gpus)}</attached_gpus>\n{inner}\n</nvidia_smi_log>\n"
    )


def _gpu_xml(gpu: Gpu, changes: dict[str, str]) -> str:
    mig = "Enabled" if gpu.mig_current else "Disabled"
    devices = "".join(
        f"<mig_device><index>{part.slot}</index><gpu_instance_id>{part.gi}</gpu_instance_id>"
        f"<compute_instance_id>{part.ci}</compute_instance_id></mig_device>"
        for part in gpu.mig
    )
    plain = {
        "product_name": gpu.name or "",
        "uuid": gpu.uuid,
        "minor_number": str(gpu.minor),
        "serial": gpu.serial or "N/A",
        "persistence_mode": "Enabled",
        "compute_mode": "Default",
    } | {k: v for k, v in changes.items() if k not in _INSIDE}
    temperature = changes.get("gpu_temp", f"{gpu.temperature_c} C")
    power = f"{(gpu.power_usage_mw or 0) / 1000:.2f} W"
    used = f"{(gpu.memory_used_bytes or 0) >> 20} MiB"
    total = changes.get("total", f"{(gpu.memory_total_bytes or 0) >> 20} MiB")
    mode = changes.get("current_mig", mig)
    ecc = changes.get("current_ecc", "Enabled")
    return "\n".join(
        [
            f'<gpu id="{gpu.bus_id}">',
            *(f"<{name}>{text}</{name}>" for name, text in plain.items()),
            f"<mig_mode><current_mig>{mode}</current_mig><pending_mig>{mig}</pending_mig></mig_mode>",
            f"<mig_devices>{devices or 'None'}</mig_devices>",
            f"<pci><pci_bus_id>{gpu.bus_id}</pci_bus_id></pci>",
            f"<fb_memory_usage><total>{total}</total><used>{used}</used></fb_memory_usage>",
            f"<temperature><gpu_temp>{temperature}</gpu_temp></temperature>",
            f"<gpu_power_readings><power_draw>{power}</power_draw></gpu_power_readings>",
            f"<utilization><gpu_util>{gpu.utilization_gpu_percent} %</gpu_util></utilization>",
            f"<ecc_mode><current_ecc>{ecc}</current_ecc><pending_ecc>Enabled</pending_ecc></ecc_mode>",
            f"<processes>{_PROCESS}</processes>",
            f"<accounted_processes>{_PROCESS}</accounted_processes>",
            "</gpu>",
        ]
    )


def matrix(rows: Sequence[Sequence[str]]) -> str:
    """What `nvidia-smi topo -m` prints, with a NIC and the columns after the GPUs."""
    names = [f"GPU{i}" for i in range(len(rows))]
    head = "\t".join(["", *names, "NIC0", "CPU Affinity", "NUMA Affinity"])
    lines = [
        "\t".join([names[i], *(f" {word} " for word in row), "PXB", "0-15", "0"])
        for i, row in enumerate(rows)
    ]
    nic = "\t".join(["NIC0", *("PXB" for _ in rows), " X "])
    legend = "\nLegend:\n\n  X    = Self\n  SYS  = Connection traversing PCIe as well as the SMP\n"
    return "\n".join([f"\x1b[4m{head}\x1b[0m", *lines, nic, legend])


@pytest.fixture
def a100s(tmp_path: Path, programs: Path) -> NvmlDouble:
    """Three A100, of which the last is cut into two MIG instances."""
    root = tmp_path / "host"
    double = NvmlDouble(root, scenario=Scenario(gpus=tuple(map(a100_40gb, range(3)))))
    double.set_mig(2, ["3g.20gb", "1g.5gb"])
    write_host_tree(root, double.scenario)
    return double
