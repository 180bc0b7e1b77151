"""Health as parts of the daemon: the tracker with its file, and the listeners to agents."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from deviceplugin.errors import VendorError
from deviceplugin.health.agents import Listener, agents_of
from deviceplugin.health.metrics import DeviceInfoCollector, HealthCollector
from deviceplugin.health.operations import HealthOperations
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.report import Uses
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.health.uevents import bound_again, wedged_faults
from deviceplugin.host import Host
from deviceplugin.host.boot import read_boot_id
from deviceplugin.host.uevents import Uevent
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.part import Collector, Once, Operation, Part, Sectioned
from deviceplugin.schema import section_of
from deviceplugin.vendor import Agent, Vendor


class Judged(Sectioned, Protocol):
    """A configuration, as health sees it."""

    @property
    def numbered_faults(self) -> Mapping[str, str]:
        """The vendors' words for sources of numbered faults: `{"xids": "nvidia.xid"}`."""

    @property
    def node_name(self) -> str:
        """The node's name in Kubernetes."""


class HealthPart(Part[Judged]):
    """The inventory's store and the tracker of faults; `now` gives Unix seconds.

    It stands before every part that discovers: the newest section applies to what is found.
    """

    def __init__(
        self, config: Judged, host: Host, state_dir: Path, now: Callable[[], float]
    ) -> None:
        policy = _policy(config)
        self._state_dir = state_dir
        self.store = InventoryStore(now, policy.section)
        self.tracker = FaultTracker(self.store, policy, _boot_id(host))
        self._node_name = config.node_name
        self._uses = Uses()
        self._notes: list[Callable[[], str]] = []

    def note(self, text: Callable[[], str]) -> None:
        """Show what `text` gives with every answer about health, where it is not empty."""
        self._notes.append(text)

    def notices(self) -> Sequence[str]:
        """What an operator should know beside the devices."""
        return [text for note in self._notes if (text := note())]

    def show(self, uses: Uses) -> None:
        """Show who uses devices, too."""
        self._uses = uses

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """What earlier processes remembered is taken up before anything is discovered."""
        await self.tracker.load(self._state_dir)
        yield

    def tasks(self) -> Mapping[str, Once]:
        """What time does, and the file that outlives us."""
        return {
            "health_time": self.tracker.watch_time,
            "health_memory": partial(self.tracker.keep_saved, self._state_dir),
        }

    async def use(self, config: Judged) -> None:
        """Apply the newest section."""
        self.tracker.use(_policy(config))
        self._node_name = config.node_name

    def collectors(self) -> Mapping[str, Collector]:
        """Conditions, events and what is remembered."""
        health = HealthCollector(
            lambda: self.store.current,
            lambda: self.tracker.records.value,
            self.tracker.event_counts,
        )
        info = DeviceInfoCollector(lambda: self.store.current, lambda: self._node_name)
        return {"health": health, "device_info": info}

    def operations(self) -> Mapping[str, Operation]:
        """health, cordon, uncordon and forget."""
        return HealthOperations(self.store, self.tracker, self._uses, self.notices).table()

    def uevent(self, event: Uevent) -> None:
        """A kernel event that may be about a device's health."""
        devices = tuple(self.store.current.devices.values())
        for fault in wedged_faults(event, devices):
            self.tracker.record_event(fault)
        for device in bound_again(event, devices):
            self.tracker.record_reset(device.id, [d.id for d in devices if d.parent == device.id])


class AgentsPart(Part[Sectioned]):
    """Listens to the agents of the vendors that are served, which `vendors` returns.

    It stands after the part that decides which vendors those are.
    """

    def __init__(
        self,
        config: Sectioned,
        host: Host,
        health: HealthPart,
        vendors: Callable[[], Collection[Vendor]],
        keeper: Keeper,
    ) -> None:
        self._wanted = health_section(config).agents
        self._host, self._health, self._vendors = host, health, vendors
        self._keeper = keeper.another()
        self._listening: dict[str, tuple[Agent, Callable[[], object]]] = {}
        self._listeners: dict[str, Listener] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The listeners."""
        self._follow()
        try:
            yield
        finally:
            await self._keeper.end()

    def tasks(self) -> Mapping[str, Once]:
        """Reports of devices that are found later."""
        return {"agent_devices": self._watch_devices}

    async def _watch_devices(self) -> None:
        known: Mapping[DeviceID, Device] = {}
        async for inventory in self._health.store.latest.changes():
            if inventory.devices is not known:
                known = inventory.devices
                for listener in self._listeners.values():
                    listener.devices_changed()

    async def use(self, config: Sectioned) -> None:
        """Listen to the agents that the configuration wants, and to no other."""
        self._wanted = health_section(config).agents
        self._follow()

    def _follow(self) -> None:
        """An agent that a reload describes differently is listened to again; its faults stay."""
        agents = agents_of(self._vendors()) if self._wanted else ()
        wanted = {agent.source: (vendor, agent) for vendor, agent in agents}
        for source, (agent, cancel) in tuple(self._listening.items()):
            if source not in wanted or wanted[source][1] != agent:
                cancel()
                del self._listening[source], self._listeners[source]
            if source not in wanted:
                self._health.tracker.faults(source, ())
        for source in wanted.keys() - self._listening.keys():
            vendor, agent = wanted[source]
            listener = self._listeners[source] = self._listener(vendor, agent)
            once = partial(listener.run, self._devices)
            self._listening[source] = agent, self._keeper.start(source, once).cancel

    def _listener(self, vendor: str, agent: Agent) -> Listener:
        path = Path(self._host.path(agent.socket))
        return Listener(vendor, agent, path, self._health.tracker.faults)

    def _devices(self) -> tuple[Device, ...]:
        return tuple(self._health.store.current.devices.values())


def health_section(config: Sectioned) -> HealthSection:
    """The section `health`, with its defaults where the configuration has none."""
    return section_of(config.sections, "health", HealthSection)


def _policy(config: Judged) -> FaultPolicy:
    return FaultPolicy(section=health_section(config), numbered=config.numbered_faults)


def _boot_id(host: Host) -> str | None:
    try:
        return read_boot_id(host)
    except VendorError:
        return None
