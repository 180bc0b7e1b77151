"""The frozen values that travel from the hardware to the wire; no behaviour that reads or writes.

Unknown is None (never 0, "" or "N/A"); units stand in the names; ids are identities (a UUID or a
PCI address), never indices.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NewType

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.model.edits import (
    NOTHING,
    CdiSpec,
    ContainerEdits,
    DeviceNode,
    Hook,
    Mount,
    frozen,
)
from deviceplugin.model.places import DeviceID, Link, LinkKind, Place

__all__ = [
    "MAX_NUMA_NODES",
    "NOTHING",
    "AdvertisedDevice",
    "AdvertisedID",
    "CdiSpec",
    "ContainerEdits",
    "Device",
    "DeviceID",
    "DeviceNode",
    "Discovery",
    "Fault",
    "FaultClass",
    "Health",
    "Hook",
    "Inventory",
    "Isolation",
    "Link",
    "LinkKind",
    "Mount",
    "Place",
    "Preference",
    "Resource",
    "ResourceName",
    "Share",
    "VendorStatus",
    "frozen",
]

MAX_NUMA_NODES = 1 << 10  # include/linux/numa.h, NODES_SHIFT is at most 10

AdvertisedID = NewType("AdvertisedID", str)
ResourceName = NewType("ResourceName", str)


class Health(StrEnum):
    """The two words that the kubelet knows."""

    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"


class Isolation(StrEnum):
    """What keeps two containers on one GPU apart, from nothing to the hardware.

    MEMORY: a server process keeps each to its share of the memory. PROCESS: each has compute units
    of its own, memory and faults are common. HARDWARE: nothing is common.
    """

    NONE = "none"
    MEMORY = "memory"
    PROCESS = "process"
    HARDWARE = "hardware"

    @property
    def strength(self) -> int:
        """A number that grows with what is promised."""
        return tuple(Isolation).index(self)

    @classmethod
    def asked(cls, word: str | None) -> "Isolation":
        """What a configuration asks for; where it says nothing, nothing."""
        return cls.NONE if word is None else cls(word)


class Device(Struct, frozen=True, kw_only=True, gc=False):
    """A GPU or another accelerator, or a part of one, that is there now.

    `resource` is the name under which it is offered (None: it is not offered as such, for instance
    a GPU whose partitions are), `policy` the preferred-allocation policy that it asks for, `nodes`
    the device nodes as paths on the host, `isolation` what keeps it apart from the other parts of
    the same GPU, `noun` the word for such a device in names and messages (`npu`).
    `ordinal` is what a rule's `index` matches for a partition ("0:1" is partition 1 of GPU 0),
    `driver` the kernel driver that a rule's `driver` matches (None: the vendor's name), `shareable`
    whether several containers can use the device at once, `ecc` whether its memory corrects errors,
    `architecture` the chip's generation in its vendor's words, `functions` the PCI functions that a
    virtual machine gets with it, `least_isolation` what its section asks for, `place` where a part
    is on its GPU (None: the GPU is divided evenly, or nobody says). `attributes` are for people and
    for the vendor that wrote them: nothing else reads them.
    """

    id: DeviceID
    vendor: str
    product: str | None = None
    resource: ResourceName | None = None
    index: int | None = None
    parent: DeviceID | None = None
    profile: str | None = None
    pci_address: str | None = None
    numa_node: int | None = None
    memory_bytes: int | None = None
    policy: str | None = None
    nodes: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    isolation: Isolation = Isolation.HARDWARE
    noun: str = "gpu"
    ordinal: str | None = None
    driver: str | None = None
    shareable: bool = True
    ecc: bool | None = None
    architecture: str | None = None
    functions: tuple[str, ...] = ()
    least_isolation: Isolation = Isolation.NONE
    place: Place | None = None


class FaultClass(StrEnum):
    """How serious a fault is, by what ends it; from SETUP on it takes the device away."""

    INFO = "info"
    APP = "app"
    WARN = "warn"
    SETUP = "setup"
    RESET = "reset"
    REBOOT = "reboot"
    HARDWARE = "hardware"

    @property
    def withdraws(self) -> bool:
        """Whether a device with such a fault is listed Unhealthy."""
        return self in _WITHDRAWING


_WITHDRAWING = frozenset(
    {FaultClass.SETUP, FaultClass.RESET, FaultClass.REBOOT, FaultClass.HARDWARE}
)


class Fault(Struct, frozen=True, kw_only=True, gc=False):
    """Something wrong with a device, for as long as its `source` reports it.

    `since` is Unix time in seconds, stamped by the inventory when the fault is first seen;
    `action` says in one line what a person should do.
    """

    device: DeviceID
    source: str
    code: str
    reason: str
    kind: FaultClass = FaultClass.HARDWARE
    action: str = ""
    since: float | None = None

    @property
    def key(self) -> tuple[DeviceID, str, str]:
        """What makes it the same fault in two reports."""
        return (self.device, self.source, self.code)

    def stamped(self, since: float | None) -> "Fault":
        """The same fault, first seen at `since` (Unix seconds)."""
        return replace(self, since=since)


class Discovery(Struct, frozen=True, kw_only=True):
    """What one look at a vendor's hardware found; `notes` are what a person should know of it."""

    devices: tuple[Device, ...] = ()
    faults: tuple[Fault, ...] = ()
    driver_version: str | None = None
    library_version: str | None = None
    notes: tuple[str, ...] = ()


