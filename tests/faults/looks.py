"""Program: a vendor looks at a node again and again, each look with another of its reads hurt.

`python -m tests.faults.looks VENDOR ROOT CONTROL ERRNO PREFIX TIMES` writes a JSON line a read.
"""

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from deviceplugin.discovery.loop import LoopOptions, VendorLoop
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.resources.plan import SOURCE, sharing_of
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.vendor import Vendor
from tests.fakes.syscalls import READING, Faults, Point

MOST = 2000


class Eyes:
    """A daemon's view of one vendor, from nothing."""

    def __init__(self, name: str, root: Path) -> None:
        module = importlib.import_module(f"deviceplugin.vendors.{name}")
        sections = {key: section() for key, section in module.SECTIONS.items()}
        self._vendor: Vendor = module.create(Host(root), sections)
        self._store = InventoryStore(lambda: 0.0)
        self._loop = VendorLoop(self._vendor, self._store, LoopOptions())
        self._sharing = sharing_of({})

    async def look(self) -> dict[str, Any]:
        """What would be listed after one more discovery: resource, health and answer of each id."""
        self._loop.wake()
        await self._loop.look()
        self._store.set_faults(SOURCE, self._sharing.faults(self._store.current))
        devices = self._store.current.devices
        plan = self._sharing.plan(self._store.current)
        return {
            entry.id: {
                "gpu": devices[entry.device].pci_address,
                "resource": resource.name,
                "health": entry.health,
                "answer": repr(self._vendor.container_edits([devices[entry.device]])),
            }
            for resource in plan.resources.values()
            for entry in resource.devices
        }

    def stop(self) -> None:
        self._loop.stop()


async def looks(name: str, root: Path, faults: Faults, number: int, point: Point) -> int:
    """One line for the whole node, then one for each read; returns how many reads were met."""
    eyes = Eyes(name, root)
    print(json.dumps({"whole": await eyes.look()}))
    eyes.stop()
    for skip in range(MOST):
        hurt = Point(point.calls, point.prefix, skip, point.times)
        eyes = Eyes(name, root)
        faults.fail(number, hurt)
        first, met, where = await eyes.look(), faults.fired, faults.where
        faults.clear()
        second = await eyes.look()
        faults.fail(number, hurt)
        third = await eyes.look()
        faults.clear()
        fourth = await eyes.look()
        eyes.stop()
        if not met:
            return skip
        line = {"where": where, "hurt": [first, third], "healed": [second, fourth]}
        print(json.dumps(line))
    return MOST


if __name__ == "__main__":
    configure_logs("debug", "json")
    vendor, host_root, control, error, prefix, times = sys.argv[1:]
    met = Point(READING, prefix, 0, int(times))
    steering = Faults(Path(control))
    asyncio.run(looks(vendor, Path(host_root), steering, int(error), met))
