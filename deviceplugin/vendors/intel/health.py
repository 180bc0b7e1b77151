"""How an Intel GPU is: bus, heat, and what newer kernels report (sysfs gpu_health)."""

from collections.abc import Iterator, Mapping

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import DEVICES
from deviceplugin.host.pci_faults import error_events, standing_faults
from deviceplugin.host.readings import Readings, read_hardware
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.vendor import Finding
from deviceplugin.vendors.intel.gpu import DRM_DRIVERS

_WORDS: Mapping[str, FaultClass] = {
    "warning": FaultClass.WARN,
    "critical": FaultClass.HARDWARE,
}


class IntelHealth:
    """Asks the GPUs; keeps the last readings of each, to see which errors rose."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._last: dict[DeviceID, Readings] = {}

    def probe(self, device: Device) -> Finding:
        """What is wrong with a GPU now, and what happened since the last scan."""
        # What another driver has made of the function, or a guest does with it, is no fault.
        if device.pci_address is None or device.driver not in (None, *DRM_DRIVERS):
            return Finding()
        now = read_hardware(self._host, device.pci_address)
        before = self._last.get(device.id, now)
        self._last[device.id] = now
        told = _told(device, _read_word(self._host, device.pci_address))
        return Finding(
            faults=(*standing_faults(device, now), *told),
            events=tuple(error_events(device, before, now)),
        )


def _read_word(host: Host, address: str) -> str | None:
    try:
        return host.read_text(f"{DEVICES}/{address}/gpu_health")
    except DiscoveryError:
        return None


def _told(device: Device, word: str | None) -> Iterator[Fault]:
    """`ok` is well; an unknown word is reported and the device stays Healthy."""
    if not word or word == "ok":
        return
    yield Fault(
        device=device.id,
        source="intel.gpu_health",
        code="warning" if word not in _WORDS else word,
        reason=f"the driver calls the GPU's health {word[:40]!r}",
        kind=_WORDS.get(word, FaultClass.WARN),
        action="see the driver's messages in the kernel log; have it replaced if this stays",
    )
