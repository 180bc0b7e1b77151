"""Container edits: merged, and what a virtual machine gets for a VFIO function; pure."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import Struct

from deviceplugin.model import ContainerEdits, DeviceNode, Mount, ResourceName, frozen

__all__ = [
    "VFIO_CONTAINER",
    "VfioFunction",
    "kubevirt_variable",
    "merge_edits",
    "vfio_edits",
]

T = TypeVar("T")


def merge_edits(parts: Iterable[ContainerEdits]) -> ContainerEdits:
    """One set of edits from several: the first of two equal paths stays, the last value of a
    variable wins."""
    parts = tuple(parts)
    return ContainerEdits(
        env=frozen({k: v for part in parts for k, v in part.env.items()}),
        device_nodes=_once((n for part in parts for n in part.device_nodes), _node_path),
        mounts=_once((m for part in parts for m in part.mounts), _mount_path),
        hooks=tuple(hook for part in parts for hook in part.hooks),
        annotations=frozen({k: v for part in parts for k, v in part.annotations.items()}),
        cdi_devices=tuple(dict.fromkeys(c for part in parts for c in part.cdi_devices)),
    )


def _once(items: Iterable[T], key: Callable[[T], str]) -> tuple[T, ...]:
    first: dict[str, T] = {}
    for item in items:
        first.setdefault(key(item), item)
    return tuple(first.values())


def _node_path(node: DeviceNode) -> str:
    return node.path


def _mount_path(mount: Mount) -> str:
    return mount.path


VFIO_CONTAINER = "/dev/vfio/vfio"


class VfioFunction(Struct, frozen=True, kw_only=True):
    """A PCI function for a guest; `nodes` are its group node and, with iommufd, its own."""

    address: str
    nodes: tuple[str, ...]


def kubevirt_variable(prefix: str, resource: ResourceName) -> str:
    """The variable in which KubeVirt looks for addresses: upper case, `/` and `.` as `_`.

    Hyphens stay: `PCI_RESOURCE_AMD_COM_MXGPU-4GB`.
    """
    return f"{prefix}_{resource}".upper().replace("/", "_").replace(".", "_")


def vfio_edits(resource: ResourceName, functions: Iterable[VfioFunction]) -> ContainerEdits:
    """Device nodes and the variable with all addresses, in address order, shared nodes once."""
    functions = sorted(functions, key=_address)
    paths = dict.fromkeys([VFIO_CONTAINER, *(n for f in functions for n in f.nodes)])
    return ContainerEdits(
        env=frozen(
            {kubevirt_variable("PCI_RESOURCE", resource): ",".join(f.address for f in functions)}
        ),
        device_nodes=tuple(DeviceNode(path=p, host_path=p, permissions="mrw") for p in paths),
    )


def _address(function: VfioFunction) -> str:
    return function.address
