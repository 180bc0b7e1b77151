"""The simulated nodes of the measurements of scale: GPUs of one to three vendors, cut finer and
finer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bench.plainkubelet import PlainKubelet
from deviceplugin.testing.amd import MI300X, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, write_intel_node
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, with_nvswitch, write_host_tree
from tests.rig import DaemonProcess, Rig

GPUS = 8
GPU_MIB = MI300X.memory_bytes >> 20
# As in the image: without docstrings, with bytecode that was written before.
SHIPPED = {"PYTHONOPTIMIZE": "2", "PYTHONDONTWRITEBYTECODE": ""}
BOOT_ID = "proc/sys/kernel/random/boot_id"


class Node(Struct, frozen=True, kw_only=True):
    """How a node is made: its GPUs and the configuration that gives `sizes` devices a resource."""

    name: str
    sizes: Sequence[int]
    vendors: Sequence[str] = ("amd",)
    partitions: bool = False
    rules: Sequence[Any] = ()

    @property
    def devices(self) -> int:
        """How many ids are advertised in all."""
        return sum(self.sizes)


def node_of(devices: int) -> Node:
    """The node of eight MI300X with so many devices in one resource."""
    if devices == GPUS:
        return Node(name="whole GPUs", sizes=[GPUS])
    if devices == 64:
        return Node(name="partitions (CPX)", sizes=[64], partitions=True)
    unit, rule = _slices(GPU_MIB, devices // GPUS)
    return Node(name=f"slices of {unit} MiB", sizes=[devices], rules=[rule])


def too_many() -> Node:
    """60,000 slices of eight A100, whose ids are longer: more than a kubelet takes."""
    unit, rule = _slices((a100_40gb(0).memory_total_bytes or 0) >> 20, 7500)
    return Node(name=f"slices of {unit} MiB", sizes=[], vendors=["nvidia"], rules=[rule])


def many_resources(devices: int) -> Node:
    """So many devices in eight resources, all of them replicas of one GPU."""
    each = devices // GPUS
    offers = [{"replicas": each, "name": f"amd.com/form-{n}"} for n in range(GPUS)]
    rules = [{"match": {"index": 7}, "offers": offers}, {"offers": ["exclude"]}]
    return Node(name="8 resources", sizes=[each] * GPUS, rules=rules)


def large_in_the_middle() -> Node:
    """Three vendors, of which the second has 10,000 ids: neither the first discovery to come nor
    the last."""
    unit, rule = _slices(GPU_MIB, 1250)
    rules = [{"match": {"vendor": "amd"}, **rule}]
    name = f"three vendors, AMD in slices of {unit} MiB"
    sizes, vendors = [GPUS, 10_000, GPUS], ("nvidia", "amd", "intel")
    return Node(name=name, sizes=sizes, vendors=vendors, rules=rules)


def vendors_of(count: int) -> Node:
    """8 GPUs each of the first `count` vendors."""
    vendors = ("nvidia", "amd", "intel")[:count]
    return Node(name=", ".join(vendors) or "none", sizes=[GPUS] * count, vendors=vendors)


def _slices(gpu_mib: int, each: int) -> tuple[int, Any]:
    """The MiB of memory slices that come to exactly `each` a GPU, and their rule: what does not
    divide is reserved."""
    unit = (gpu_mib - 1024) // each
    memory = {"unit": f"{unit}MiB", "reserve": f"{gpu_mib - unit * each}MiB"}
    return unit, {"offers": [{"memory": memory}]}


class Bench:
    """A node below `root` with a plain kubelet, and daemons started against it."""

    def __init__(self, root: Path, node: Node) -> None:
        self.node, self.rig = node, Rig(root)
        self.kubelet = PlainKubelet(self.rig.kubelet_dir)
        host = self.rig.host_root
        (host / BOOT_ID).parent.mkdir(parents=True)
        (host / BOOT_ID).write_text("00000000-0000-0000-0000-000000000001\n")
        if "nvidia" in node.vendors:
            _write_nvidia(host)
        if "amd" in node.vendors:
            write_amd_node(host, _mi300x(node.partitions))
        if "intel" in node.vendors:
            write_intel_node(host, *_b60())
        config = {"health": {"hold_s": 0, "hold_max_s": 0}, "rules": list(node.rules)}
        self._config = str(self.rig.config(json.dumps(config)))

    def start(self) -> DaemonProcess:
        """A daemon, with its compiled modules, as an installed one has them."""
        return self.rig.start("--config", self._config, **SHIPPED)

    def command(self) -> list[str]:
        """How such a daemon is started."""
        return self.rig.command("--config", self._config)

    async def end(self, daemon: DaemonProcess) -> None:
        """End daemon and kubelet."""
        await daemon.stop()
        await self.kubelet.close()


def _write_nvidia(host: Path) -> None:
    """Eight A100, without events: the double polls for them, a driver does not."""
    gpus = with_nvswitch([a100_40gb(index) for index in range(GPUS)])
    scenario = Scenario(gpus=tuple(replace(gpu, event_types=None) for gpu in gpus))
    NvmlDouble(host, scenario=scenario)
    write_host_tree(host, scenario)


def _mi300x(partitions: bool) -> list[SimulatedGpu]:
    mode, memory_mode = ("CPX", "NPS4") if partitions else ("SPX", "NPS1")
    return [
        SimulatedGpu(
            address=f"0000:{bus:02x}:00.0",
            model=MI300X,
            unique_id=f"e3aa140f9a5f9e{bus:02x}",
            numa_node=bus // 0x50,
            mode=mode,
            memory_mode=memory_mode,
            hive=1,
        )
        for bus in range(0x20, 0xA0, 0x10)
    ]


def _b60() -> list[Any]:
    return [
        replace(
            B60,
            address=f"0000:{0xA4 + n:02x}:00.0",
            card=60 + n,
            render=190 + n,
            group=300 + 20 * n,
            numa_node=n // 4,
            total_vfs=0,
        )
        for n in range(GPUS)
    ]
