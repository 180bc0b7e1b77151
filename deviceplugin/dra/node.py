"""All drivers of the node: their claims, sockets and slices, which follow the inventory."""

import asyncio
import os
import threading

from deviceplugin.dra.driver import Driver
from deviceplugin.dra.making import places_of
from deviceplugin.dra.names import driver_of
from deviceplugin.dra.section import DraSection
from deviceplugin.dra.settings import OfNode
from deviceplugin.dra.watch import SliceWatch
from deviceplugin.dra.wiring import Wiring
from deviceplugin.model import DeviceID
from deviceplugin.provision.on_demand import Claimed

RECONCILE_S = 600.0
HELD_S = 1.0  # who holds what by the device plugin is followed at most so often


class DraNode:
    """The drivers by name; made and used on the loop."""

    def __init__(self, config: OfNode, section: DraSection, wiring: Wiring) -> None:
        self._config, self._section, self._wiring = config, section, wiring
        self.drivers: dict[str, Driver] = {}
        self._keeper = wiring.keeper.another()
        self._directory = config.state_dir / "dra"

    def load(self) -> None:
        """Have what claims held before our time; blocks, comes before anything is handed out.

        Raises JournalError.
        """
        names = os.listdir(self._directory) if self._directory.is_dir() else ()
        for driver in sorted(names):
            if (self._directory / driver).is_dir():
                self._driver(driver)
        self._wiring.claims(self._claimed, self.wake)

    def start(self) -> None:
        """Serve."""
        self._keeper.start("dra", self._follow)
        self._keeper.start("dra_holders", self._follow_holders)
        self._keeper.start("dra_claims", self._reconcile)
        self._keeper.start("dra_watch", self._follow_slices)

    async def end(self) -> None:
        """End every task; what claims hold they go on holding, and nothing is kept for others."""
        self._wiring.claims(None, self.wake)
        await self._keeper.end()
        for driver in self.drivers.values():
            driver.end()

    def problems(self) -> str:
        """What keeps drivers from their work, empty for nothing; from any thread."""
        found = [text for driver in list(self.drivers.values()) for text in driver.problems()]
        return "; ".join(found)

    def wake(self) -> None:
        """What claims may have may have changed."""
        for driver in self.drivers.values():
            driver.refresh(self._keeper)

    async def _follow(self) -> None:
        async for inventory in self._wiring.store.latest.changes():
            devices = self._wiring.published(inventory, self._section)
            for name in sorted({driver_of(device, self._section) for device in devices}):
                self._serve(name)
            for name in list(self.drivers):
                self._serve(name)
                self.drivers[name].refresh(self._keeper)

    async def _follow_holders(self) -> None:
        async for _ in self._wiring.ledger.usage.changes():
            for driver in self.drivers.values():
                driver.wake()
            await asyncio.sleep(HELD_S)

    async def _reconcile(self) -> None:
        while True:
            for driver in list(self.drivers.values()):
                await driver.claims.reconcile()
            await asyncio.sleep(RECONCILE_S)

    async def _follow_slices(self) -> None:
        """On a thread that nobody waits for: a watch ends when its server ends it."""
        loop = asyncio.get_running_loop()

        def changed(driver: str, version: str) -> None:
            if not watch.stop.is_set():
                loop.call_soon_threadsafe(self._changed, driver, version)

        watch = SliceWatch(self._wiring.api, self._config.node_name, changed)
        threading.Thread(target=watch.run, name="dra_watch", daemon=True).start()
        try:
            await asyncio.Future()
        finally:
            watch.stop.set()

    def _changed(self, name: str, version: str) -> None:
        for driver in self.drivers.values():
            if name in ("", driver.name):
                driver.changed(version)

    def _claimed(self, gpu: DeviceID) -> Claimed:
        entries = [entry for driver in self.drivers.values() for entry in driver.claimed()]
        return places_of(entries, gpu, self._wiring.store.current.devices.values())

    def _driver(self, name: str) -> Driver:
        if name not in self.drivers:
            self.drivers[name] = Driver(name, self._config, self._section, self._wiring)
            self.drivers[name].claims.load()
        return self.drivers[name]

    def _serve(self, name: str) -> None:
        driver = self._driver(name)
        if not driver.serving:
            driver.serve(self._keeper)
