"""The CDI file for NVIDIA devices: their nodes, and the driver's libraries and programs.

Libraries are mounted under all the names that the driver's own links give them, so that no hook
has to make links inside a container: hooks are host code run with a container's input
(CVE-2025-23266, CVE-2025-23267). A hook to refresh the linker's cache is added only on request.
"""

import re
from collections.abc import Iterator, Sequence

from deviceplugin.host import Host
from deviceplugin.model import (
    CdiSpec,
    ContainerEdits,
    Device,
    DeviceNode,
    Hook,
    Mount,
    frozen,
)
from deviceplugin.vendors.nvidia.devices import CONTROL_NODES
from deviceplugin.vendors.nvidia.edits import CDI_KIND, VISIBLE_DEVICES, device_nodes, visible_name
from deviceplugin.vendors.nvidia.library import FOLDERS
from deviceplugin.vendors.nvidia.settings import NvidiaSection
from deviceplugin.vendors.nvidia.vgpu_host import is_for_machines

PROGRAMS = (
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
)


def cdi_spec(settings: NvidiaSection, dev_root: str, devices: Sequence[Device]) -> CdiSpec:
    """The devices of the file, without the driver's files; pure."""
    offered = [d for d in devices if d.resource is not None and not is_for_machines(d)]
    control = [n for n in device_nodes(dev_root, offered) if n.path in CONTROL_NODES]
    return CdiSpec(
        kind=CDI_KIND,
        devices={
            visible_name(settings, device): ContainerEdits(device_nodes=_own(dev_root, device))
            for device in offered
        },
        common=ContainerEdits(env=frozen({VISIBLE_DEVICES: "void"}), device_nodes=tuple(control)),
    )


def _own(dev_root: str, device: Device) -> tuple[DeviceNode, ...]:
    return tuple(n for n in device_nodes(dev_root, [device]) if n.path not in CONTROL_NODES)


def read_driver_files(
    host: Host, driver_root: str, version: str, hook_path: str | None
) -> ContainerEdits:
    """Mounts of each library and program of exactly this driver version, and the hook if asked.

    The paths inside are those below the driver root, where the driver's own linker looks.
    """
    root = driver_root.rstrip("/")
    folders = [f for f in FOLDERS if host.read_names(f"{root}/{f}")]
    libraries = [mount for f in folders for mount in _libraries(host, root, f"/{f}", version)]
    programs = [
        Mount(path=f"/usr/bin/{name}", host_path=f"{root}/usr/bin/{name}")
        for name in PROGRAMS
        if host.exists(f"{root}/usr/bin/{name}")
    ]
    used = sorted({mount.path.rpartition("/")[0] for mount in libraries})
    hooks = (_cache_hook(hook_path, used),) if hook_path and used else ()
    return ContainerEdits(mounts=(*libraries, *programs), hooks=hooks)


def _libraries(host: Host, root: str, folder: str, version: str) -> Iterator[Mount]:
    library = re.compile(rf"lib[\w.+-]+\.so\.{re.escape(version)}")
    names = host.read_names(f"{root}{folder}")
    real = {name for name in names if library.fullmatch(name)}
    for name in names:
        target = name if name in real else host.read_link_name(f"{root}{folder}/{name}")
        if target in real:
            yield Mount(path=f"{folder}/{name}", host_path=f"{root}{folder}/{target}")


def _cache_hook(path: str, folders: Sequence[str]) -> Hook:
    """`nvidia-ctk hook update-ldcache` or `nvidia-cdi-hook update-ldcache`."""
    base = path.rpartition("/")[2]
    verb = (base, "hook") if base == "nvidia-ctk" else (base,)
    arguments = [word for folder in folders for word in ("--folder", folder)]
    return Hook(name="createContainer", path=path, args=(*verb, "update-ldcache", *arguments))
