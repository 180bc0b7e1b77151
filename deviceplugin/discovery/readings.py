"""What vendors measure, for the placement policies that choose by it; asked only while one does."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from types import MappingProxyType

import structlog
from msgspec.structs import replace

from deviceplugin.discovery.loop import VendorLoop
from deviceplugin.errors import VendorError
from deviceplugin.model import Device, DeviceID, Inventory
from deviceplugin.vendor import Reading, Readings

log = structlog.get_logger()

INTERVAL_S = 10.0
DEADLINE_S = 5.0
_NONE: Mapping[DeviceID, Reading] = MappingProxyType({})


class ReadingsPoll:
    """`latest` are the readings of all vendors, empty while nobody needs any.

    `needed` tells whether a policy in force uses readings, `inventory` has the devices.
    """

    def __init__(
        self,
        loops: Sequence[VendorLoop],
        needed: Callable[[], bool],
        inventory: Callable[[], Inventory],
    ) -> None:
        self.latest = _NONE
        self._loops, self._needed, self._inventory = loops, needed, inventory
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Ask every INTERVAL_S seconds, until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(INTERVAL_S)

    async def ask(self) -> None:
        """Ask each vendor once, on its thread; one that fails has no readings."""
        able = [loop for loop in self._loops if isinstance(loop.vendor, Readings)]
        if not able or not self._needed():
            self.latest = _NONE
            return
        answers = await asyncio.gather(*map(self._of, able))
        self.latest = MappingProxyType({k: v for answer in answers for k, v in answer.items()})

    async def _of(self, loop: VendorLoop) -> Mapping[DeviceID, Reading]:
        name = loop.vendor.name
        own = [d for d in self._inventory().devices.values() if d.vendor == name]
        whole = [device for device in own if device.parent is None]
        if not whole or not isinstance(loop.vendor, Readings):
            return _NONE
        ask = partial(_asked, loop.vendor, tuple(whole))
        try:
            found = await loop.call(ask, DEADLINE_S)
        except VendorError as error:
            if name not in self._failing:
                log.warning("readings_failed", vendor=name, error=str(error))
            self._failing.add(name)
            return _NONE
        self._failing.discard(name)
        return found


def _asked(vendor: Readings, devices: Sequence[Device]) -> Mapping[DeviceID, Reading]:
    """The vendor's answer, gone through on its own thread: what is not a reading of one of its
    devices is left out."""
    answer = vendor.readings(devices)
    known = {device.id for device in devices}
    return {
        device: _finite(reading)
        for device, reading in answer.items()
        if device in known and isinstance(reading, Reading)
    }


def _finite(reading: Reading) -> Reading:
    """Without the numbers that are none, which no order has a place for."""
    values = ("utilisation_percent", "temperature_c")
    odd = {n: None for n in values if (v := getattr(reading, n)) is not None and not isfinite(v)}
    return replace(reading, **odd) if odd else reading
