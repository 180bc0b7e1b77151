"""What a container gets for Intel devices, as an answer and as CDI files; pure."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from types import MappingProxyType

from deviceplugin.edits import VfioFunction, merge_edits, vfio_edits
from deviceplugin.model import (
    CdiSpec,
    ContainerEdits,
    Device,
    DeviceNode,
    Mount,
    ResourceName,
    frozen,
)
from deviceplugin.vendors.intel import naming as attributes
from deviceplugin.vendors.intel.settings import Strategy

CDI_KIND = "k8s.device-plugin.intel.com/gpu"
BY_PATH_DIRECTORY = "/dev/dri/by-path"


def answer(
    devices: Sequence[Device], strategies: Iterable[Strategy], links: str | None = None
) -> ContainerEdits:
    """Everything for a container that holds `devices`: its variables in any case, the devices
    as nodes or by their CDI names, as the strategies say.

    `links` is the directory of the host that has the links of exactly these devices. It is a part
    of no CDI entry: of two devices' mounts in one place a container would see one only.
    """
    mounts = (Mount(path=BY_PATH_DIRECTORY, host_path=links),) if links else ()
    parts = [_variables(devices), ContainerEdits(mounts=mounts)]
    for strategy in strategies:
        if strategy == "device-specs":
            parts += [node_edits(device) for device in devices]
        elif strategy == "cdi-cri":
            parts.append(ContainerEdits(cdi_devices=_cdi_names(devices)))
        else:
            parts.append(ContainerEdits(annotations=frozen(_annotation(devices))))
    return merge_edits(parts)


def node_edits(device: Device) -> ContainerEdits:
    """The nodes of one device: the whole of its CDI entry, a part of an answer."""
    if device.functions:
        return ContainerEdits(device_nodes=_vfio_edits([device]).device_nodes)
    return ContainerEdits(
        device_nodes=tuple(DeviceNode(path=node, host_path=node) for node in device.nodes),
    )


def cdi_spec(devices: Iterable[Device]) -> CdiSpec:
    """The CDI file of all offered devices, which are named in it by their ids."""
    offered = sorted((d for d in devices if d.resource), key=lambda device: device.id)
    entries = {str(device.id): node_edits(device) for device in offered}
    return CdiSpec(kind=CDI_KIND, devices=MappingProxyType(entries))


def _variables(devices: Sequence[Device]) -> ContainerEdits:
    slices = [_slice_variables(device) for device in devices]
    machines = _vfio_edits([device for device in devices if device.functions])
    return merge_edits([*slices, ContainerEdits(env=machines.env)])


def _slice_variables(device: Device) -> ContainerEdits:
    """What the pinned list says of a slice, in the variables that users' programs read."""
    told = {
        "INTEL_XE_MEMORY": device.attributes.get(attributes.SLICE_MEMORY),
        "INTEL_XE_COMPUTE_UNITS": device.attributes.get(attributes.COMPUTE_UNITS),
    }
    return ContainerEdits(env=frozen({k: v for k, v in told.items() if v is not None}))


def _vfio_edits(devices: Iterable[Device]) -> ContainerEdits:
    """One variable a resource with the addresses of all its functions, for KubeVirt."""
    ordered = sorted(devices, key=_resource)
    return merge_edits(
        vfio_edits(ResourceName(name), [f for device in group for f in _functions(device)])
        for name, group in groupby(ordered, key=_resource)
    )


def _functions(device: Device) -> tuple[VfioFunction, ...]:
    return tuple(VfioFunction(address=address, nodes=device.nodes) for address in device.functions)


def _resource(device: Device) -> str:
    return device.resource or ""


def _cdi_names(devices: Sequence[Device]) -> tuple[str, ...]:
    return tuple(f"{CDI_KIND}={device.id}" for device in devices)


def _annotation(devices: Sequence[Device]) -> dict[str, str]:
    """A key of its own for each answer, as several may be merged into one container.

    An annotation's name cannot have `/` or `:`.
    """
    if not devices:
        return {}
    first = devices[0].id.replace(":", "-")
    return {f"cdi.k8s.io/deviceplugin-intel_{first}": ",".join(_cdi_names(devices))}