class VendorStatus(Struct, frozen=True, kw_only=True):
    """How a vendor module is doing; `error` is None while it serves."""

    name: str
    driver_version: str | None = None
    library_version: str | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()


class Inventory(Struct, frozen=True, kw_only=True):
    """Everything that is known about the node's devices at one moment."""

    generation: int = 0
    devices: Mapping[DeviceID, Device] = field(default_factory=lambda: MappingProxyType({}))
    faults: Mapping[DeviceID, tuple[Fault, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    vendors: Mapping[str, VendorStatus] = field(default_factory=lambda: MappingProxyType({}))

    def faults_of(self, device: Device) -> tuple[Fault, ...]:
        """The device's own faults and those of the whole it is a part of; never its parts'."""
        own = self.faults.get(device.id, ())
        if device.parent is None:
            return own
        return own + self.faults.get(device.parent, ())

    def health_of(self, device: Device) -> Health:
        """Unhealthy while a fault of a withdrawing class stands on it or on its parent."""
        if any(fault.kind.withdraws for fault in self.faults_of(device)):
            return Health.UNHEALTHY
        return Health.HEALTHY


class Share(Struct, frozen=True, kw_only=True, gc=False):
    """How one device is cut into `count` ids: replicas, or slices of `unit_bytes` each.

    `variables` are the limits that a container is told, `method` the vendor's way of sharing
    (`mps`), None for time-slicing, `whole` the device's GPU, `partner` a resource whose shares of
    it a container can have too, `compute_percent` comes with each.
    """

    count: int
    whole: DeviceID | None = None
    unit_bytes: int | None = None
    method: str | None = None
    variables: tuple[str, ...] = ()
    partner: ResourceName | None = None
    compute_percent: int | None = None


class AdvertisedDevice(Struct, frozen=True, kw_only=True, gc=False):
    """An id that the kubelet may hand out: `share` is None for a device that is offered whole,
    `replica` counts a device's shares, `reason` is why it is Unhealthy although its device is not.
    """

    id: AdvertisedID
    device: DeviceID
    health: Health
    numa_node: int | None = None
    replica: int | None = None
    share: Share | None = None
    reason: str | None = None


class Resource(Struct, frozen=True, kw_only=True):
    """An extended resource and its complete list, sorted by id.

    A container gets at most `max_per_container` shares (None: any) and, where `distinct`, each from
    another device. `isolation` is the weakest of its entries, `noun` their devices', `compute` what
    holds a container to a part of the compute (`cooperative`, `none`), if it has one.
    """

    name: ResourceName
    vendor: str
    devices: tuple[AdvertisedDevice, ...] = ()
    policy: str | None = None
    isolation: Isolation = Isolation.HARDWARE
    max_per_container: int | None = None
    distinct: bool = False
    noun: str = "gpu"
    partner: ResourceName | None = None
    compute: str | None = None


class Preference(Struct, frozen=True, kw_only=True):
    """A GetPreferredAllocation question: `size` ids of `available`, among them `must_include`."""

    available: frozenset[AdvertisedID]
    must_include: frozenset[AdvertisedID]
    size: int
