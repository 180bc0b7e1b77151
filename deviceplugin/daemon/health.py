"""The health side of the daemon, put together: store, desk, memory, operator's door, metrics."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from deviceplugin.config.config import Config
from deviceplugin.discovery.loop import LoopOptions, VendorLoop
from deviceplugin.errors import VendorError
from deviceplugin.health.agents import Listener
from deviceplugin.health.dialects import DIALECTS
from deviceplugin.health.metrics import HealthCollector
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.health.uevents import bound_again, wedged_faults
from deviceplugin.host import Host
from deviceplugin.host.boot import read_boot_id
from deviceplugin.host.uevents import Uevent
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device
from deviceplugin.runtime.control import Control
from deviceplugin.vendor import Vendor

Task = tuple[str, Callable[[], Awaitable[None]]]


class HealthWiring:
    """Made on the loop; `now` gives Unix seconds."""

    def __init__(self, config: Config, host: Host, now: Callable[[], float]) -> None:
        policy = _policy(config)
        self._state_dir = config.state_dir
        self.store = InventoryStore(now, policy.section)
        self.desk = FaultTracker(self.store, policy, _boot_id(host))
        self._control = Control(self.store, self.desk)
        self._host = host
        self.collector = HealthCollector(
            lambda: self.store.current, lambda: self.desk.records.value, self.desk.event_counts
        )

    def vendor_loop(self, vendor: Vendor, around: LoopOptions) -> VendorLoop:
        """A vendor's loop that reports to the tracker."""
        return VendorLoop(
            vendor,
            self.store,
            replace(around, tracker=self.desk, call_deadline_s=self.desk.call_deadline_s),
        )

    async def load(self) -> None:
        """Take up what earlier processes remembered, before anything is discovered."""
        await self.desk.load(self._state_dir)

    def tasks(self) -> Iterator[Task]:
        """What runs beside the discoveries, each until it is cancelled."""
        yield "health_time", self.desk.watch_time
        yield "health_memory", partial(self.desk.keep_saved, self._state_dir)
        yield "control", partial(self._control.serve, self._state_dir)

    def use(self, config: Config) -> None:
        """Judge by another configuration from now on."""
        self.desk.use(_policy(config))

    def agents(self, config: Config, vendors: Collection[str]) -> Iterator[Task]:
        """The listeners to the agents of these vendors, by the source that each reports as."""
        for dialect in DIALECTS:
            if _section(config).agents and dialect.vendor in vendors:
                path = Path(self._host.path(dialect.socket))
                listener = Listener(dialect, path, self.desk.faults)
                yield dialect.source, partial(listener.run, self._devices)

    def _devices(self) -> Sequence[Device]:
        return tuple(self.store.current.devices.values())

    def uevent(self, event: Uevent) -> None:
        """A kernel event that may be word of a device's health."""
        devices = tuple(self.store.current.devices.values())
        for fault in wedged_faults(event, devices):
            self.desk.record_event(fault)
        for device in bound_again(event, devices):
            self.desk.record_reset(device.id, [d.id for d in devices if d.parent == device.id])


def _section(config: Config) -> HealthSection:
    return cast("HealthSection", config.sections.get("health", HealthSection()))


def _policy(config: Config) -> FaultPolicy:
    return FaultPolicy(section=_section(config), numbered=config.numbered_faults)


def _boot_id(host: Host) -> str | None:
    try:
        return read_boot_id(host)
    except VendorError:
        return None
