"""What a virtual machine's pod gets for a function bound to VFIO, as KubeVirt expects it; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from deviceplugin.model import ContainerEdits, DeviceNode, ResourceName, frozen

VFIO_CONTAINER = "/dev/vfio/vfio"


@dataclass(frozen=True, slots=True, kw_only=True)
class VfioFunction:
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
