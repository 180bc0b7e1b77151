"""The contract between the daemon and a vendor module; nothing else.

A vendor package is a module named by an entry point of the group `deviceplugin.vendors`. The
module itself fulfils `VendorModule`; what its `create` returns fulfils `Vendor` and as many of the
optional Protocols below as the hardware allows. `docs/vendors.md` tells how to add one.
"""

from collections.abc import Mapping, Sequence
from threading import Event
from types import MappingProxyType
from typing import Annotated, Protocol, runtime_checkable

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from deviceplugin.host import Host
from deviceplugin.model import CdiSpec, ContainerEdits, Device, Discovery, Fault, FaultClass
from deviceplugin.schema import Section
from deviceplugin.vendor.agents import (
    MAX_COMPLAINTS,
    Agent,
    AgentProtocol,
    AgentReport,
    AgentSource,
    Complaint,
    Reports,
)
from deviceplugin.vendor.holdings import HoldingsFollower
from deviceplugin.vendor.labels import Labeller, LabelView
from deviceplugin.vendor.readings import Reading, Readings
from deviceplugin.vendor.sharing import (
    Command,
    ComputeLimit,
    Grant,
    Launch,
    Prepare,
    Program,
    SharedResource,
    ShareLimits,
    SharingMethod,
)
from deviceplugin.vendor.telemetry import (
    MEASURE_DEADLINE_S,
    DeviceProcess,
    Measured,
    ProcessTelemetry,
    Sample,
    Telemetry,
)

__all__ = [
    "CONTRACT",
    "MAX_COMPLAINTS",
    "MEASURE_DEADLINE_S",
    "OPTIONAL_ATTRIBUTES",
    "OPTIONAL_METHODS",
    "Agent",
    "AgentProtocol",
    "AgentReport",
    "AgentSource",
    "CdiSource",
    "ChangeChecker",
    "Closable",
    "Command",
    "Complaint",
    "ComputeLimit",
    "DeviceProcess",
    "Finding",
    "Glance",
    "Grant",
    "HealthDefaults",
    "HealthMonitor",
    "HealthProbe",
    "HealthReport",
    "HoldingsFollower",
    "LabelView",
    "Labeller",
    "Launch",
    "Measured",
    "Prepare",
    "ProcessTelemetry",
    "Program",
    "Reading",
    "Readings",
    "Repeat",
    "Reports",
    "Sample",
    "Sections",
    "ShareLimits",
    "SharedResource",
    "SharingMethod",
    "Telemetry",
    "Vendor",
    "VendorModule",
]

# The number of this contract. It grows when something that a vendor has to fulfil changes; what is
# only added to it (an optional method, a field with a default) leaves it as it is.
CONTRACT = 1

# What a vendor, and what its module, may have beside what it must; names that are near to one of
# these are taken for a misspelling of it.
OPTIONAL_METHODS = (
    "agents",
    "cdi_specs",
    "close",
    "held",
    "node_labels",
    "probe_health",
    "processes",
    "readings",
    "sample",
    "share_edits",
    "unchanged",
    "watch_health",
)
OPTIONAL_ATTRIBUTES = (
    "CONTRACT",
    "HEALTH_DEFAULTS",
    "RESOURCE_DOMAIN",
    "SHARE_COMPUTE",
    "SHARE_VARIABLES",
    "SHARING",
)

Sections = Mapping[str, msgspec.Struct]


class Vendor(Protocol):
    """What every vendor can do."""

    @property
    def name(self) -> str:
        """The vendor's name in configuration, metrics and logs."""

    def discover(self) -> Discovery:
        """Look at the hardware, once and whole; blocking, called on the vendor's own thread.

        Raises UnavailableError where driver or hardware are absent, DiscoveryError or
        LibraryError where they cannot be read. One bad device is a fault, not an exception.
        """

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """What a container that holds `devices` (in id order) gets; pure, on an own thread."""


class VendorModule(Protocol):
    """What the entry point names: cheap to import, no driver library at module level.

    `SECTIONS` maps the vendor's configuration sections to their schemas; `create` gets the host
    and one decoded value for each section. It may also have `SHARE_VARIABLES`, a tuple of names for
    the key `variables` of rules, `SHARING`, `SharingMethod`s by names for their key `sharing`,
    `SHARE_COMPUTE`, which makes a `ComputeLimit` of the sections, and `RESOURCE_DOMAIN`, a domain.
    """

    @property
    def NAME(self) -> str:  # noqa: N802  # a constant of a module
        """The vendor's name; the name of its entry point."""

    @property
    def SECTIONS(self) -> Mapping[str, type[msgspec.Struct]]:  # noqa: N802
        """The vendor's sections: top-level key to schema."""

    def create(self, host: Host, sections: Sections) -> Vendor:
        """Make the vendor; must not touch the hardware."""


