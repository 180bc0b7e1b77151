"""Whether what a vendor reports is about its own devices, under its own name; on the loop.

Vendors are plug-ins: none may make another one's device Unhealthy, or speak under its name.
"""

from collections.abc import Iterable

import structlog

from deviceplugin.health.words import printable
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, Fault
from deviceplugin.names import one_line

log = structlog.get_logger()

MAX_LOGGED = 1000  # devices and sources come and go


class Ownership:
    """Leaves out what a vendor may not report; each device and source of it is logged once."""

    def __init__(self, store: InventoryStore) -> None:
        self._store = store
        self._logged: set[tuple[str, str, str]] = set()

    def own(
        self, vendor: str, faults: Iterable[Fault], devices: Iterable[Device] = ()
    ) -> tuple[Fault, ...]:
        """The faults about devices of `vendor`, those of `devices` included that are not listed
        yet, and of a source that begins with its name; in words that can be shown."""
        unlisted = frozenset(device.id for device in devices)
        own = (fault for fault in faults if self._is_own(vendor, fault, unlisted))
        return tuple(map(printable, own))

    def _is_own(self, vendor: str, fault: Fault, unlisted: frozenset[DeviceID]) -> bool:
        problem = self._problem(vendor, fault, unlisted)
        key = (vendor, fault.device, fault.source)
        if problem and key not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add(key)
            log.warning(
                "foreign_device",
                vendor=vendor,
                device=one_line(fault.device, 80),
                source=one_line(fault.source, 80),
                reason=problem,
            )
        return problem is None

    def _problem(self, vendor: str, fault: Fault, unlisted: frozenset[DeviceID]) -> str | None:
        if not fault.source.startswith(f"{vendor}."):
            return f"a source of this vendor begins with {vendor + '.'!r}"
        known = self._store.current.devices.get(fault.device)
        if known is not None:
            return None if known.vendor == vendor else f"it is a device of vendor {known.vendor}"
        return None if fault.device in unlisted else "there is no such device"
