"""Nodes for the tests of placement: GPUs and their links as vendors tell them."""

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from types import MappingProxyType

from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Health,
    Inventory,
    Link,
    LinkKind,
    Preference,
    Resource,
    ResourceName,
)
from deviceplugin.placement.prefer import BUILT_IN, default_policy, prefer
from deviceplugin.placement.topology import PciTopology, topology_of
from deviceplugin.placement.view import Context
from deviceplugin.resources.plan import plan_resources

NAME = ResourceName("example.com/gpu")
Linker = Callable[[int, int], Iterable[tuple[LinkKind, int, int | None]]]


def gpu_id(number: int) -> str:
    """`g00`, `g01`, …: in the order of the PCI addresses."""
    return f"g{number:02d}"


def gpus(count: int, linker: Linker, node: Callable[[int], int | None]) -> tuple[Device, ...]:
    """Whole GPUs; `linker` tells the links (kind, width, weight) of a pair."""
    links: dict[int, list[Link]] = {number: [] for number in range(count)}
    for one, other in combinations(range(count), 2):
        for kind, width, weight in linker(one, other):
            for here, there in ((one, other), (other, one)):
                peer = DeviceID(gpu_id(there))
                links[here].append(Link(peer=peer, kind=kind, width=width, weight=weight))
    return tuple(
        Device(
            id=DeviceID(gpu_id(number)),
            vendor="example",
            resource=NAME,
            pci_address=f"0000:{number + 16:02x}:00.0",
            numa_node=node(number),
            memory_bytes=80 << 30,
            links=tuple(links[number]),
        )
        for number in range(count)
    )


def parts(whole: Iterable[Device], number: int) -> tuple[Device, ...]:
    """Each GPU in `number` equal partitions, which are offered instead of it."""
    found: list[Device] = []
    for gpu in whole:
        found.append(_without_resource(gpu))
        found += [
            Device(
                id=DeviceID(f"{gpu.id}.{part}"),
                vendor="example",
                resource=NAME,
                parent=gpu.id,
                profile="part",
                pci_address=gpu.pci_address,
                numa_node=gpu.numa_node,
                memory_bytes=(gpu.memory_bytes or 0) // number,
            )
            for part in range(number)
        ]
    return tuple(found)


def _without_resource(gpu: Device) -> Device:
    return Device(
        id=gpu.id,
        vendor=gpu.vendor,
        pci_address=gpu.pci_address,
        numa_node=gpu.numa_node,
        memory_bytes=gpu.memory_bytes,
        links=gpu.links,
    )


def _level(one: int, other: int, *, switch: int, socket: int) -> int:
    if one // switch == other // switch:
        return 10
    return 40 if one // socket == other // socket else 50


def dgx_a100() -> tuple[Device, ...]:
    """8 GPUs behind NVSwitch, 12 NVLinks each, two for each PCIe switch."""
    return gpus(
        8,
        lambda a, b: [
            (LinkKind.NVLINK, 12, None),
            (LinkKind.PCIE, 1, _level(a, b, switch=2, socket=4)),
        ],
        lambda n: n // 4,
    )


def hgx_h100() -> tuple[Device, ...]:
    """8 GPUs behind NVSwitch, 18 NVLinks each, every GPU on a PCIe switch of its own."""
    return gpus(
        8,
        lambda a, b: [
            (LinkKind.NVLINK, 18, None),
            (LinkKind.PCIE, 1, _level(a, b, switch=1, socket=4)),
        ],
        lambda n: n // 4,
    )


def nvlink_pairs(count: int = 4) -> tuple[Device, ...]:
    """GPUs with bridges between 0-1, 2-3, …; the others by PCIe, half of them on each socket."""

    def linker(one: int, other: int) -> list[tuple[LinkKind, int, int | None]]:
        bridged = [(LinkKind.NVLINK, 4, None)] if one // 2 == other // 2 else []
        level = 40 if one // (count // 2) == other // (count // 2) else 50
        return [*bridged, (LinkKind.PCIE, 1, level)]

    return gpus(count, linker, lambda n: n // (count // 2))


def mi210() -> tuple[Device, ...]:
    """8 GPUs in two hives: KFD's weights 15 by XGMI within, 72 by PCIe across sockets."""
    return gpus(
        8,
        lambda a, b: [
            (LinkKind.XGMI, 1, 15) if a // 4 == b // 4 else (LinkKind.PCIE, 1, 72),
        ],
        lambda n: n // 4,
    )


def mi300x_cpx() -> tuple[Device, ...]:
    """8 GPUs in 8 partitions each, all GPUs in one hive (weight 41)."""
    return parts(gpus(8, lambda *_: [(LinkKind.XGMI, 1, 41)], lambda n: n // 4), 8)


def pcie_only(count: int = 8) -> tuple[Device, ...]:
    """Two GPUs for each PCIe switch, half of them on each socket, no other links."""
    return gpus(
        count,
        lambda a, b: [(LinkKind.PCIE, 1, _level(a, b, switch=2, socket=count // 2))],
        lambda n: n // (count // 2),
    )


def unlinked(count: int = 8) -> tuple[Device, ...]:
    """GPUs of which nothing is known but that they are there."""
    return gpus(count, lambda *_: [], lambda _: None)


def inventory(devices: Iterable[Device]) -> Inventory:
    """An inventory of the devices."""
    return Inventory(
        generation=1, devices=MappingProxyType({d.id: d for d in sorted(devices, key=_id)})
    )


def _id(device: Device) -> str:
    return device.id


class Box:
    """A node that can be asked."""

    def __init__(self, devices: Iterable[Device], pci: PciTopology | None = None) -> None:
        self.inventory = inventory(devices)
        self.resource = plan_resources(self.inventory).resources[NAME]
        topology = topology_of(self.inventory, pci or PciTopology())
        self.context = self.prepared(self.resource, Context(topology=topology))

    @staticmethod
    def prepared(resource: Resource, context: Context) -> Context:
        """The context with the layout of the resource in it."""
        return Context(
            topology=context.topology,
            layouts=MappingProxyType({resource.name: context.layout(resource)}),
        )

    @property
    def ids(self) -> tuple[AdvertisedID, ...]:
        """All ids."""
        return tuple(entry.id for entry in self.resource.devices)

    def ask(
        self,
        size: int,
        available: Iterable[str] | None = None,
        must: Iterable[str] = (),
        *,
        policy: str | None = None,
        context: Context | None = None,
    ) -> tuple[str, ...]:
        """The answer; `available` None is everything."""
        offered = self.ids if available is None else tuple(map(AdvertisedID, available))
        preference = Preference(
            available=frozenset(offered), must_include=frozenset(map(AdvertisedID, must)), size=size
        )
        context = context or self.context
        name = policy or default_policy(context.layout(self.resource))
        return tuple(prefer(self.resource, preference, context, BUILT_IN[name]))


def replicated(
    devices: Iterable[Device], replicas: int
) -> tuple[Resource, Mapping[DeviceID, Device]]:
    """A resource that lists each device so many times."""
    kept = {device.id: device for device in devices}
    entries = tuple(
        AdvertisedDevice(
            id=AdvertisedID(f"{device.id}::{replica}"),
            device=device.id,
            health=Health.HEALTHY,
            numa_node=device.numa_node,
            replica=replica,
        )
        for device in kept.values()
        for replica in range(replicas)
    )
    resource = Resource(
        name=NAME, vendor="example", devices=tuple(sorted(entries, key=lambda e: e.id))
    )
    return resource, kept
