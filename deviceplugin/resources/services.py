"""Which resources are shared by a method that needs a program, and which program that is; pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from deviceplugin.model import Device, DeviceID, Resource, ResourceName, Share
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
            found[name] = _service(resource, tuple(shares.values()), known)
    return found


def _service(resource: Resource, shares: Sequence[Share], devices: Sequence[Device]) -> Service:
    counts = [share.count for share in shares if share.unit_bytes is None]
    shared = SharedResource(
        name=resource.name,
        devices=tuple(sorted(devices, key=_pci_address)),
        replicas=max(counts, default=None),
        unit_bytes=shares[0].unit_bytes,
        compute_percent=shares[0].compute_percent,
        most=None if counts else resource.max_per_container,
    )
    return next(share.method for share in shares if share.method), shared


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
    shared = wanted.shared
    slices = (shared.unit_bytes, shared.compute_percent, shared.most)
    devices = [device.id for device in shared.devices]
    return (wanted.method, shared.replicas, slices, devices, *settings)


def _pci_address(device: Device) -> tuple[str, str]:
    return (device.pci_address or "", device.id)
