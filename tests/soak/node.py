"""The node of a soak: GPUs of three vendors, what can happen to them, and what they are now."""

import random
from collections.abc import Mapping

from msgspec.structs import replace

from deviceplugin.testing.amd import V620_HOST, SimulatedGpu, amd_tree, switch_mode
from deviceplugin.testing.intel import B60, set_vfs, vf_address, write_intel_node
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import NvmlDouble, gpu_uuid
from tests.rig import GPU, MIG_1G, MIG_2G, MIG_3G, Rig, boot, nvidia_node
from tests.vendors.amd.amd_nodes import mi300x

AMD, AMD_SLICE = "amd.com/gpu", "amd.com/mxgpu-4gb-vfio"
INTEL, INTEL_SLICE = "intel.com/xe-4gb", "intel.com/xe-4gb-vfio"
SHARED, MEMORY = "nvidia.com/gpu.shared", "nvidia.com/gpu-memory-10gi"
STEADY = (GPU, SHARED, AMD, AMD_SLICE)  # there whatever happens
WHOLE = {GPU: 6, SHARED: 8, MEMORY: 6, MIG_1G: 9, MIG_2G: 1, MIG_3G: 1}
WHOLE |= {AMD: 8, AMD_SLICE: 8, INTEL: 4, INTEL_SLICE: 2}
CUTS = (("1g.5gb",) * 7, ("3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"), ())
VFS = ((4, 2), (2, 2), (0, 0))
QUOTA = 4227858432
B60_HERE = replace(B60, address="0000:b4:00.0", card=60, render=190, group=300)
MI300X = "amd-e3aa140f9a5f9e31"
AMD_PARTS = tuple(f"{MI300X}-p{number}" for number in range(8))
HOT = {"0000:05:00.0": "amd", B60_HERE.address: "intel"}


class SoakNode:
    """Eight A100 (4 and 5 in three forms, 6 and 7 cut), an MI300X, eight V620 slices, a B60.

    Methods change the hardware, as an administrator or as fate does.
    """

    def __init__(self, rig: Rig) -> None:
        self.root = rig.host_root
        boot(self.root)
        self.nvml: NvmlDouble = nvidia_node(rig)
        self._gpus: tuple[SimulatedGpu, ...] = (mi300x(),)
        self._vfs = VFS[0]
        self._parents = {V620_HOST.vf_address(n): V620_HOST.address for n in range(8)}
        self._parents |= dict.fromkeys(AMD_PARTS, MI300X)
        self._parents |= {vf_address(B60_HERE, n + 1): B60_HERE.address for n in range(6)}
        write_tree(self.root, amd_tree(self._gpus, [V620_HOST]))
        write_intel_node(self.root, B60_HERE)
        self.restore()

    def restore(self) -> None:
        """The hardware as it was at first: well, and cut as `WHOLE` has it."""
        self.nvml.clear_faults()
        self.cut_nvidia(CUTS[0])
        self.switch_amd("CPX")
        self.cut_intel(VFS[0])
        for address in HOT:
            self.heat(address, 60)

    def cut_nvidia(self, profiles: tuple[str, ...]) -> None:
        """MIG instances of GPU 7, none for a whole GPU. New instances have new ids."""
        if profiles:
            self.nvml.set_mig(7, profiles)
        else:
            self.nvml.clear_mig(7)
        self._parents |= {one.uuid: gpu.uuid for gpu in self.nvml.scenario.gpus for one in gpu.mig}

    def switch_amd(self, mode: str) -> None:
        """The compute partitions of the MI300X."""
        if self._gpus[0].mode != mode:
            self._gpus = switch_mode(self.root, self._gpus, self._gpus[0].address, mode)

    def cut_intel(self, functions: tuple[int, int]) -> None:
        """Virtual functions of the B60: so many for containers, so many for machines."""
        ours, theirs = self._vfs = functions
        drivers = ["xe"] * ours + ["vfio-pci"] * theirs
        set_vfs(self.root, B60_HERE, ours + theirs, QUOTA, drivers)

    def heat(self, address: str, celsius: int) -> None:
        """The temperature of an AMD or Intel GPU; from 105 on it is an emergency."""
        sensor = f"/sys/bus/pci/devices/{address}/hwmon/hwmon3/temp1"
        lines = {"label": "junction", "crit": 100_000, "emergency": 105_000}
        lines["input"] = 1000 * celsius
        write_tree(self.root, "\n".join(f"{sensor}_{k} = {v}" for k, v in lines.items()))

    @property
    def parts(self) -> frozenset[str]:
        """The ids of all parts of GPUs that there are now."""
        nvidia = [one.uuid for gpu in self.nvml.scenario.gpus for one in gpu.mig]
        amd = AMD_PARTS if self._gpus[0].mode == "CPX" else ()
        intel = [vf_address(B60_HERE, n + 1) for n in range(sum(self._vfs))]
        return frozenset([*nvidia, *amd, *intel, *map(V620_HOST.vf_address, range(8))])

    def is_part(self, device_id: str) -> bool:
        """Whether an id is or was of a part of a GPU."""
        return device_id in self._parents

    def gpu_of(self, device_id: str) -> str:
        """The GPU that an id is of, itself for a whole GPU."""
        gpu = self._parents.get(device_id, device_id)
        return gpu[: len(gpu_uuid(0))] if gpu.startswith("GPU-") else gpu

    def is_there(self, device_id: str) -> bool:
        """Whether what an id stands for exists in the present layout."""
        parts = self.parts
        if self.is_part(device_id):
            return device_id in parts
        return self.gpu_of(device_id) not in {self.gpu_of(part) for part in parts}


def configurations(dice: random.Random) -> Mapping[str, bool]:
    """Files that the daemon may be given, and whether it takes them."""
    return {
        configured(offers=dice.randint(2, 4)): True,
        configured(offers=4, more="health: {hold_s: 0, hold_max_s: 1}"): True,
        configured(offers=3, more="isolation: none"): True,
        "rules: [{offers: [nonsense]}]": False,
        "nvidia: {mig_strategy: both}": False,
        "rules: [": False,
    }


def configured(offers: int = 4, more: str = "health: {hold_s: 0, hold_max_s: 0}") -> str:
    """The configuration of the node, with so many replicas of each shared GPU."""
    return f"""
amd: {{resource_naming: single}}
intel_xe:
  instances: [{{name: xe-4gb, memory: 4GiB, compute_units: 64}}]
mxgpu:
  instances: [{{name: mxgpu-4gb, memory: 4GiB}}]
rules:
- match: {{vendor: nvidia, index: [4, 5]}}
  offers: [whole, {{replicas: {offers}}}, {{memory: {{unit: 10GiB}}}}]
telemetry: {{enabled: true, interval_s: 1, processes: true, history: true}}
{more}
"""
