"""The inventory store: the only place where the state of the devices changes, on the loop only."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from deviceplugin.faults import HEALTH_UNREADABLE
from deviceplugin.inventory.conditions import (
    HoldPolicy,
    HoldStates,
    NoHold,
    advance,
    next_change,
    with_holds,
)
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, Inventory, VendorStatus
from deviceplugin.runtime.latest import Latest

_UNREADABLE_BY = frozenset({FaultClass.REBOOT, FaultClass.HARDWARE})


class InventoryStore:
    """Holds the current Inventory; every change of content makes the next generation.

    `now` gives Unix time in seconds, for the `since` of new faults. `holds` says how long a device
    is held back after its last fault is gone (None: not at all); `review` ends the holds whose time
    has come.
    """

    def __init__(self, now: Callable[[], float], holds: HoldPolicy | None = None) -> None:
        self.now = now
        self._holds = holds or NoHold()
        self._states: HoldStates = {}
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
            self._settle(MappingProxyType(dict(sorted(merged.items()))))

    def set_status(self, status: VendorStatus) -> None:
        """Replace the status of one vendor."""
        if self.current.vendors.get(status.name) != status:
            vendors = dict(self.current.vendors) | {status.name: status}
            self._publish(vendors=MappingProxyType(dict(sorted(vendors.items()))))

    def set_faults(self, source: str, faults: Iterable[Fault]) -> None:
        """Replace the whole set of faults that `source` reports; a standing fault keeps its age.

        What `vendor:source` reports of another vendor's device is left out.
        """
        known = {fault.key: fault.since for fault in self._faults.get(source, ())}
        now = self.now()
        stamped = tuple(fault.stamped(known.get(fault.key, fault.since or now)) for fault in faults)
        if stamped == self._faults.get(source, ()):
            return
        if stamped:
            self._faults[source] = stamped
        else:
            self._faults.pop(source, None)
        self.review()

    def hold_by(self, holds: HoldPolicy) -> None:
        """Hold devices back by another policy from now on."""
        self._holds = holds
        self.review()

    def forget(self, vendor: str) -> None:
        """Drop everything about a vendor that is not served any more."""
        mine = f"{vendor}:"
        self._faults = {s: f for s, f in self._faults.items() if not s.startswith(mine)}
        statuses = {n: s for n, s in self.current.vendors.items() if n != vendor}
        self._publish(vendors=MappingProxyType(statuses))
        self.set_devices(vendor, ())
        self.review()

    def review(self) -> None:
        """End the holds whose time has come, in one step with the faults that cause them."""
        self._settle(self.current.devices)

    def _settle(self, devices: Mapping[DeviceID, Device]) -> None:
        """Publish the devices and what is wrong with them together, where either changed."""
        reported = _by_device(self._faults, devices)
        self._states = advance(self._states, reported, self.now(), self._holds)
        faults = with_holds(reported, self._states)
        if faults != self.current.faults or devices is not self.current.devices:
            self._publish(devices=devices, faults=faults)

    def forgive(self, devices: Iterable[DeviceID]) -> None:
        """End the holds of `devices` and forget their failures: an operator says that they are
        well."""
        forgiven = frozenset(devices)
        self._states = {d: state for d, state in self._states.items() if d not in forgiven}
        self.review()

    def next_change(self) -> float | None:
        """When `review` has something to do (Unix seconds), None where time changes nothing."""
        return next_change(self._states)

    def _publish(self, **changed: object) -> None:
        following = replace(self.current, **changed)
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
            device: tuple(sorted(_causes(found), key=lambda fault: fault.key))
            for device, found in sorted(grouped.items())
        }
    )


def _causes(faults: Sequence[Fault]) -> Iterable[Fault]:
    """Without what only follows from another one: that a device's health cannot be read says
    nothing more where its driver, or the device itself, is known to be gone."""
    if not any(fault.kind in _UNREADABLE_BY for fault in faults):
        return faults
    return [fault for fault in faults if fault.code != HEALTH_UNREADABLE.code]


def _may_report(source: str, device: Device | None) -> bool:
    """A vendor's source, `vendor:source`, is about that vendor's devices; others are the
    daemon's."""
    vendor, colon, _ = source.partition(":")
    return device is None or not colon or device.vendor == vendor
