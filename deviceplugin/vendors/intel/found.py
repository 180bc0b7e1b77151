"""What one look at the node carries from function to function, and what it gives back."""

from collections.abc import Mapping

from msgspec import Struct

from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, Fault, Isolation, ResourceName
from deviceplugin.vendors.intel.gpu import VFIO_DRIVERS, IntelGpu
from deviceplugin.vendors.intel.memory import Memory
from deviceplugin.vendors.intel.reader import MemoryQuery, Reader
from deviceplugin.vendors.intel.settings import IntelSettings, XeSettings

NAME = "intel"


class Scan(Struct, frozen=True, kw_only=True):
    """One scan: where and how to read, the settings, all functions by address, udev's links."""

    host: Host
    query: MemoryQuery
    intel: IntelSettings
    xe: XeSettings
    gpus: Mapping[str, IntelGpu]
    links: frozenset[str]

    def reader(self) -> Reader:
        """A reader with an empty notebook, for one device."""
        return Reader(host=self.host, query=self.query)

    def missing(self, nodes: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `nodes` that are not there."""
        return tuple(node for node in nodes if not self.host.exists(node))


class Board(Struct, frozen=True, kw_only=True):
    """A whole GPU or physical function with its memory, and the reads that failed on the way."""

    gpu: IntelGpu
    memory: Memory | None
    tiles: int | None
    problems: tuple[str, ...]


class Found(Struct, frozen=True, kw_only=True):
    """A device and what is wrong with it."""

    device: Device
    faults: tuple[Fault, ...] = ()


class Advertisement(Struct, frozen=True, kw_only=True):
    """What becomes of a function: its resource (None: not offered), profile and nodes."""

    resource: ResourceName | None = None
    profile: str | None = None
    policy: str | None = None
    nodes: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    least_isolation: Isolation = Isolation.NONE


def make_device(
    gpu: IntelGpu, memory: Memory | None, advert: Advertisement, attributes: Mapping[str, str]
) -> Device:
    """A function as a device; its id is its PCI address, which no rebind or reboot changes."""
    return Device(
        id=DeviceID(gpu.address),
        vendor=NAME,
        product=gpu.product.name if gpu.product else None,
        resource=advert.resource,
        parent=DeviceID(gpu.physical) if gpu.physical else None,
        profile=advert.profile,
        pci_address=gpu.address,
        numa_node=gpu.function.numa_node,
        memory_bytes=memory.bytes if memory else None,
        policy=advert.policy,
        least_isolation=advert.least_isolation,
        nodes=advert.nodes,
        attributes=attributes,
        driver=gpu.driver,
        shareable=gpu.driver not in VFIO_DRIVERS,
        functions=advert.functions,
    )
