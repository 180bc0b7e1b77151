"""The pods of deploy/examples: as documents, and the node that each of them is for."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.testing.amd import V620_HOST, amd_tree
from deviceplugin.testing.amd_functions import write_container_functions
from deviceplugin.testing.intel import B60, set_vfs, write_intel_node
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree
from tests.rig import Rig, nvidia_node
from tests.vendors.amd.amd_nodes import mi300x

EXAMPLES = sorted((Path(__file__).parents[2] / "deploy/examples").glob("*.yaml"))
SIZE = 4 << 30
WHOLE_B60 = replace(B60, address="0000:b4:00.0", card=60, render=190, group=300)
CUT_B60 = replace(B60, address="0000:c4:00.0", card=61, render=200, group=400)


def pod_spec(manifest: Mapping[str, Any]) -> Any:
    """The specification of a Pod, or of a Deployment's pods."""
    spec = manifest["spec"]
    return spec["template"]["spec"] if manifest["kind"] == "Deployment" else spec


def container_of(path: Path) -> Any:
    """The one container of an example."""
    (container,) = pod_spec(yaml.safe_load(path.read_text()))["containers"]
    return container


def three_vendors(rig: Rig) -> None:
    """Eight A100 with MIG instances; an MI300X and MxGPU functions; B60, one of them divided."""
    nvidia_node(rig)
    write_tree(rig.host_root, amd_tree([mi300x(mode="SPX", memory_mode="NPS1")]))
    write_container_functions(rig.host_root, V620_HOST, SIZE)
    write_intel_node(rig.host_root, WHOLE_B60, CUT_B60)
    set_vfs(rig.host_root, CUT_B60, 4, 4227858432)


def vgpu_guest(rig: Rig) -> None:
    """A virtual machine that has a vGPU with 8 GiB."""
    vgpu = replace(
        a100_40gb(0), name="GRID T4-8Q", memory_total_bytes=8 << 30, virtualization=2, mig_max=None
    )
    double = NvmlDouble(rig.host_root, scenario=Scenario(gpus=(vgpu,)))
    write_host_tree(rig.host_root, double.scenario)


def jetson(rig: Rig) -> None:
    """A board of L4T, without NVML."""
    write_tree(
        rig.host_root,
        """
        /etc/nv_tegra_release = # R35 (release), REVISION: 2.1, GCID: 32413640
        /proc/device-tree/model = NVIDIA Jetson AGX Orin Developer Kit
        /dev/nvhost-ctrl-gpu c 505:0
        /dev/nvhost-gpu c 505:1
        /dev/nvmap c 10:53
        """,
    )


class Given(Struct, frozen=True, kw_only=True):
    """What the container of an example has: variables by how their values end (None is any), and
    nodes by how their names begin; `config` is the daemon's, `node` where it runs."""

    env: Mapping[str, str | None] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    config: str = ""
    node: Callable[[Rig], None] = three_vendors


VISIBLE: Mapping[str, str | None] = {"NVIDIA_VISIBLE_DEVICES": None}
RENDER = "/dev/dri/renderD"
KFD = ("/dev/dri/renderD", "/dev/kfd")
GIVEN: Mapping[str, Given] = {
    "nvidia-gpu": Given(env=VISIBLE),
    "nvidia-mig": Given(env=VISIBLE),
    "nvidia-cuda": Given(
        env={**VISIBLE, "CUDA_MEMORY_POOL": "true", "CUDA_UNIFIED_MEMORY": "true"},
        config="cuda: {runtime: {memory_pool: true, unified_memory: true}}",
    ),
    "nvidia-preflight": Given(env=VISIBLE),
    "nvidia-secure": Given(env=VISIBLE),
    "nvidia-vgpu": Given(
        env={**VISIBLE, "NVIDIA_VGPU_PROFILE": "vGPU-8GB", "NVIDIA_VGPU_MEMORY": "8GiB"},
        config="vgpu: {profiles: [{name: vGPU-8GB, memory: 8GiB}]}",
        node=vgpu_guest,
    ),
    "nvidia-memory": Given(
        env={**VISIBLE, "GPU_SHARE_MEMORY_MIB": "=16384"},
        config="rules: [{match: {vendor: nvidia}, joined: true,"
        " offers: [{replicas: 8}, {memory: {}}]}]",
    ),
    "nvidia-jetson": Given(
        env={"NVIDIA_VISIBLE_DEVICES": "tegra"},
        nodes=("/dev/nvhost-ctrl-gpu", "/dev/nvhost-gpu", "/dev/nvmap"),
        config="nvidia: {pass_device_specs: true}",
        node=jetson,
    ),
    "amd-mxgpu": Given(
        env={"HSA_OVERRIDE_GFX_VERSION": "11.0.0", "ROCM_PATH": "/opt/rocm"},
        nodes=KFD,
        config="amd: {hsa_override_gfx_version: 11.0.0, rocm_path: /opt/rocm}",
    ),
    "amd-rocm": Given(
        env={"HIP_MEM_POOL_SUPPORT": "1", "ROCM_MEMORY_POOL": "true"},
        nodes=KFD,
        config="rocm: {runtime: {memory_pool: true}}",
    ),
    "amd-container": Given(nodes=KFD),
    "intel-xe": Given(
        env={"INTEL_XE_MEMORY": "4GiB", "INTEL_XE_COMPUTE_UNITS": "64"},
        nodes=("/dev/dri/card", RENDER),
        config="intel_xe: {instances: [{name: xe-4gb, memory: 4GiB, compute_units: 64}]}",
    ),
    "intel-oneapi": Given(
        env={"ONEAPI_MEMORY_POOL": "true", "ONEAPI_UNIFIED_MEMORY": "true"},
        nodes=("/dev/dri/card", RENDER),
        config="oneapi: {runtime: {memory_pool: true, unified_memory: true}}",
    ),
    "intel-container": Given(nodes=("/dev/dri/card", RENDER)),
}


def requests(container: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """The resources of an example that are not the node's own."""
    for name, amount in container["resources"]["limits"].items():
        if "/" in name:
            yield name, amount
