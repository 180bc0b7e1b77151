"""What is made for each configuration: the vendors, their discoveries, their container edits, and
where containers are placed. What is known and what pods hold outlives it elsewhere."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.cdi.files import CdiFiles
from deviceplugin.config.config import Config
from deviceplugin.discovery.edits import EditsCache
from deviceplugin.discovery.loop import LoopOptions, VendorLoop
from deviceplugin.discovery.readings import ReadingsPoll
from deviceplugin.discovery.registry import create_vendors
from deviceplugin.discovery.signs import Signs
from deviceplugin.health.service import health_section
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.host import Host
from deviceplugin.host.uevents import Uevent
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import AdvertisedID, Preference, Resource, VendorStatus
from deviceplugin.placement.service import Placement, Sources, settings_of
from deviceplugin.resources.allocation import Allocation, offered_as
from deviceplugin.resources.large import LargeQuestion
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.pairs import Containers
from deviceplugin.resources.plan import Resources
from deviceplugin.resources.planner import Planner
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Part
from deviceplugin.vendor import Vendor, VendorModule

LOOK_S = 5.0  # a slow vendor's devices are listed as they were before, until it has looked


class Lasting(Struct, frozen=True, kw_only=True):
    """What every generation works with and what outlives it; `discovered(vendor, seconds)` is
    given each discovery's time."""

    store: InventoryStore
    tracker: FaultTracker
    ledger: Ledger
    planner: Planner
    listed: Latest[Resources]
    keeper: Keeper
    discovered: Callable[[str, float], None]
    signs: Signs
    containers: Latest[Containers]


async def with_vendors(
    config: Config, modules: Iterable[VendorModule]
) -> tuple[Config, tuple[Vendor, ...]]:
    """The vendors, and the configuration that also says which of them cannot be had."""
    skipped = list(config.skipped)
    vendors = await create_vendors(modules, Host(config.host_root), config.sections, skipped.append)
    return replace(config, skipped=tuple(skipped)), vendors


