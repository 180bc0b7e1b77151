"""The AMD vendor as the daemon sees it: host and settings, and the functions that do the work."""

from collections.abc import Sequence

from deviceplugin.host import Host
from deviceplugin.host.trace import TracingHost
from deviceplugin.model import CdiSpec, ContainerEdits, Device, Discovery
from deviceplugin.vendor import Finding
from deviceplugin.vendors.amd import discovery, edits
from deviceplugin.vendors.amd.finding import NAME
from deviceplugin.vendors.amd.health import AmdHealth
from deviceplugin.vendors.amd.links import KnownLinks
from deviceplugin.vendors.amd.settings import Settings
from deviceplugin.vendors.amd.trace import trace_of


class AmdVendor:
    """Fulfils Vendor, Glance, CdiSource and HealthProbe; reads links anew where KFD changed."""

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
        names and their generation; amdsmi, which tells sizes of functions, is not asked."""
        return self._trace is not None and self._trace.holds()

    def probe_health(self, device: Device) -> Finding:
        """What sysfs says of one GPU's health."""
        return self._health.probe(device)

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """Device nodes and variables for `devices`."""
        return edits.container_edits(devices, self._settings)

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """The CDI file of kind `amd.com/gpu`; virtual machines' functions are not in it."""
        return edits.cdi_specs(devices, self._settings)
