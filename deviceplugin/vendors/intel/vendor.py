"""The vendor object that the daemon talks to; the work is done in the modules beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from deviceplugin.host import Host
from deviceplugin.model import CdiSpec, ContainerEdits, Device, Discovery
from deviceplugin.vendors.intel.discovery import discover
from deviceplugin.vendors.intel.drm_query import MemoryQuery
from deviceplugin.vendors.intel.edits import answer, cdi_spec
from deviceplugin.vendors.intel.look import NAME
from deviceplugin.vendors.intel.settings import IntelSettings, XeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelVendor:
    """Intel's GPUs as sysfs shows them; `query` is the one thing that files cannot stand for."""

    host: Host
    query: MemoryQuery
    settings: IntelSettings
    xe: XeSettings

    @property
    def name(self) -> str:
        """The vendor's name."""
        return NAME

    def discover(self) -> Discovery:
        """Look at the hardware once; nothing is remembered from look to look."""
        return discover(self.host, self.query, self.settings, self.xe)

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """What a container that holds `devices` gets."""
        return answer(devices, self.settings.device_list_strategy)

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """The CDI file of all devices; an empty one, which means no file, where no answer names
        it, so that turning CDI off leaves no stale file behind."""
        named = any(strategy != "device-specs" for strategy in self.settings.device_list_strategy)
        return (cdi_spec(devices if named else ()),)
