"""What placement takes from the host and the configuration: PCI paths, the NIC, the order."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from deviceplugin.host import Host
from deviceplugin.host.pci import read_nic_address, read_numa_node, read_pci_path
from deviceplugin.model import Device, DeviceID, Inventory
from deviceplugin.placement.section import GpuNode, Selector
from deviceplugin.placement.topology import PciTopology, Place, Topology
from deviceplugin.schema import parse_bytes


def read_pci_topology(host: Host, inventory: Inventory, nic: str | None) -> PciTopology:
    """The PCI paths of all GPUs, and the place of a NIC (an interface or a PCI address)."""
    addresses = {d.pci_address for d in inventory.devices.values() if d.pci_address}
    paths = {address: read_pci_path(host, address) for address in sorted(addresses)}
    return PciTopology(
        paths=MappingProxyType({address: path for address, path in paths.items() if path}),
        nic=_read_nic(host, nic) if nic else None,
    )


def _read_nic(host: Host, name: str) -> Place | None:
    address = name if ":" in name else read_nic_address(host, name)
    if address is None:
        return None
    path, node = read_pci_path(host, address), read_numa_node(host, address)
    return None if path is None and node is None else Place(path=path, numa_node=node)


def order_of(topology: Topology, selectors: Sequence[Selector]) -> Mapping[DeviceID, int]:
    """The rank of each GPU that a selector fits: the first one's that does."""
    found: dict[DeviceID, int] = {}
    for rank, selector in enumerate(selectors):
        for gpu in topology.gpus:
            device = topology.devices.get(gpu)
            if device is not None and selector.matches(device):
                found.setdefault(gpu, rank)
    return MappingProxyType(found)


def declared_problems(declared: GpuNode | None, topology: Topology) -> Sequence[str]:
    """Where `gpu_nodes` and the hardware differ; nothing is said before a GPU is found.

    A memory may be told short of what is built in by a twentieth: ECC and the driver keep some.
    """
    gpus = [topology.devices[gpu] for gpu in topology.gpus if gpu in topology.devices]
    if declared is None or not gpus:
        return ()
    problems = []
    if declared.gpu_count is not None and declared.gpu_count != len(gpus):
        problems.append(f"gpu_nodes says {declared.gpu_count} GPUs, {len(gpus)} are there")
    wanted = parse_bytes(declared.memory_per_gpu) if declared.memory_per_gpu else None
    for gpu in gpus:
        if wanted and gpu.memory_bytes and _differ(gpu.memory_bytes, wanted):
            found = f"{gpu.memory_bytes / (1 << 30):.1f} GiB"
            problems.append(f"gpu_nodes says {declared.memory_per_gpu}, {gpu.id} has {found}")
        if declared.gpu_type and not _is_type(gpu, declared.gpu_type):
            problems.append(f"gpu_nodes says {declared.gpu_type}, {gpu.id} is {gpu.product}")
    return tuple(problems)


def _differ(found: int, wanted: int) -> bool:
    return abs(found - wanted) * 20 > wanted


def _is_type(gpu: Device, declared: str) -> bool:
    """Whether the last word of a type such as nvidia-tesla-v100 is a part of the product's name."""
    return gpu.product is None or declared.lower().split("-")[-1] in gpu.product.lower()
