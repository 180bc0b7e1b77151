"""What a container gets for NVIDIA devices, literally as existing clusters know it; pure."""

import re
from collections.abc import Iterator, Sequence
from uuid import NAMESPACE_OID, uuid5

from deviceplugin.edits import merge_edits
from deviceplugin.host import Host
from deviceplugin.model import CdiSpec, ContainerEdits, Device, DeviceNode, Hook, Mount, frozen
from deviceplugin.vendors.nvidia.devices import CONTROL_NODES
from deviceplugin.vendors.nvidia.library import FOLDERS
from deviceplugin.vendors.nvidia.settings import NvidiaSection
from deviceplugin.vendors.nvidia.vgpu_host import is_for_vm

CDI_KIND = "k8s.device-plugin.nvidia.com/gpu"
DEV = "/dev/"


VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"


VOLUME_MOUNTS = "/var/run/nvidia-container-devices"


ANNOTATION = "nvidia-device-plugin_"


def container_edits(settings: NvidiaSection, devices: Sequence[Device]) -> ContainerEdits:
    """The union of the configured strategies.

    With envvar and volume-mounts together the variable has the value of volume-mounts. The key
    of the CDI annotation is made of the ids, so that the same request has the same answer.
    """
    names = [visible_name(settings, device) for device in devices]
    strategies = set(settings.device_list_strategy)
    parts = []
    if "envvar" in strategies:
        parts.append(ContainerEdits(env=frozen({VISIBLE_DEVICES: ",".join(names)})))
    if "volume-mounts" in strategies:
        parts.append(_volume_mounts(names))
    if "cdi-annotations" in strategies:
        key = f"{settings.cdi_annotation_prefix}{ANNOTATION}{uuid5(NAMESPACE_OID, str(names))}"
        value = ",".join(cdi_name(name) for name in names)
        parts.append(ContainerEdits(annotations=frozen({key: value})))
    if "cdi-cri" in strategies:
        parts.append(ContainerEdits(cdi_devices=tuple(cdi_name(name) for name in names)))
    if settings.pass_device_specs and strategies & {"envvar", "volume-mounts"}:
        parts.append(ContainerEdits(device_nodes=device_nodes(devices)))
    return merge_edits(parts)


def visible_name(settings: NvidiaSection, device: Device) -> str:
    """A device's name for the NVIDIA runtime: the UUID, or `1` or `3:0` by the index strategy."""
    if settings.device_id_strategy == "uuid":
        return device.id
    return str(device.index) if device.ordinal is None else device.ordinal


def cdi_name(name: str) -> str:
    """The qualified name of a device in our CDI file."""
    return f"{CDI_KIND}={name}"


def device_nodes(devices: Sequence[Device]) -> tuple[DeviceNode, ...]:
    """All nodes of the devices, each once; inside the container they are directly below /dev,
    whatever driver root they are in on the host."""
    paths = sorted({node for device in devices for node in device.nodes})
    return tuple(DeviceNode(path=path[path.rindex(DEV) :], host_path=path) for path in paths)


def _volume_mounts(names: Sequence[str]) -> ContainerEdits:
    return ContainerEdits(
        env=frozen({VISIBLE_DEVICES: VOLUME_MOUNTS}),
        mounts=tuple(
            Mount(path=f"{VOLUME_MOUNTS}/{name}", host_path="/dev/null", read_only=False)
            for name in names
        ),
    )


PROGRAMS = (
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
)


def cdi_spec(settings: NvidiaSection, devices: Sequence[Device]) -> CdiSpec:
    """The devices of the file, without the driver's files; pure."""
    offered = [d for d in devices if d.resource is not None and not is_for_vm(d)]
    control = [n for n in device_nodes(offered) if n.path in CONTROL_NODES]
    return CdiSpec(
        kind=CDI_KIND,
        devices={
            visible_name(settings, device): ContainerEdits(device_nodes=_own(device))
            for device in offered
        },
        common=ContainerEdits(env=frozen({VISIBLE_DEVICES: "void"}), device_nodes=tuple(control)),
    )


def _own(device: Device) -> tuple[DeviceNode, ...]:
    return tuple(n for n in device_nodes([device]) if n.path not in CONTROL_NODES)


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
