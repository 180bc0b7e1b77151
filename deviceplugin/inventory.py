"""The inventory store: the only place where the state of the devices changes, on the loop only."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from deviceplugin.latest import Latest
from deviceplugin.model import Device, DeviceID, Fault, Inventory, VendorStatus


class InventoryStore:
    """Holds the current Inventory; every change of content makes the next generation.

    `now` gives Unix time in seconds, for the `since` of new faults.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._faults: dict[str, tuple[Fault, ...]] = {}
        self.latest = Latest(Inventory())

    @property
    def current(self) -> Inventory:
        """The inventory as it is now."""
        return self.latest.value

    def set_devices(self, vendor: str, devices: Iterable[Device]) -> None:
        """Replace the whole set of devices of one vendor."""
        others = {k: d for k, d in self.current.devices.items() if d.vendor != vendor}
        merged = others | {device.id: device for device in devices}
        if merged != self.current.devices:
            ordered = MappingProxyType(dict(sorted(merged.items())))
            self._publish(devices=ordered, faults=_by_device(self._faults, ordered))

    def set_status(self, status: VendorStatus) -> None:
        """Replace the status of one vendor."""
        if self.current.vendors.get(status.name) != status:
            vendors = dict(self.current.vendors) | {status.name: status}
            self._publish(vendors=MappingProxyType(dict(sorted(vendors.items()))))

    def set_faults(self, source: str, faults: Iterable[Fault]) -> None:
        """Replace the whole set of faults that `source` reports; a standing fault keeps its age.

        What `vendor:source` reports of another vendor's device counts for nothing.
        """
        known = {fault.key: fault.since for fault in self._faults.get(source, ())}
        now = self._now()
        stamped = tuple(fault.stamped(known.get(fault.key, now)) for fault in faults)
        if stamped == self._faults.get(source, ()):
            return
        self._faults[source] = stamped
        self._publish(faults=_by_device(self._faults, self.current.devices))

    def _publish(self, **changed: object) -> None:
        following = replace(self.current, **changed)  # type: ignore[arg-type]  # one of its fields
        self.latest.set(replace(following, generation=self.current.generation + 1))


def _by_device(
    sources: Mapping[str, tuple[Fault, ...]], devices: Mapping[DeviceID, Device]
) -> Mapping[DeviceID, tuple[Fault, ...]]:
    grouped: dict[DeviceID, list[Fault]] = {}
    for source, faults in sources.items():
        for fault in faults:
            if _may_report(source, devices.get(fault.device)):
                grouped.setdefault(fault.device, []).append(fault)
    return MappingProxyType(
        {
            device: tuple(sorted(found, key=lambda fault: fault.key))
            for device, found in sorted(grouped.items())
        }
    )


def _may_report(source: str, device: Device | None) -> bool:
    """A vendor's source, `vendor:source`, speaks of that vendor's devices; others are our own."""
    vendor, colon, _ = source.partition(":")
    return device is None or not colon or device.vendor == vendor
