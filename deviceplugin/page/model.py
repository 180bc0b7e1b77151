"""The document of `/status`: what the page, the command `status` and programs are given; pure.

A value that is not known is null, never 0. Fields may be added; what is there keeps its meaning
as long as `version` is the same.
"""

from msgspec import Struct, field

VERSION = 1


class HolderStatus(Struct, frozen=True, kw_only=True):
    """A container that holds a device or a share of it."""

    namespace: str
    pod: str
    container: str
    resource: str


class FaultStatus(Struct, frozen=True, kw_only=True):
    """Something wrong, and what to do about it; `since` in Unix seconds."""

    device: str
    source: str
    code: str
    kind: str = field(name="class")
    reason: str
    action: str
    since: float | None


class Trend(Struct, frozen=True, kw_only=True):
    """One metric of the last hour, oldest first, in steps of `step_s` seconds."""

    metric: str
    step_s: float
    values: tuple[float | None, ...]


class Measured(Struct, frozen=True, kw_only=True):
    """What was measured last; `age_s` is how old it is, `up` whether the device still answers."""

    up: bool
    age_s: float | None
    utilization_ratio: float | None
    memory_used_bytes: int | None
    temperature_celsius: float | None
    power_watts: float | None
    power_limit_watts: float | None


class DeviceStatus(Struct, frozen=True, kw_only=True):
    """A GPU or a partition of one. `held` counts containers; `held_by` names them, null where
    pods are not shown. `measured` is null where nothing is measured."""

    id: str
    vendor: str
    product: str | None
    profile: str | None
    index: int | None
    pci_address: str | None
    numa_node: int | None
    memory_bytes: int | None
    resources: tuple[str, ...]
    health: str
    condition: str
    held: int
    held_by: tuple[HolderStatus, ...] | None
    measured: Measured | None
    partitions: tuple["DeviceStatus", ...] = ()
    history: tuple[Trend, ...] = ()


class LinkStatus(Struct, frozen=True, kw_only=True):
    """What lies between two GPUs; `direct` where it is a link of their own and no bus."""

    one: str
    other: str
    relation: str
    direct: bool


class ResourceStatus(Struct, frozen=True, kw_only=True):
    """A resource as the kubelet counts it."""

    name: str
    capacity: int
    allocatable: int
    held: int


class VendorDocument(Struct, frozen=True, kw_only=True):
    """How a vendor is doing; `error` is null while it serves."""

    name: str
    driver_version: str | None
    error: str | None


class AlertStatus(Struct, frozen=True, kw_only=True):
    """An alert of the section `monitoring` that is pending or firing; `since` in Unix seconds."""

    name: str
    severity: str
    state: str
    device: str
    condition: str
    value: str
    since: float


class Status(Struct, frozen=True, kw_only=True):
    """The node at one moment, `at` in Unix seconds."""

    version: int = VERSION
    node: str
    at: float
    pods_shown: bool
    devices: tuple[DeviceStatus, ...] = ()
    faults: tuple[FaultStatus, ...] = ()
    alerts: tuple[AlertStatus, ...] = ()
    links: tuple[LinkStatus, ...] = ()
    resources: tuple[ResourceStatus, ...] = ()
    vendors: tuple[VendorDocument, ...] = ()
    notices: tuple[str, ...] = ()