class Repeat(Section, frozen=True):
    """An event that comes `count` times within `window_s` seconds is of the class `kind`.

    In configuration: `{count: 6, window_s: 600, class: hardware}`.
    """

    count: Annotated[int, Meta(ge=1, le=100)]
    window_s: Annotated[float, Meta(ge=0, le=30 * 86400)]
    kind: FaultClass = msgspec.field(name="class")


class HealthDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a vendor module may declare as `HEALTH_DEFAULTS`; every source is the vendor's own.

    `repeats` are the default rules of `health.repeats`, by `source/code`. `numbered` gives a word
    to a source whose codes are numbers: with `{"xids": "nvidia.xid"}` the keys `health.disable`
    and `health.enable` take `xids` for the source and `79` for `nvidia.xid/79`; such a fault that
    is enabled makes its device Unhealthy, whatever its class. `variables` are environment
    variables that replace one of these two keys: `{"DP_DISABLE_HEALTHCHECKS": "disable"}`.
    """

    repeats: Mapping[str, Repeat] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    numbered: Mapping[str, str] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    variables: Mapping[str, str] = msgspec.field(default_factory=lambda: MappingProxyType({}))


class HealthReport(Protocol):
    """Where a health watch reports what it sees; may be called from any thread.

    A fault is about a device of this vendor (a partition is a device), and its source begins with
    the vendor's name and a dot. Any other is dropped, and logged once as `foreign_device`.
    `faults` and `event` raise VendorError for what is not a Fault.
    """

    def faults(self, source: str, faults: Sequence[Fault]) -> None:
        """Replace the whole set of faults of `source`: what is wrong now; empty: nothing is.

        The set stands until it is replaced. It may still be replaced after `stop` is set. When a
        watch is started again, what it has not reported within 10 s is dropped; it is dropped at
        once when the vendor has no watch any more.
        """

    def event(self, fault: Fault) -> None:
        """Something happened once and cannot be asked again: the fault is remembered until what
        its class says ends it, and counted each time."""

    def happened(self, fault: Fault) -> None:
        """The name of `event` in 0.1; accepted until 0.3."""

    def rediscover(self) -> None:
        """Something changed that discovery should look at now."""


@runtime_checkable
class ChangeChecker(Protocol):
    """A vendor that can tell cheaply that a discovery would find nothing new."""

    def unchanged(self) -> bool:
        """Whether `discover` would return, or raise, what it last did; on the vendor's thread.

        It is asked in place of a discovery, which comes after 60 s all the same, after every
        uevent and wish of the health monitor, and while the last one found faults or failed: a
        change that comes without any of these and must be listed within seconds is to be seen
        here. In doubt it says no.
        """


Glance = ChangeChecker  # its former name


@runtime_checkable
class HealthMonitor(Protocol):
    """A vendor that can watch its hardware between discoveries."""

    def watch_health(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        """Watch `devices` until `stop` is set; blocking, on a thread of its own.

        It is stopped and started again when the devices change, and started again within seconds
        when it returns; after a failure later and later, up to five minutes.

        Raises UnavailableError where the driver that it listens to is not there.
        """


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe of one GPU found: its whole set of faults, partitions included.

    `events` happened since the last probe and cannot be asked again. `reset_counter` is a reading
    that only grows until a driver reload or a reset sets it back (`mark` is its name in 0.1, which
    is accepted until 0.3); `reset` says that one was seen.
    """

    faults: tuple[Fault, ...] = ()
    events: tuple[Fault, ...] = ()
    reset_counter: int | None = None
    reset: bool = False
    mark: int | None = None

    def __post_init__(self) -> None:
        """Take the counter by its old name too, which then has no value of its own."""
        if self.mark is not None:
            force_setattr(self, "reset_counter", self.mark)
            force_setattr(self, "mark", None)


@runtime_checkable
class HealthProbe(Protocol):
    """A vendor whose GPUs can be asked about their health; asked after each discovery."""

    def probe_health(self, device: Device) -> Finding:
        """What is wrong with a GPU (never a partition) now; blocking, on a thread of its own,
        within `health.call_deadline_s`: a probe that does not return is a fault of that GPU.

        Raises LibraryError or DiscoveryError where the health cannot be read: what was found
        before stays.
        """


@runtime_checkable
class CdiSource(Protocol):
    """A vendor whose devices a container runtime can find in CDI files."""

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """The CDI files for `devices`; may read the host, called on the vendor's thread."""


@runtime_checkable
class Closable(Protocol):
    """A vendor that lets its driver library go; another one of a new configuration takes over."""

    def close(self) -> None:
        """The last call on the vendor's thread; blocking."""
