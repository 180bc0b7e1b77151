"""Our daemon on a simulated node with GPUs of three vendors, as the suite is told about it."""

import contextlib
import random
import shlex
import socket
import sys
from typing import Any

from msgspec.structs import replace

from deviceplugin.testing.amd import V620_HOST, amd_tree
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.intel import B60, set_vfs, write_intel_node
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import NvmlDouble
from tests.fakes.nvml.cards import gpu_uuid
from tests.fakes.nvml.control import NO_INSTANCE
from tests.rig import Rig, nvidia_node
from tests.vendors.amd.amd_nodes import mi300x

NVIDIA = tuple(f"nvidia.com/{n}" for n in ("gpu", "mig-1g.5gb", "mig-2g.10gb", "mig-3g.20gb"))
AMD = ("amd.com/gpu", "amd.com/mxgpu-4gb-vfio")
INTEL = ("intel.com/xe-4gb", "intel.com/xe-4gb-vfio")
# The variable of NVIDIA's runtime is one for all resources, and its isolation rests on it alone
# (lines 50 and 55): a node whose runtime knows CDI needs neither.
CONFIG = """
nvidia: {device_list_strategy: [cdi-cri]}
amd: {resource_naming: single}
intel_xe:
  instances: [{name: xe-4gb, memory: 4GiB, compute_units: 64}]
mxgpu:
  instances: [{name: mxgpu-4gb, memory: 4GiB}]
"""


def three_vendors(rig: Rig) -> NvmlDouble:
    """Eight A100 (two of them cut), an MI300X in CPX, eight V620 slices, a B60 with six."""
    gpu = replace(B60, address="0000:b4:00.0", card=60, render=190, group=300)
    double = nvidia_node(rig)
    write_tree(rig.host_root, amd_tree([mi300x()], [V620_HOST]))
    write_intel_node(rig.host_root, gpu)
    set_vfs(rig.host_root, gpu, 6, 4227858432, ["xe"] * 4 + ["vfio-pci"] * 2)
    return double


def settings_for(rig: Rig, config: str = CONFIG, **changes: Any) -> Settings:  # Settings' fields
    """Everything the suite can be told about our daemon on this node."""
    address = f"127.0.0.1:{_free_port()}"
    flags = ("--config", str(rig.config(config)), "--metrics-address", address)
    known: dict[str, Any] = {
        "kubelet_dir": rig.kubelet_dir,
        "command": tuple(rig.command(*flags)),
        "host_root": rig.host_root,
        "cdi_dir": rig.cdi_dir,
        "readiness_url": f"http://{address}/readyz",
    }
    return Settings(**(known | changes))


def hooks(rig: Rig, double: NvmlDouble, index: int = 3) -> dict[str, Any]:
    """Commands by which a GPU falls off the bus, as the driver says, and is well as we say."""
    event = f"1 gpu={index} type=0x8 data=79 gi={NO_INSTANCE} ci={NO_INSTANCE}"
    state = ("--state-dir", str(rig.state_dir), "--forget-faults")
    mend = (sys.executable, "-m", "deviceplugin", "uncordon", gpu_uuid(index), *state)
    line = shlex.quote(str(double.folder / "nvml-events"))
    return {"break_command": ("sh", "-c", f"echo '{event}' >> {line}"), "mend_command": mend}


def _free_port() -> int:
    """One that the kernel gives to nobody who asks for any: the daemon binds it again and again."""
    while True:
        with contextlib.suppress(OSError):
            port = random.randrange(10_000, 30_000)
            with socket.create_server(("127.0.0.1", port)):
                return port
