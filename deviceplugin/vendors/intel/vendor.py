"""The vendor object that the daemon talks to; the work is done in the modules beside it."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec.structs import replace

from deviceplugin.edits import merge_edits
from deviceplugin.host import Host
from deviceplugin.host.trace import TracingHost, traced
from deviceplugin.model import CdiSpec, ContainerEdits, Device, Discovery
from deviceplugin.vendor import Agent, DeviceProcess, Finding, LabelView, Sample
from deviceplugin.vendors.intel import faults
from deviceplugin.vendors.intel.agent import XPUMD
from deviceplugin.vendors.intel.discovery import discover
from deviceplugin.vendors.intel.edits import answer, cdi_spec
from deviceplugin.vendors.intel.found import NAME
from deviceplugin.vendors.intel.health import IntelHealth
from deviceplugin.vendors.intel.links import OwnLinks, links_of
from deviceplugin.vendors.intel.reader import MemoryQuery
from deviceplugin.vendors.intel.settings import IntelSettings, XeSettings

if TYPE_CHECKING:
    from deviceplugin.vendors.intel.telemetry import Meter


class IntelVendor:
    """Intel's GPUs as sysfs shows them; `query` is the one thing that files cannot stand for.

    `variables` are for each container that gets a GPU.
    """

    def __init__(
        self,
        *,
        host: Host,
        query: MemoryQuery,
        settings: IntelSettings,
        xe: XeSettings,
        health: IntelHealth,
    ) -> None:
        self.host, self.query, self.settings, self.xe = host, query, settings, xe
        self.health = health
        self.variables = ContainerEdits()
        self._trace: TracingHost | None = None
        self._links = OwnLinks(host)  # writes nothing before a device is first offered

    @property
    def name(self) -> str:
        """The vendor's name."""
        return NAME

    def discover(self) -> Discovery:
        """Look at the hardware once; what was read is remembered for `unchanged` alone."""
        self._trace = traced(self.host)
        found = discover(self._trace, self.query, self.settings, self.xe)
        self._links.renew()
        problem = self._links.problem
        linked = (d for d in found.devices if d.resource and links_of([d])) if problem else ()
        unlinked = tuple(faults.no_links(device.id, str(problem)) for device in linked)
        return replace(found, faults=(*found.faults, *unlinked))

    def unchanged(self) -> bool:
        """Whether all files that the last discovery read are as they were; the memory that a
        driver was asked for changes only with its device and is not asked again."""
        return self._trace is not None and self._trace.holds()

    def probe_health(self, device: Device) -> Finding:
        """What sysfs says of one GPU's health."""
        return self.health.probe(device)

    def sample(self, devices: Sequence[Device]) -> Sample:
        """What sysfs and the monitor say of one GPU and its functions."""
        return self._meter.sample(devices)

    def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess]:
        """The DRM clients of the devices."""
        return self._meter.processes(devices)

    @cached_property
    def _meter(self) -> "Meter":
        from deviceplugin.vendors.intel.telemetry import Meter  # noqa: PLC0415  # where it is asked

        return Meter(self.host)

    def agents(self) -> Sequence[Agent]:
        """Intel's XPU manager daemon."""
        return (XPUMD,)

    def node_labels(self, view: LabelView) -> Mapping[str, str]:
        """Those of Intel's rules and of its former labeller."""
        from deviceplugin.vendors.intel import labels  # noqa: PLC0415  # where labels are on

        return labels.node_labels(self.host, view)

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """What a container that holds `devices` gets."""
        links = self._links.folder(devices)
        given = answer(devices, self.settings.device_list_strategy, links)
        return merge_edits([given, self._variables(devices)])

    def held(self, containers: Sequence[Sequence[Device]]) -> None:
        """Let each container see the links of all its GPUs, whichever resource they are of."""
        self._links.held(containers)

    def _variables(self, devices: Sequence[Device]) -> ContainerEdits:
        """A virtual machine's pod runs no program that reads them."""
        return ContainerEdits() if any(d.functions for d in devices) else self.variables

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """The CDI file of all devices; an empty one, which means no file, where no answer names
        it, so that turning CDI off leaves no stale file behind."""
        named = any(strategy != "device-specs" for strategy in self.settings.device_list_strategy)
        return (cdi_spec(devices if named else ()),)
