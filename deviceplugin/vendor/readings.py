"""The contract of readings: what a vendor measures for placement policies.

Everything here is of the public module `deviceplugin.vendor`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from deviceplugin.model import Device, DeviceID


class Reading(Struct, frozen=True, kw_only=True):
    """What was last measured of a device; None is unknown."""

    utilisation_percent: float | None = None
    temperature_c: float | None = None
    throttled: bool | None = None


@runtime_checkable
class Readings(Protocol):
    """A vendor that measures what placement policies choose by."""

    def readings(self, devices: Sequence[Device]) -> Mapping[DeviceID, Reading]:
        """The readings of whole devices (never of partitions), without those that have none.

        Blocking, on the vendor's thread, every 10 s, and only while a policy that uses readings
        is in force.
        """
