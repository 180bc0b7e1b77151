"""Which resources are shared by a method that needs a program, and which program that is; pure."""

from collections.abc import Mapping

from msgspec import Struct

from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.resources.plan import Resources
from deviceplugin.vendor import Program, SharedResource

# A resource with the name of the method that shares it.
Service = tuple[str, SharedResource]


def services_of(
    resources: Resources, devices: Mapping[DeviceID, Device]
) -> Mapping[ResourceName, Service]:
    """The resources of a plan that are shared by a method, with their devices in PCI order."""
    found: dict[ResourceName, Service] = {}
    for name, resource in resources.items():
        shares = {e.device: e.share for e in resource.devices if e.share and e.share.method}
        known = [devices[device] for device in shares if device in devices]
        if known:
            counts = [s.count for s in shares.values() if s.unit_bytes is None]
            shared = SharedResource(
                name=name,
                devices=tuple(sorted(known, key=_pci_address)),
                replicas=max(counts, default=None),
            )
            found[name] = (next(s.method for s in shares.values() if s.method), shared)
    return found


class Wanted(Struct, frozen=True):
    """A program that is to run for a resource, and the method that says so."""

    method: str
    shared: SharedResource
    program: Program

    def same(self, other: "Wanted | None") -> bool:
        """Whether it may stay in place of the other. Another number of replicas, another set of
        devices or another place is another program; a device's memory alone is not."""
        if other is None:
            return False
        return _identity(self) == _identity(other)


def _identity(wanted: Wanted) -> tuple[object, ...]:
    program = wanted.program
    settings = (program.arguments, dict(program.env), program.folders)
    devices = [device.id for device in wanted.shared.devices]
    return (wanted.method, wanted.shared.replicas, devices, *settings)


def _pci_address(device: Device) -> tuple[str, str]:
    return (device.pci_address or "", device.id)
