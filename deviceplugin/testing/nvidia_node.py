"""A simulated NVIDIA node: its file tree and its simulated NVML. Simulation, never product."""

from pathlib import Path

from deviceplugin.host import Host
from deviceplugin.testing.nvml import SimulatedGpu, SimulatedNvml
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.nvidia.library import Nvml


class NvidiaNode:
    """Eight A100, of which the last two are cut into MIG instances."""

    def __init__(self, root: Path) -> None:
        gpus = [SimulatedGpu(index) for index in range(6)]
        gpus.append(SimulatedGpu(6, instances=("3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb")))
        gpus.append(SimulatedGpu(7, instances=("1g.5gb",) * 7))
        self.nvml = SimulatedNvml(gpus)
        write_tree(root, "\n".join([*_common(), *(line for gpu in gpus for line in _gpu(gpu))]))

    def open_library(self, _: Host, driver_root: str) -> Nvml:
        """What the vendor opens instead of libnvidia-ml.so.1."""
        return Nvml(self.nvml, driver_root)

    def lose_gpu_3(self) -> None:
        """The GPU falls off its bus."""
        self._set_lost(lost=True)

    def recover_gpu_3(self) -> None:
        """The GPU answers again."""
        self._set_lost(lost=False)

    def break_driver(self) -> None:
        """Every question about GPUs fails."""
        self.nvml.broken = True
        self.nvml.changed.set()

    def mend_driver(self) -> None:
        """The driver answers again."""
        self.nvml.broken = False
        self.nvml.changed.set()

    def _set_lost(self, *, lost: bool) -> None:
        self.nvml.gpus[3].lost = lost
        self.nvml.changed.set()


def _common() -> list[str]:
    nodes = ("nvidiactl", "nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools")
    minors = "\\n".join(
        f"gpu{gpu}/gi{gi}/access {3 + 135 * gpu + 9 * gi}"
        f"\\ngpu{gpu}/gi{gi}/ci0/access {4 + 135 * gpu + 9 * gi}"
        for gpu in (6, 7)
        for gi in range(1, 8)
    )
    capabilities = [
        f"/dev/nvidia-caps/nvidia-cap{3 + 135 * gpu + 9 * gi + ci} c 510:{gi}"
        for gpu in (6, 7)
        for gi in range(1, 8)
        for ci in (0, 1)
    ]
    return [
        *(f"/dev/{name} c 195:255" for name in nodes),
        *capabilities,
        f"/proc/driver/nvidia-caps/mig-minors = {minors}",
    ]


def _gpu(gpu: SimulatedGpu) -> list[str]:
    path = f"/sys/bus/pci/devices/{gpu.pci_address}"
    return [
        f"{path}/vendor = 0x10de",
        f"{path}/device = 0x20b0",
        f"{path}/class = 0x030200",
        f"{path}/numa_node = {gpu.index // 4}",
        f"{path}/driver -> ../../../bus/pci/drivers/nvidia",
        f"/dev/nvidia{gpu.index} c 195:{gpu.index}",
    ]
