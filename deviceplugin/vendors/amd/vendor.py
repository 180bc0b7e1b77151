"""The AMD vendor: what `create` returns."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.drm import MINORS
from deviceplugin.host.kfd import TOPOLOGY
from deviceplugin.host.trace import TracingHost, traced
from deviceplugin.model import CdiSpec, ContainerEdits, Device, Discovery
from deviceplugin.vendor import Agent, DeviceProcess, Finding, Grant, LabelView, Sample
from deviceplugin.vendors.amd import discovery, edits
from deviceplugin.vendors.amd.agent import EXPORTER
from deviceplugin.vendors.amd.compute import mask_edits
from deviceplugin.vendors.amd.found import NAME
from deviceplugin.vendors.amd.health import AmdHealth
from deviceplugin.vendors.amd.kfd import read_generation
from deviceplugin.vendors.amd.links import KnownLinks
from deviceplugin.vendors.amd.settings import Settings

if TYPE_CHECKING:
    from deviceplugin.vendors.amd.telemetry import Meter

_BURNT_IN = ("/unique_id", "/product_name", "/mem_info_vram_total")


# The kernel counts a generation whenever a node, which is a partition, comes or goes.
_COUNTED = (f"{TOPOLOGY}/nodes/", f"{MINORS}/renderD")


def trace_of(host: Host) -> TracingHost:
    """A host for one discovery. Of KFD's nodes and the render minors of partitions it holds the
    names and the generation, and everything where these cannot be read."""
    if read_generation(host) is None:
        return traced(host)
    trace = traced(host, _is_constant)
    try:
        trace.read_names(MINORS)
    except DiscoveryError:  # a discovery can do without the names
        return traced(host)
    return trace


def _is_constant(path: str) -> bool:
    return path.startswith(_COUNTED) or path.endswith(_BURNT_IN)


class AmdVendor:
    """Fulfils Vendor, ChangeChecker, CdiSource, AgentSource and HealthProbe; reads links again
    where KFD changed."""

    def __init__(self, host: Host, settings: Settings) -> None:
        self._host, self._settings = host, settings
        self._health = AmdHealth(host)
        self._links = KnownLinks()
        self._trace: TracingHost | None = None

    @property
    def name(self) -> str:
        """`amd`."""
        return NAME

    def discover(self) -> Discovery:
        """One look at the hardware; raises UnavailableError on a node without an AMD GPU."""
        self._trace = trace_of(self._host)
        return discovery.discover(self._trace, self._settings, self._links)

    def unchanged(self) -> bool:
        """Whether all files that the last discovery read are as they were, KFD's nodes by their
        names and their generation; amdsmi, which has the sizes of functions, is not asked."""
        return self._trace is not None and self._trace.holds()

    def probe_health(self, device: Device) -> Finding:
        """What sysfs says of one GPU's health."""
        return self._health.probe(device)

    def sample(self, devices: Sequence[Device]) -> Sample:
        """What sysfs, the monitor and gpu_metrics say of one GPU and its partitions."""
        return self._meter.sample(devices)

    def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess]:
        """The DRM clients of the devices."""
        return self._meter.processes(devices)

    @cached_property
    def _meter(self) -> "Meter":
        from deviceplugin.vendors.amd.telemetry import Meter  # noqa: PLC0415  # where it is asked

        return Meter(self._host)

    def agents(self) -> Sequence[Agent]:
        """AMD's metrics exporter."""
        return (EXPORTER,)

    def node_labels(self, view: LabelView) -> Mapping[str, str]:
        """Those of AMD's labeller."""
        from deviceplugin.vendors.amd import labels  # noqa: PLC0415  # where labels are on

        return labels.node_labels(self._host, view)

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """Device nodes and variables for `devices`."""
        return edits.container_edits(devices, self._settings)

    def share_edits(self, grants: Sequence[Grant]) -> ContainerEdits:
        """The compute units of slices that come with compute."""
        return mask_edits(grants)

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """The CDI file of kind `amd.com/gpu`; virtual machines' functions are not in it."""
        return edits.cdi_specs(devices, self._settings)
