"""What a container gets for NVIDIA devices, literally as existing clusters know it; pure."""

from collections.abc import Sequence
from uuid import NAMESPACE_OID, uuid5

from deviceplugin.core.edits import merge_edits
from deviceplugin.model import ContainerEdits, Device, DeviceNode, Mount, frozen
from deviceplugin.vendors.nvidia.settings import NvidiaSection

CDI_KIND = "k8s.device-plugin.nvidia.com/gpu"
VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
VOLUME_MOUNTS = "/var/run/nvidia-container-devices"
ANNOTATION = "nvidia-device-plugin_"


def container_edits(
    settings: NvidiaSection, dev_root: str, devices: Sequence[Device]
) -> ContainerEdits:
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
        parts.append(ContainerEdits(device_nodes=device_nodes(dev_root, devices)))
    return merge_edits(parts)


def visible_name(settings: NvidiaSection, device: Device) -> str:
    """What the NVIDIA runtime is told: the UUID, or by the index strategy `1` or `3:0`."""
    if settings.device_id_strategy == "uuid":
        return device.id
    if device.parent is None:
        return str(device.index)
    return f"{device.attributes['gpu_index']}:{device.index}"


def cdi_name(name: str) -> str:
    """The qualified name of a device in our CDI file."""
    return f"{CDI_KIND}={name}"


def device_nodes(dev_root: str, devices: Sequence[Device]) -> tuple[DeviceNode, ...]:
    """All nodes of the devices, each once; inside the container they are directly below /dev."""
    root = dev_root.rstrip("/")
    paths = sorted({node for device in devices for node in device.nodes})
    return tuple(DeviceNode(path=path.removeprefix(root), host_path=path) for path in paths)


def _volume_mounts(names: Sequence[str]) -> ContainerEdits:
    return ContainerEdits(
        env=frozen({VISIBLE_DEVICES: VOLUME_MOUNTS}),
        mounts=tuple(
            Mount(path=f"{VOLUME_MOUNTS}/{name}", host_path="/dev/null", read_only=False)
            for name in names
        ),
    )
