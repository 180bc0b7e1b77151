"""The contract between the daemon and a vendor module; nothing else.

A vendor package is a module named by an entry point of the group `deviceplugin.vendors`. The
module itself fulfils `VendorModule`; what its `create` returns fulfils `Vendor` and as many of the
optional Protocols below as the hardware allows. `docs/vendors.md` tells how to add one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol, runtime_checkable

import msgspec

from deviceplugin.host import Host
from deviceplugin.model import CdiSpec, ContainerEdits, Device, Discovery, Fault

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
    and one decoded value for each section.
    """

    NAME: str
    SECTIONS: Mapping[str, type[msgspec.Struct]]

    def create(self, host: Host, sections: Sections) -> Vendor:
        """Make the vendor; must not touch the hardware."""


class HealthReport(Protocol):
    """Where a health monitor tells what it sees; may be called from any thread."""

    def faults(self, source: str, faults: Sequence[Fault]) -> None:
        """Replace the whole set of faults of `source`."""

    def happened(self, fault: Fault) -> None:
        """Something happened once; it is remembered until what its class says ends it."""

    def rediscover(self) -> None:
        """Something changed that discovery should look at now."""


@runtime_checkable
class Glance(Protocol):
    """A vendor that can tell cheaply that a discovery would find nothing new."""

    def unchanged(self) -> bool:
        """Whether `discover` would return, or raise, what it last did; on the vendor's thread.

        It is asked in place of a discovery, which comes after 60 s all the same, after every
        uevent and wish of the health monitor, and while the last one found faults or failed: a
        change that comes without any of these and must be listed within seconds is to be seen
        here. In doubt it says no.
        """


@runtime_checkable
class HealthMonitor(Protocol):
    """A vendor that can watch its hardware between discoveries."""

    def watch_health(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        """Watch until `stop` is set or the set of devices changes; blocking, on its own thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a look at the health of one GPU found: its whole set of faults, parts included.

    `events` were seen to happen and cannot be asked again. `mark` is a reading that only grows
    until a driver reload or a reset sets it back; `reset` says that one was seen.
    """

    faults: tuple[Fault, ...] = ()
    events: tuple[Fault, ...] = ()
    mark: int | None = None
    reset: bool = False


@runtime_checkable
class HealthProbe(Protocol):
    """A vendor whose GPUs can be asked how they are; asked after each discovery."""

    def probe_health(self, device: Device) -> Finding:
        """How a whole GPU (never a part) is now; blocking, on a thread of its own, within a
        deadline: a probe that does not return is a fault of that GPU.

        Raises LibraryError or DiscoveryError where it cannot be told: what was found before
        stays.
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
