"""The AMD vendor as the daemon sees it: host and settings, and the functions that do the work."""

from collections.abc import Sequence

from deviceplugin.host import Host
from deviceplugin.model import CdiSpec, ContainerEdits, Device, Discovery, Finding
from deviceplugin.vendors.amd import discovery, edits
from deviceplugin.vendors.amd.finding import NAME
from deviceplugin.vendors.amd.health import AmdHealth
from deviceplugin.vendors.amd.links import KnownLinks
from deviceplugin.vendors.amd.settings import Settings


class AmdVendor:
    """Fulfils Vendor, CdiSource and HealthProbe; looks anew, at links where KFD changed."""

    def __init__(self, host: Host, settings: Settings) -> None:
        self._host, self._settings = host, settings
        self._health = AmdHealth(host)
        self._links = KnownLinks()

    @property
    def name(self) -> str:
        """`amd`."""
        return NAME

    def discover(self) -> Discovery:
        """One look at the hardware; raises UnavailableError on a node without an AMD GPU."""
        return discovery.discover(self._host, self._settings, self._links)

    def probe_health(self, device: Device) -> Finding:
        """What sysfs says of one GPU's health."""
        return self._health.probe(device)

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """Device nodes and variables for `devices`."""
        return edits.container_edits(devices, self._settings)

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """The CDI file of kind `amd.com/gpu`; virtual machines' functions are not in it."""
        return edits.cdi_specs(devices, self._settings)
