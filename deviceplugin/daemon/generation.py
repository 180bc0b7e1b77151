"""What is made anew for each configuration: the vendors, their discoveries, what they answer, and
where containers are placed. What is known and what pods hold outlives it elsewhere."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from deviceplugin.cdi.files import CdiFiles
from deviceplugin.config.config import Config
from deviceplugin.daemon.health import HealthWiring
from deviceplugin.daemon.sharing import Claims
from deviceplugin.discovery.edits import EditsCache
from deviceplugin.discovery.loop import LoopOptions
from deviceplugin.discovery.readings import ReadingsPoll
from deviceplugin.discovery.registry import create_vendors
from deviceplugin.host import Host
from deviceplugin.placement.service import Placement, Sources, settings_of
from deviceplugin.resources.allocation import offered_as
from deviceplugin.vendor import Vendor, VendorModule

Keep = Callable[[str, Callable[[], Awaitable[None]]], "asyncio.Task[None]"]

LOOK_S = 5.0  # a slow vendor's devices are listed as they were before, until it has looked


async def with_vendors(
    config: Config, modules: Iterable[VendorModule]
) -> tuple[Config, tuple[Vendor, ...]]:
    """The vendors, and the configuration that also says which of them cannot be had."""
    skipped = list(config.skipped)
    vendors = await create_vendors(modules, Host(config.host_root), config.sections, skipped.append)
    return replace(config, skipped=tuple(skipped)), vendors


class VendorSide:
    """Made on the loop; `discovered(vendor, seconds)` is told each discovery's time.

    Raises ConfigError for a placement policy that cannot be had.
    """

    def __init__(
        self,
        config: Config,
        vendors: Sequence[Vendor],
        health: HealthWiring,
        claims: Claims,
        discovered: Callable[[str, float], None],
    ) -> None:
        host, order = Host(config.host_root), tuple(vendor.name for vendor in vendors)
        self.names = order
        self.answers = EditsCache(host, {vendor.name: vendor for vendor in vendors})
        self.placement = Placement(
            host,
            settings_of(config.sections, config.node_name),
            config.state_dir,
            Sources(holders=lambda: claims.ledger.holders, readings=lambda: self.readings.latest),
        )
        write = CdiFiles(config.cdi_dir, order).write
        around = LoopOptions(write_files=write, discovered=discovered, order=order)
        self.loops = [health.vendor_loop(vendor, around) for vendor in vendors]
        self._store, self._listed = health.store, claims.retention.listed
        self.readings = ReadingsPoll(
            self.loops,
            lambda: self.placement.uses_readings,
            lambda: health.store.current,
        )
        self._looking: list[asyncio.Task[None]] = []
        self._placing: list[asyncio.Task[None]] = []

    def start(self, keep: Keep) -> None:
        """Look at the hardware again and again, each task by `keep`."""
        self._placing = [
            keep("placement", self._place),
            keep("answers", self._prepare),
            keep("readings", self.readings.run),
        ]
        self._looking = [keep(f"{loop.vendor.name}_discovery", loop.run) for loop in self.loops]

    async def _place(self) -> None:
        await self.placement.follow(self._store.latest, self._listed)

    async def _prepare(self) -> None:
        """Have an answer for each device before it is asked for."""
        async for resources in self._listed.changes():
            devices = self._store.current.devices
            offered = [
                offered_as(name, devices[device])
                for name, resource in resources.items()
                for device in dict.fromkeys(entry.device for entry in resource.devices)
                if device in devices
            ]
            await self.answers.prepare(offered)

    def wake(self) -> None:
        """Something may have changed: discover soon."""
        for loop in self.loops:
            loop.wake()

    async def looked(self) -> None:
        """Wait until every vendor has looked once, LOOK_S at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                for loop in self.loops:
                    await loop.looked.wait()

    async def rest(self) -> None:
        """End the discoveries; health is watched and answers are given as before."""
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*(loop.idle() for loop in self.loops))

    def stop(self) -> "Sequence[asyncio.Task[None]]":
        """End every task and watch, and hear nothing more; the tasks that are ending."""
        for loop in self.loops:
            loop.stop()
        tasks = [*self._looking, *self._placing]
        for task in tasks:
            task.cancel()
        return tasks

    async def close(self) -> None:
        """Let the drivers go; calls that run come to their end first."""
        self.answers.close()
        await asyncio.gather(*(loop.close() for loop in self.loops))
