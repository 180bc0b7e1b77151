"""What a discovery of the node's NVIDIA GPUs finds, each GPU for itself: devices and faults.

GPUs that do not answer are told of in `missing`.
"""

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from deviceplugin.errors import LibraryError
from deviceplugin.host import Host
from deviceplugin.host.pci import read_numa_node
from deviceplugin.model import Device, DeviceID, Fault
from deviceplugin.vendors.nvidia.devices import Locality, Naming, devices_of_gpu
from deviceplugin.vendors.nvidia.gpus import (
    DISPLAYS,
    NvidiaGpu,
    read_gpu,
    read_handle,
    read_pci_address,
)
from deviceplugin.vendors.nvidia.library import Nvml, implausible
from deviceplugin.vendors.nvidia.links import Links
from deviceplugin.vendors.nvidia.mig import read_mig_minors

MAX_GPUS = 256


class Scan(Struct, frozen=True, kw_only=True):
    """The GPUs that answered, and the error of each that did not: by PCI address in `failed`, by
    NVML's index in `nameless` where not even the address is known. `displays` are the addresses
    of display adapters, which are left out.
    """

    gpus: tuple[NvidiaGpu, ...]
    failed: Mapping[str, LibraryError]
    nameless: Mapping[int, LibraryError]
    displays: tuple[str, ...] = ()


def read_gpus(nvml: Nvml) -> Scan:
    """Ask NVML for every GPU; one that fails does not keep the others from being read."""
    gpus: list[NvidiaGpu] = []
    failed: dict[str, LibraryError] = {}
    nameless: dict[int, LibraryError] = {}
    for index in range(nvml.count("nvmlDeviceGetCount", MAX_GPUS)):
        address = None
        try:
            handle = read_handle(nvml, index)
            address = read_pci_address(nvml, handle)
            gpus.append(read_gpu(nvml, index, handle, address))
        except LibraryError as error:
            if address is None:
                nameless[index] = error
            else:
                failed[address] = error
    return _scan(gpus, failed, nameless)


def _scan(
    gpus: list[NvidiaGpu], failed: Mapping[str, LibraryError], nameless: Mapping[int, LibraryError]
) -> Scan:
    """Without displays; GPUs that share a UUID, which then names neither, have failed."""
    counts = Counter(gpu.uuid for gpu in gpus)
    shared = {
        gpu.pci_address: implausible(
            "nvmlDeviceGetUUID", f"{gpu.uuid}, which is also the UUID of another GPU"
        )
        for gpu in gpus
        if counts[gpu.uuid] > 1
    }
    return Scan(
        gpus=tuple(g for g in gpus if g.product not in DISPLAYS and g.pci_address not in shared),
        failed={**failed, **shared},
        nameless=nameless,
        displays=tuple(gpu.pci_address for gpu in gpus if gpu.product in DISPLAYS),
    )


def healthy_devices(
    host: Host, scan: Scan, naming: Naming, links: Links
) -> tuple[tuple[Device, ...], tuple[Fault, ...]]:
    """The devices of the GPUs that answered, with their links, and the faults of their layout."""
    minors = read_mig_minors(host)
    found = [
        devices_of_gpu(
            host,
            gpu,
            naming,
            minors,
            Locality(
                numa_node=read_numa_node(host, gpu.pci_address),
                links=links.get(DeviceID(gpu.uuid), ()),
            ),
        )
        for gpu in scan.gpus
    ]
    devices = tuple(device for part, _ in found for device in part)
    return devices, tuple(fault for _, part in found for fault in part)
