"""What a container gets for NVIDIA devices, literally as existing clusters know it; pure."""

from collections.abc import Sequence
from uuid import NAMESPACE_OID, uuid5

from deviceplugin.edits import merge_edits
from deviceplugin.model import CdiSpec, ContainerEdits, Device, DeviceNode, Mount, frozen
from deviceplugin.vendors.nvidia.devices import CONTROL_NODES
from deviceplugin.vendors.nvidia.settings import NvidiaSection
from deviceplugin.vendors.nvidia.vgpu_host import is_for_vm

CDI_KIND = "k8s.device-plugin.nvidia.com/gpu"
DEV = "/dev/"


VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"


VOLUME_MOUNTS = "/var/run/nvidia-container-devices"


ANNOTATION = "nvidia-device-plugin_"


def container_edits(
    settings: NvidiaSection, devices: Sequence[Device], more: Sequence[str] = ()
) -> ContainerEdits:
    """The union of the configured strategies; `more` are CDI names of what is given beside GPUs.

    With envvar and volume-mounts together the variable has the value of volume-mounts. The key
    of the CDI annotation is made of the ids, so that the same request has the same answer.
    """
    names = [visible_name(settings, device) for device in devices]
    qualified = (*map(cdi_name, names), *more)
    strategies = set(settings.device_list_strategy)
    parts = []
    if "envvar" in strategies:
        parts.append(ContainerEdits(env=frozen({VISIBLE_DEVICES: ",".join(names)})))
    if "volume-mounts" in strategies:
        parts.append(_volume_mounts(names))
    if "cdi-annotations" in strategies:
        key = f"{settings.cdi_annotation_prefix}{ANNOTATION}{uuid5(NAMESPACE_OID, str(names))}"
        value = ",".join(qualified)
        parts.append(ContainerEdits(annotations=frozen({key: value})))
    if "cdi-cri" in strategies:
        parts.append(ContainerEdits(cdi_devices=qualified))
    if settings.pass_device_specs and strategies & {"envvar", "volume-mounts"}:
        parts.append(ContainerEdits(device_nodes=device_nodes(devices)))
    return merge_edits(parts)


def visible_name(settings: NvidiaSection, device: Device) -> str:
    """A device's name for the NVIDIA runtime: the UUID, or `1` or `3:0` by the index strategy; what
    NVML does not number has no other name than its id."""
    if settings.device_id_strategy == "uuid" or device.pci_address is None:
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


def is_described(device: Device) -> bool:
    """Whether a device has its place in the CDI file: one that containers get."""
    return device.resource is not None and not is_for_vm(device)


def cdi_spec(settings: NvidiaSection, devices: Sequence[Device]) -> CdiSpec:
    """The devices of the file, without the driver's files; pure."""
    offered = [d for d in devices if is_described(d)]
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
