"""The simulated nodes of the demo, and what happens on each."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from deviceplugin.config.schema import decode_sections
from deviceplugin.demo.privileged import PrivilegedProcess
from deviceplugin.demo.scenario import Node, Scenario, Step
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.host import Host
from deviceplugin.provision import section as partition_sections
from deviceplugin.testing.amd import DEMO_GPUS, V620_HOST, switch_mode, write_amd_node
from deviceplugin.testing.amd_functions import write_container_functions
from deviceplugin.testing.intel import B60, set_vfs, write_intel_node
from deviceplugin.testing.nvidia_node import NvidiaNode
from deviceplugin.vendor import Vendor

NVIDIA = {
    "nvidia.com/gpu": 6,
    "nvidia.com/mig-1g.5gb": 9,
    "nvidia.com/mig-2g.10gb": 1,
    "nvidia.com/mig-3g.20gb": 1,
}
XE_QUOTA_BYTES = 4227858432
MXGPU_BYTES = 4261412864
XE_DRIVERS = ("xe", "xe", "xe", "xe", "vfio-pci", "vfio-pci")
WHOLE_GPUS = (DEMO_GPUS[0], replace(DEMO_GPUS[1], mode="SPX", memory_mode="NPS1"))
DECLARED: dict[str, Any] = {
    "partitions": [
        {"select": {"address": WHOLE_GPUS[1].address}, "compute": "CPX"},
        {
            "select": {"vendor": "intel"},
            "virtual_functions": {"count": 4, "memory": "4GiB", "driver": "xe"},
        },
    ]
}
WHOLE_B60 = replace(B60, address="0000:b4:00.0", card=60, render=190, group=300)


def _vendor(name: str, root: Path, sections: Mapping[str, Any], **seams: Any) -> Vendor:
    """A vendor as the daemon creates it; `seams` replace libraries that files cannot simulate."""
    (module,) = load_vendors((name,))
    create: Callable[..., Vendor] = module.create  # a seam is a vendor's own, not the contract's
    return create(Host(root), decode_sections(dict(sections), module.SECTIONS), **seams)


def _nvidia_vendor(node: NvidiaNode, root: Path) -> Vendor:
    sections = {"nvidia": {"pass_device_specs": True}}
    return _vendor("nvidia", root, sections, open_library=node.open_library)


def _nvidia(root: Path) -> Node:
    node = NvidiaNode(root)
    return Node(
        [_nvidia_vendor(node, root)],
        [
            Step("GPU 3 is lost (NVML: GPU is lost):", node.lose_gpu_3, {"nvidia.com/gpu": 5}),
            Step("It answers again:", node.recover_gpu_3, {"nvidia.com/gpu": 6}),
        ],
    )


def _amd(root: Path) -> Node:
    write_amd_node(root, DEMO_GPUS, [V620_HOST])
    address = DEMO_GPUS[1].address
    switch = partial(switch_mode, root, DEMO_GPUS, address)
    return Node(
        [_vendor("amd", root, {"amd": {"resource_naming": "mixed"}})],
        [
            Step(
                f"The administrator switches {address} from CPX to SPX:",
                lambda: _ignore(switch("SPX")),
                {"amd.com/gpu": 2, "amd.com/cpx_nps4": 0},
            ),
            Step(
                "And back to CPX:",
                lambda: _ignore(switch("CPX")),
                {"amd.com/gpu": 1, "amd.com/cpx_nps4": 8},
            ),
        ],
    )


def _intel(root: Path) -> Node:
    write_intel_node(root, B60, WHOLE_B60)
    set_vfs(root, B60, 6, XE_QUOTA_BYTES, XE_DRIVERS)
    divide = partial(set_vfs, root, WHOLE_B60)
    pinned = {"name": "xe-4gb", "memory": "4GiB", "compute_units": 64}
    return Node(
        [_vendor("intel", root, {"intel_xe": {"instances": [pinned]}})],
        [
            Step(
                f"The administrator writes 6 to sriov_numvfs of {WHOLE_B60.address}:",
                lambda: divide(6, XE_QUOTA_BYTES),
                {"intel.com/gpu": 0, "intel.com/xe-4gb": 10, "intel.com/xe-4gb-vfio": 2},
            ),
            Step(
                "And 0 again:",
                lambda: divide(0),
                {"intel.com/gpu": 1, "intel.com/xe-4gb": 4, "intel.com/xe-4gb-vfio": 2},
            ),
        ],
    )


def _partitions(root: Path) -> Node:
    write_amd_node(root, WHOLE_GPUS)
    write_intel_node(root, WHOLE_B60)
    process = PrivilegedProcess(root, WHOLE_GPUS, WHOLE_B60)
    address = WHOLE_GPUS[1].address
    return Node(
        [_vendor("amd", root, {"amd": {"resource_naming": "mixed"}}), _vendor("intel", root, {})],
        [
            Step(
                f"`deviceplugin provision` starts: the configuration wants {address} in CPX and"
                " four virtual functions of the B60; the other MI300X serves on:",
                process.start,
                {
                    "amd.com/gpu": 1,
                    "amd.com/cpx_nps1": 8,
                    "intel.com/gpu": 0,
                    "intel.com/xe-4gb": 4,
                },
                {"amd.com/cpx_nps1": 1, "intel.com/xe-4gb": 1},
            )
        ],
        decode_sections(DECLARED, partition_sections.SECTIONS),
    )


def _mixed(root: Path) -> Node:
    node = NvidiaNode(root)
    write_amd_node(root, [replace(DEMO_GPUS[1], address="0000:05:00.0")])
    write_container_functions(root, V620_HOST, MXGPU_BYTES)
    write_intel_node(root, WHOLE_B60)
    set_vfs(root, WHOLE_B60, 6, XE_QUOTA_BYTES, XE_DRIVERS)
    return Node(
        [_nvidia_vendor(node, root), _vendor("amd", root, {}), _vendor("intel", root, {})],
        [
            Step(
                "NVIDIA's driver fails (NVML: Unknown Error); the other vendors serve on:",
                node.break_driver,
                dict.fromkeys(NVIDIA, 0) | {"amd.com/mxgpu-4gb": 8, "intel.com/xe-4gb": 4},
                {"amd.com/mxgpu-4gb": 1, "intel.com/xe-4gb": 1},
            ),
            Step("It works again:", node.mend_driver, NVIDIA),
        ],
    )


def _ignore(_: object) -> None:
    """A step returns nothing."""


SCENARIOS: Mapping[str, Scenario] = {
    "mixed": Scenario(
        "8 NVIDIA A100, an AMD MI300X in eight partitions with a V620, an Intel Arc Pro B60 with"
        " six virtual functions: three vendors, one daemon",
        _mixed,
        NVIDIA
        | {"amd.com/gpu": 8, "amd.com/mxgpu-4gb": 8}
        | {"intel.com/xe-4gb": 4, "intel.com/xe-4gb-vfio": 2},
        {"nvidia.com/mig-1g.5gb": 1, "amd.com/mxgpu-4gb": 1, "intel.com/xe-4gb": 1},
    ),
    "nvidia": Scenario(
        "8 NVIDIA A100, two of them cut into MIG instances",
        _nvidia,
        NVIDIA,
        {"nvidia.com/gpu": 2},
    ),
    "amd": Scenario(
        "one AMD MI300X whole, one in eight partitions (CPX, NPS4), a V620 with eight virtual"
        " functions for virtual machines",
        _amd,
        {"amd.com/gpu": 1, "amd.com/cpx_nps4": 8, "amd.com/mxgpu-4gb-vfio": 8},
        {"amd.com/cpx_nps4": 2},
    ),
    "intel": Scenario(
        "one Intel Arc Pro B60 whole, one with six virtual functions of which two are for virtual"
        " machines",
        _intel,
        {"intel.com/gpu": 1, "intel.com/xe-4gb": 4, "intel.com/xe-4gb-vfio": 2},
        {"intel.com/xe-4gb": 2},
    ),
    "partitions": Scenario(
        "two AMD MI300X and an Intel Arc Pro B60, all whole, and a configuration that wants some of"
        " them cut",
        _partitions,
        {"amd.com/gpu": 2, "intel.com/gpu": 1},
        {"amd.com/gpu": 1},
        {"amd.com/gpu": 1, "amd.com/cpx_nps1": 8, "intel.com/xe-4gb": 4},
    ),
}
