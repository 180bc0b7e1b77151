"""vGPUs on a host, for virtual machines: mediated devices and, since vGPU 17, virtual functions
that carry a vGPU type. Which of the two a node has is decided by its files, not by its model.

Files: /sys/bus/mdev/devices (kernel, vfio-mediated-device.rst), `<VF>/nvidia/current_vgpu_type`
and `creatable_vgpu_types` (driver branch 550 and newer).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from deviceplugin.edits import (
    VFIO_CONTAINER,
    VfioFunction,
    kubevirt_variable,
    merge_edits,
    vfio_edits,
)
from deviceplugin.faults import VFIO_NODE_MISSING
from deviceplugin.host import Host
from deviceplugin.host.numbers import parse_decimal
from deviceplugin.host.pci import DEVICES, read_bus, read_function, read_numa_node
from deviceplugin.host.sriov import read_physical_function, read_vfio_nodes, read_virtual_functions
from deviceplugin.model import (
    ContainerEdits,
    Device,
    DeviceID,
    DeviceNode,
    Fault,
    ResourceName,
    frozen,
)

MDEV = "/sys/bus/mdev/devices"
VENDOR_ID = 0x10DE
KIND, MEDIATED, FUNCTION = "vgpu_kind", "mdev", "function"
DRIVER = "nvidia-vgpu-vfio"
Parents = Mapping[str, DeviceID]


class HostVgpus:
    """Reads the vGPUs that exist; remembers names of types, which are listed only while one more
    of the type could be made, in `names`."""

    def __init__(self, host: Host, names: dict[int, str] | None = None) -> None:
        self._host = host
        self._names = {} if names is None else names

    def read(self, gpus: Parents) -> tuple[Device, ...]:
        """All vGPUs; `gpus` has the devices of the whole GPUs by PCI address."""
        return (*self._mediated(gpus), *self._functions(gpus))

    def _mediated(self, gpus: Parents) -> Iterator[Device]:
        for uuid in self._host.read_names(MDEV):
            path = f"{MDEV}/{uuid}"
            address = (self._host.read_link(path) or "").split("/")[-2:-1]
            name = self._host.read_text(f"{path}/mdev_type/name")
            function = read_function(self._host, address[0]) if address else None
            if name is None or function is None or function.vendor_id != VENDOR_ID:
                continue
            group = self._host.read_link_name(f"{path}/iommu_group")
            node = f"/dev/vfio/{group}"
            nodes = (node,) if group and self._host.exists(node) else ()
            yield self._device(uuid, (MEDIATED, name), function.address, (gpus, nodes))

    def _functions(self, gpus: Parents) -> Iterator[Device]:
        for address in read_bus(self._host):
            kind = self._host.read_int(f"{DEVICES}/{address}/nvidia/current_vgpu_type")
            if kind is None:
                continue
            self._learn(address)
            if kind:
                name = self._names.get(kind) or self._name_from_siblings(address, kind)
                nodes = read_vfio_nodes(self._host, address)
                yield self._device(address, (FUNCTION, name), address, (gpus, nodes))

    def _learn(self, address: str) -> None:
        path = f"{DEVICES}/{address}/nvidia/creatable_vgpu_types"
        self._names.update(parse_types(self._host.read_text(path) or ""))

    def _name_from_siblings(self, address: str, kind: int) -> str:
        physical = read_physical_function(self._host, address)
        for sibling in read_virtual_functions(self._host, physical) if physical else ():
            self._learn(sibling)
        return self._names.get(kind, f"vgpu-{kind}")

    def _device(
        self,
        identity: str,
        type_: tuple[str, str],
        address: str,
        known: tuple[Parents, Sequence[str]],
    ) -> Device:
        kind, name = type_
        gpus, nodes = known
        physical = read_physical_function(self._host, address) or address
        return Device(
            id=DeviceID(identity),
            vendor="nvidia",
            product=name,
            resource=resource_of(name),
            parent=gpus.get(physical),
            profile=name,
            pci_address=address,
            numa_node=read_numa_node(self._host, physical),
            nodes=tuple(nodes),
            attributes=frozen({KIND: kind, "driver": DRIVER}),
            driver=DRIVER,
            shareable=False,
        )


def parse_types(text: str) -> Mapping[int, str]:
    """`1147  : NVIDIA L40S-1Q` lines by number; a header, which some drivers print, is skipped."""
    pairs = (line.partition(":") for line in text.splitlines())
    found = ((parse_decimal(kind.strip()), name.strip()) for kind, _, name in pairs)
    return {kind: name for kind, name in found if kind is not None and name}


def resource_of(name: str) -> ResourceName:
    """`nvidia.com/NVIDIA_L40S-1Q`: the type as KubeVirt's device plugin names it."""
    return ResourceName(f"nvidia.com/{'_'.join(name.split())}")


def is_for_vm(device: Device) -> bool:
    """Whether a device is for virtual machines."""
    return KIND in device.attributes


def node_faults(host: Host, devices: Iterable[Device]) -> Iterator[Fault]:
    """The vGPUs that no virtual machine can open."""
    for device in filter(is_for_vm, devices):
        missing = [] if host.exists(VFIO_CONTAINER) else [VFIO_CONTAINER]
        missing += [] if device.nodes else ["of its IOMMU group in /dev/vfio"]
        if missing:
            yield VFIO_NODE_MISSING.fault(
                device.id,
                "nvidia.vfio",
                " and ".join(missing),
                action="load vfio and the vGPU driver, turn the IOMMU on, mount the host's /dev",
            )


def vm_edits(devices: Sequence[Device]) -> ContainerEdits:
    """VFIO nodes, and the addresses in the variable where KubeVirt looks for this kind."""
    names = sorted({device.resource for device in devices if device.resource})
    return merge_edits(
        _edits(name, [device for device in devices if device.resource == name]) for name in names
    )


def _edits(name: ResourceName, devices: Sequence[Device]) -> ContainerEdits:
    mediated = [device for device in devices if device.attributes.get(KIND) == MEDIATED]
    functions = [device for device in devices if device.attributes.get(KIND) == FUNCTION]
    parts = [_mediated_edits(name, mediated)] if mediated else []
    if functions:
        parts.append(
            vfio_edits(name, (VfioFunction(address=d.id, nodes=d.nodes) for d in functions))
        )
    return merge_edits(parts)


def _mediated_edits(name: ResourceName, devices: Iterable[Device]) -> ContainerEdits:
    devices = sorted(devices, key=_identity)
    paths = dict.fromkeys([VFIO_CONTAINER, *(node for device in devices for node in device.nodes)])
    variable = kubevirt_variable("MDEV_PCI_RESOURCE", name)
    return ContainerEdits(
        env=frozen({variable: ",".join(device.id for device in devices)}),
        device_nodes=tuple(DeviceNode(path=p, host_path=p, permissions="mrw") for p in paths),
    )


def _identity(device: Device) -> str:
    return device.id