class Generation:
    """What is made for one configuration, on the loop.

    Raises ConfigError for a placement policy that cannot be had.
    """

    def __init__(self, config: Config, vendors: Sequence[Vendor], lasting: Lasting) -> None:
        host = Host(config.host_root)
        self.vendors = tuple(vendors)
        self.names = tuple(vendor.name for vendor in vendors)
        self.edits = EditsCache(host, {vendor.name: vendor for vendor in vendors})
        self.placement = Placement(
            host,
            settings_of(config.sections, config.node_name),
            config.state_dir,
            Sources(holders=lambda: lasting.ledger.holders, readings=lambda: self.readings.latest),
        )
        options = self._options(config, lasting)
        self.loops = [VendorLoop(vendor, lasting.store, options) for vendor in vendors]
        self._store, self._listed = lasting.store, lasting.listed
        self._containers, self._ledger = lasting.containers, lasting.ledger
        self.readings = ReadingsPoll(
            self.loops,
            lambda: self.placement.uses_readings,
            lambda: lasting.store.current,
        )
        self._looking, self._placing = lasting.keeper.another(), lasting.keeper.another()

    def _options(self, config: Config, lasting: Lasting) -> LoopOptions:
        return LoopOptions(
            write_files=CdiFiles(config.cdi_dir, self.names).write,
            discovered=lasting.discovered,
            tracker=lasting.tracker,
            order=self.names,
            call_deadline_s=health_section(config).call_deadline_s,
            interval_s=lasting.signs.interval_s,
        )

    def start(self) -> None:
        """Look at the hardware again and again, and prepare what is asked for."""
        self._placing.start("placement", self._place)
        self._placing.start("answers", self._prepare)
        self._placing.start("readings", self.readings.run)
        if self.edits.followed():
            self._placing.start("holdings", self._follow_holdings)
        for loop in self.loops:
            self._looking.start(f"{loop.vendor.name}_discovery", loop.run)

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
            await self.edits.prepare(offered)

    async def _follow_holdings(self) -> None:
        """Nothing is known before the kubelet has answered once."""
        async for containers in self._containers.changes():
            if not self._ledger.answered:
                continue
            known = self._store.current.devices
            held = [[known[d] for d in sorted(ids) if d in known] for ids in containers.values()]
            await self.edits.held(held)

    async def looked(self) -> None:
        """Wait until every vendor has looked once, LOOK_S at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                for loop in self.loops:
                    await loop.looked.wait()

    async def rest(self) -> None:
        """End the discoveries; health is watched and answers are given as before."""
        self._looking.cancel()
        await asyncio.gather(*(loop.idle() for loop in self.loops))

    def stop(self) -> None:
        """End every task and watch, and take no report any more."""
        for loop in self.loops:
            loop.stop()
        self._looking.cancel()
        self._placing.cancel()

    async def end(self) -> None:
        """Stop, and wait until every task has ended, STOP_S at most."""
        self.stop()
        await asyncio.gather(self._looking.end(), self._placing.end())

    async def close(self) -> None:
        """End, and let the drivers go; calls that run come to their end first."""
        self.edits.close()
        await asyncio.gather(self.end(), *(loop.close() for loop in self.loops))


class Generations(Part[Config]):
    """The generation in force, and how the next one takes its place.

    `prepare` comes before a reload, `retire` after it. The health part stands before it: the new
    policy applies to what the new vendors find. The sharing part stands right after it: from the
    old devices and rules to the new ones is one step on the loop.
    """

    def __init__(self, config: Config, vendors: Sequence[Vendor], lasting: Lasting) -> None:
        self._lasting, self.signs = lasting, lasting.signs
        self._skipped: Sequence[VendorStatus] = config.skipped
        self.current = Generation(config, vendors, lasting)
        self._alive = [self.current]
        self._vendors = vendors

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The tasks of each generation that is there."""
        self._set_skipped()
        self.current.start()
        try:
            yield
        finally:
            await asyncio.gather(*(generation.end() for generation in self._alive))

    def problem(self) -> str:
        """Which vendors have not looked yet, or whose devices are not announced for want of their
        files."""
        loops = self.current.loops
        slow = [loop.vendor.name for loop in loops if not loop.looked.is_set()]
        if slow:
            return "first discovery of " + ", ".join(slow)
        return "; ".join(filter(None, (loop.files_problem for loop in loops)))

    def vendors(self) -> tuple[Vendor, ...]:
        """The vendors that are served now."""
        return self.current.vendors

    def watched(self) -> Mapping[str, bool]:
        """The vendors whose driver tells of changes, and whether it is listened to now."""
        watches = {loop.vendor.name: loop.watched for loop in self.current.loops}
        return {name: runs for name, runs in watches.items() if runs is not None}

    def uevent(self, _: Uevent) -> None:
        """Something may have changed: discover soon."""
        for loop in self.current.loops:
            loop.wake()

    @contextlib.asynccontextmanager
    async def changing(self, vendor: str, *, released: bool) -> AsyncIterator[None]:
        """The vendor's hardware changes meanwhile; its devices are those of afterwards then."""
        loops = [loop for loop in self.current.loops if loop.vendor.name == vendor]
        async with contextlib.AsyncExitStack() as stack:
            for loop in loops:
                await stack.enter_async_context(loop.changing(released=released))
            yield

    def prefer(self, resource: Resource, preference: Preference) -> Sequence[AdvertisedID]:
        """As the newest configuration has it."""
        return self.current.placement.prefer(resource, preference)

    def prefer_large(
        self, resource: Resource, asked: LargeQuestion
    ) -> Sequence[AdvertisedID] | None:
        """The same without the question being read, where that can be done: a joined pair needs
        the ids."""
        if resource.partner is not None:
            return None
        return self.current.placement.prefer_large(resource, asked)

    def allocated(self, allocation: Allocation) -> None:
        """Placement takes turns by what containers were given."""
        self.current.placement.handed_out(allocation.resource, allocation.entries)

    async def prepare(self, config: Config, modules: Iterable[VendorModule]) -> Config:
        """Make the vendors of the next generation; its configuration, which also says which of
        them cannot be had."""
        config, self._vendors = await with_vendors(config, modules)
        return config

    def check(self, config: Config) -> None:
        """Placement needs its policies."""
        settings_of(config.sections, config.node_name)

    async def use(self, config: Config) -> None:
        """Look with the new vendors, then let them take over: until then, lists and answers are
        those of the old ones."""
        following = Generation(config, self._vendors, self._lasting)
        self._alive.append(following)
        await self.current.rest()
        self._lasting.planner.hold()
        try:
            following.start()
            await following.looked()
        finally:
            self._switch(following, config.skipped)

    def _switch(self, following: Generation, skipped: Sequence[VendorStatus]) -> None:
        before, self.current, self._skipped = self.current, following, skipped
        store = self._lasting.store
        for name in store.current.vendors.keys() - {*following.names}:
            store.forget(name)
        self._set_skipped()
        before.stop()

    async def retire(self) -> None:
        """Close the generations that are not in force any more."""
        for old in [generation for generation in self._alive if generation is not self.current]:
            self._alive.remove(old)
            await old.close()

    def _set_skipped(self) -> None:
        for status in self._skipped:
            self._lasting.store.set_status(status)
