"""A node with two GPUs of each vendor on which every check passes, for tests to break."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from deviceplugin.diagnose.gather import Around, gather, look
from deviceplugin.diagnose.model import Result, RuntimeFacts, Snapshot, Verdict
from deviceplugin.discovery.registry import create_vendors, load_vendors
from deviceplugin.host import Host
from deviceplugin.host.pci import DEVICES
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.testing.amd import MI300X, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, IntelGpu, set_vfs, vf_address, write_intel_node
from deviceplugin.testing.tree import remove
from tests.fakes.nvml import (
    NvmlDouble,
    RemappedRows,
    RowHistogram,
    Scenario,
    a100_40gb,
    write_host_tree,
)
from tests.fakes.nvml.model import Gpu, Process
from tests.telemetry.test_amd_values import FILES as AMD_FILES
from tests.telemetry.test_amd_values import table
from tests.telemetry.test_intel_values import XE
from tests.telemetry.values import write_files

AMD = ("0000:05:00.0", "0000:27:00.0")
INTEL = ("0000:64:00.0", "0000:65:00.0")
POD_UID = "0f6a1c7e-0000-4000-8000-00000000000a"
POD = ("team", "train")
AMD_GPUS = tuple(
    SimulatedGpu(address=address, model=MI300X, unique_id=f"e3aa140f9a5f9e3{number}")
    for number, address in enumerate(AMD)
)
LINK = {
    "current_link_width": 16,
    "max_link_width": 16,
    "current_link_speed": "16.0 GT/s PCIe",
    "max_link_speed": "16.0 GT/s PCIe",
    "aer_dev_fatal": "TOTAL_ERR_FATAL 0",
    "aer_dev_nonfatal": "TOTAL_ERR_NONFATAL 0",
    "aer_dev_correctable": "RxErr 3\nTOTAL_ERR_COR 3",
    "resource": "0x1000 0x1fff 0x0\n0x2000000000 0x27ffffffff 0x14220c",
}
AMD_RIGHT = {
    **AMD_FILES,
    "ras/umc_err_count": "ue: 0\nce: 4",
    "ras/xgmi_wafl_err_count": "ue: 0\nce: 2",
    "ras/gpu_vram_bad_pages": "0x1 : 0x1000 : R",
    "pcie_replay_count": 7,
}
INTEL_RIGHT = {
    **XE,
    "tile0/gt0/freq0/throttle/reason_pl1": 0,
    "hwmon/hwmon3/energy1_input": 1_000_000,
}
NOT_THROTTLED, THROTTLED = 0, 1 << 33
NVIDIA_FIELDS = {3: 1, 4: 0, 5: 2, 6: 0, 38: 0, 45: 0, 52: 0, 59: 0}


def a_right_gpu(index: int) -> Gpu:
    """An A100 that works and is well."""
    return replace(
        a100_40gb(index),
        temperature_c=60,
        slowdown_c=89,
        shutdown_c=95,
        memory_max_c=96,
        power_usage_mw=200_000,
        power_limit_mw=400_000,
        utilization_gpu_percent=90,
        utilization_memory_percent=20,
        clocks_event_reasons=0x4,
        pcie_replays=2,
        remapped=RemappedRows(corrected=1, uncorrected=2),
        histogram=RowHistogram(max=640),
        fields=NVIDIA_FIELDS,
    )


def intel_gpus() -> tuple[IntelGpu, IntelGpu]:
    """Two of one product."""
    first = replace(B60, address=INTEL[0], card=60, render=188, group=60)
    return first, replace(first, address=INTEL[1], card=90, render=218, group=120)


class Node:
    """The node below `root`, and how it is looked at; `rises` happens between measurements."""

    def __init__(self, root: Path) -> None:
        self.root = root / "host"
        self.cdi, self.kubelet = root / "cdi", root / "kubelet"
        for folder in (self.root, self.cdi):
            folder.mkdir()
        self.double = NvmlDouble(
            self.root, scenario=Scenario(gpus=(a_right_gpu(0), a_right_gpu(1)))
        )
        write_host_tree(self.root, self.double.scenario)
        write_amd_node(self.root, AMD_GPUS)
        write_intel_node(self.root, *intel_gpus())
        self._fill()
        self.changes: dict[str, Any] = {}
        self.sections: dict[str, Any] = {}
        self.vendors: tuple[str, ...] | None = None
        self.rises: Callable[[], None] = self._energy

    @property
    def nvidia(self) -> tuple[str, ...]:
        """The addresses of NVIDIA's GPUs."""
        return tuple(gpu.bdf for gpu in self.double.scenario.gpus)

    def flags(self, state: Path) -> list[str]:
        """Of a command that looks at this node."""
        places = {
            "--host-root": self.root,
            "--kubelet-dir": self.kubelet,
            "--cdi-dir": self.cdi,
            "--state-dir": state,
            "--node-name": "gpu-node-7",
        }
        return [f"{flag}={value}" for flag, value in places.items()]

    def write(self, address: str, **files: object) -> None:
        """Files of a PCI function."""
        write_files(self.root, {f"{DEVICES}/{address}/{name}": t for name, t in files.items()})

    def files(self, address: str, files: Mapping[str, object]) -> None:
        self.write(address, **files)

    def throttle(self, address: str, status: int) -> None:
        """AMD's table with this throttle status."""
        path = self.root / f"{DEVICES}/{address}/gpu_metrics".lstrip("/")
        path.write_bytes(table(120, 3, throttle=(112, "<Q", status)))

    def of_gpu(self, change: Callable[[Gpu], Gpu]) -> None:
        """Another first NVIDIA GPU."""
        self.double.update_gpu(0, change)

    def process(self, pid: int, cgroup: str) -> None:
        """A process on the first NVIDIA GPU."""
        write_files(self.root, {f"/proc/{pid}/cgroup": cgroup})
        self.of_gpu(lambda gpu: replace(gpu, processes=(Process(pid=pid, memory=1 << 20),)))

    def divide_amd(self, dead: int) -> None:
        """The first AMD GPU is in partitions, of which one has no node of KFD."""
        remove(self.root, "/sys/class/kfd")
        first = replace(AMD_GPUS[0], mode="CPX", dead=frozenset({dead}))
        write_amd_node(self.root, [first, AMD_GPUS[1]])

    def divide_intel(self, without_group: int | None = None) -> None:
        """The first Intel GPU has two functions for virtual machines."""
        gpu = intel_gpus()[0]
        set_vfs(self.root, gpu, 2, 4 << 30, ["vfio-pci"] * 2)
        if without_group is not None:
            function = vf_address(gpu, without_group)
            remove(self.root, f"{DEVICES}/{function}/iommu_group")

    async def snapshot(self) -> Snapshot:
        """One look at it."""
        store = InventoryStore(lambda: 1000.0)
        host = Host(self.root)
        modules = load_vendors(self.vendors)
        schemas = {name: one for module in modules for name, one in module.SECTIONS.items()}
        sections = {n: msgspec.convert(one, schemas[n]) for n, one in self.sections.items()}
        vendors = await create_vendors(modules, host, sections, store.set_status)
        await look(vendors, store, 60.0)
        settings: dict[str, Any] = {
            "node_name": "gpu-node-7",
            "host": host,
            "own": Host(),
            "cdi_dir": self.cdi,
            "kubelet_dir": self.kubelet,
            "deadline_s": 60.0,
            "window_s": 1.0,
            "now": lambda: 1000.0,
            "pause": self._pause,
            "clock": lambda: True,
            "runtime": RuntimeFacts(
                honoured=True, reason="it honours CDI names", remedy="", needed=True
            ),
        }
        return await gather(Around(**settings | self.changes), vendors, store.current)

    def _pause(self, _: float) -> Awaitable[None]:
        self.rises()
        return _at_once()

    def _energy(self) -> None:
        """Intel's power is a difference."""
        for address in INTEL:
            self.files(address, {"hwmon/hwmon3/energy1_input": 2_000_000})

    def _fill(self) -> None:
        for address in self.nvidia:
            self.files(address, LINK)
            self._link(address, "driver", "../../../bus/pci/drivers/nvidia")
        for address in AMD:
            self.files(address, LINK | AMD_RIGHT)
            self.throttle(address, NOT_THROTTLED)
        for address in INTEL:
            self.files(address, LINK | INTEL_RIGHT)
        write_files(
            self.root,
            {
                "/sys/module/nvidia/version": "550.163.01",
                "/run/nvidia-persistenced/socket": "",
                f"/var/log/pods/{'_'.join(POD)}_{POD_UID}/main/0.log": "",
            },
        )
        (self.cdi / "nvidia.com-gpu.json").write_text(
            '{"devices": [{"name": "0", "containerEdits": {"deviceNodes": [{"path":'
            ' "/dev/nvidia0", "hostPath": "/dev/nvidia0"}]}}]}'
        )

    def _link(self, address: str, name: str, target: str) -> None:
        path = self.root / f"{DEVICES}/{address}/{name}".lstrip("/")
        path.unlink(missing_ok=True)
        path.symlink_to(target)


async def _at_once() -> None:
    """A pause without time."""


def of(results: tuple[Result, ...], check: str, subject: str) -> Result:
    """The one result of a check of a subject."""
    (found,) = (r for r in results if (r.check, r.subject) == (check, subject))
    return found


def wrong(results: tuple[Result, ...]) -> dict[tuple[str, str], str]:
    """What is not as it should be: the value by check and subject."""
    bad = (Verdict.FAIL, Verdict.WARN)
    return {(r.check, r.subject): f"{r.verdict}: {r.value}" for r in results if r.verdict in bad}
