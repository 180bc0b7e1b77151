"""All drivers of the node: their claims, sockets and slices, which follow the inventory."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog
from msgspec import Struct

from deviceplugin.dra.attributes import Seen, link_groups
from deviceplugin.dra.claims import ClaimError, Told, nobody
from deviceplugin.dra.files import ClaimFiles
from deviceplugin.dra.health import health_lists
from deviceplugin.dra.holders import RESERVED
from deviceplugin.dra.journal import Journal
from deviceplugin.dra.names import device_names, driver_of, published
from deviceplugin.dra.prepare import Claims, Node
from deviceplugin.dra.publisher import Publisher, Requests, read_claim
from deviceplugin.dra.section import DraSection
from deviceplugin.dra.servers import DriverServers, sockets_of
from deviceplugin.dra.slices import Offered, Pool, SlicePlan, plan_slices
from deviceplugin.errors import DevicePluginError
from deviceplugin.host import Host
from deviceplugin.host.boot import read_boot_id
from deviceplugin.host.pci import read_pci_path
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubernetes.api import JSON, Api, in_cluster
from deviceplugin.model import Device, DeviceID, Inventory
from deviceplugin.resources.ledger import Ledger, UsageSource
from deviceplugin.resources.usage import CLAIM, Usage, children_of
from deviceplugin.runtime.keep import Keeper

log = structlog.get_logger()

RECONCILE_S = 600.0
HELD_S = 1.0  # who holds what by the device plugin is followed at most so often


class OfNode(Protocol):
    """The settings of the daemon that are needed here."""

    @property
    def node_name(self) -> str:
        """In Kubernetes."""

    @property
    def host_root(self) -> Path:
        """Where the host's files are."""

    @property
    def kubelet_dir(self) -> Path:
        """The kubelet's."""

    @property
    def cdi_dir(self) -> Path:
        """Of CDI files."""

    @property
    def state_dir(self) -> Path:
        """Ours."""


class Wiring(Struct, frozen=True, kw_only=True):
    """What the drivers work with; `described` gives a device's edits, own and common, `source`
    is asked what pods have by the device plugin."""

    store: InventoryStore
    ledger: Ledger
    source: UsageSource
    described: Callable[[Device], Awaitable[tuple[Any, Any]]]
    keeper: Keeper
    api: Requests
    told: Told = nobody


class InCluster:
    """The API server of the cluster in whose pod this runs; whether there is one is known when
    something is asked."""

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, kind: str = JSON
    ) -> dict[str, Any]:
        """The answer's document; raises ApiError."""
        return Api(in_cluster()).request(method, path, body, kind)


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

    def start(self) -> None:
        """Serve."""
        self._keeper.start("dra", self._follow)
        self._keeper.start("dra_holders", self._follow_holders)
        self._keeper.start("dra_claims", self._reconcile)

    async def end(self) -> None:
        """End every task; what claims hold they go on holding, and nothing is kept for others."""
        await self._keeper.end()
        for driver in self.drivers.values():
            driver.claims.reserves = False
            driver.claims.hold()

    def problems(self) -> str:
        """What keeps drivers from their work, empty for nothing; from any thread."""
        found = [text for driver in list(self.drivers.values()) for text in driver.problems()]
        return "; ".join(found)

    async def _follow(self) -> None:
        async for inventory in self._wiring.store.latest.changes():
            devices = published(inventory.devices.values(), self._section)
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

    def _driver(self, name: str) -> "Driver":
        if name not in self.drivers:
            self.drivers[name] = Driver(name, self._config, self._section, self._wiring)
            self.drivers[name].claims.load()
        return self.drivers[name]

    def _serve(self, name: str) -> None:
        driver = self._driver(name)
        if not driver.serving:
            driver.serve(self._keeper)


class Driver:
    """One driver: the devices that it publishes, and what it does with them."""

    def __init__(self, name: str, config: OfNode, section: DraSection, wiring: Wiring) -> None:
        self.name, self._config, self._section, self._wiring = name, config, section, wiring
        self._host = Host(config.host_root)
        self._roots: dict[str, str | None] = {}
        self._known: tuple[Inventory | None, Mapping[str, Device]] = (None, {})
        self._servers: DriverServers | None = None
        self._publisher: Publisher | None = None
        self._publishes = False
        journal = Journal(config.state_dir / "dra" / name, _boot_id(self._host))
        files = ClaimFiles(config.cdi_dir, name)
        self.claims = Claims(self._node(), wiring.ledger, journal, files)
        self.claims.reserves = section.enabled and not section.handover

    @property
    def serving(self) -> bool:
        """Whether its tasks run."""
        return self._servers is not None

    def serve(self, keeper: Keeper) -> None:
        """Begin to serve; raises RegistrationError for a name that makes no socket."""
        sockets = sockets_of(self._config.kubelet_dir, self.name)
        api, store = self._wiring.api, self._wiring.store
        self._publisher = Publisher(self.name, self._config.node_name, self._plan, api)
        health = partial(
            health_lists, store.latest, self.offered, self._config.node_name, time.time
        )
        self._servers = DriverServers(
            self.name, sockets, self.claims, health, self._publisher.registered
        )
        keeper.start(f"dra_{self.name}", self._servers.run)

    def refresh(self, keeper: Keeper) -> None:
        """The inventory has changed. Slices are left as they are until the first device is found:
        an empty one before the first discovery would take away what claims hold."""
        self.claims.hold()
        if self._publisher is not None and self.names() and not self._publishes:
            self._publishes = True
            keeper.start(f"dra_{self.name}_slices", self._publisher.run)
        self.wake()

    def wake(self) -> None:
        """What is published may have changed."""
        if self._publisher is not None:
            self._publisher.wake()

    def problems(self) -> Iterator[str]:
        """What keeps it from its work."""
        for part in (self._servers, self._publisher):
            if part is not None and part.problem:
                yield part.problem

    def names(self) -> Mapping[str, Device]:
        """The devices that it publishes now, by name."""
        inventory = self._wiring.store.current
        if self._known[0] is not inventory:
            devices = published(inventory.devices.values(), self._section)
            ours = [device for device in devices if driver_of(device, self._section) == self.name]
            self._known = (inventory, device_names(ours))
        return self._known[1]

    def offered(self) -> tuple[Offered, ...]:
        """Its devices as claims are to see them."""
        inventory, usage = self._wiring.store.current, self._wiring.ledger.usage.value
        parts, groups = children_of(inventory.devices), link_groups(inventory.devices)
        return tuple(
            Offered(
                name=name,
                device=device,
                seen=self._seen(inventory, device, groups.get(device.id)),
                faults=inventory.faults_of(device),
                claimed=self.claims.holds(device.id),
                elsewhere=is_elsewhere(usage, device, parts.get(device.id, ())),
            )
            for name, device in self.names().items()
        )

    def _plan(self, minor: int) -> SlicePlan:
        pool = Pool(driver=self.name, node=self._config.node_name, minor=minor)
        return plan_slices(pool, self.offered())

    def _seen(self, inventory: Inventory, device: Device, group: str | None) -> Seen:
        status = inventory.vendors.get(device.vendor)
        return Seen(
            driver_version=status.driver_version if status else None,
            pcie_root=self._root(device.pci_address),
            link_group=group,
            health=inventory.health_of(device),
        )

    def _root(self, address: str | None) -> str | None:
        """`pci0000:00`, the first step below /sys/devices that is a PCI root; it never moves."""
        if address is None:
            return None
        if address not in self._roots:
            try:
                path = read_pci_path(self._host, address) or ""
            except DevicePluginError:
                return None
            steps = path.split("/")
            self._roots[address] = next((s for s in steps if s.startswith("pci")), None)
        return self._roots[address]

    def _node(self) -> Node:
        wiring = self._wiring
        return Node(
            driver=self.name,
            pool=self._config.node_name,
            devices=lambda: wiring.store.current.devices,
            names=self.names,
            edits=wiring.described,
            read_claim=lambda ref: read_claim(wiring.api, ref),
            know_holders=self._know_holders,
            told=wiring.told,
        )

    async def _know_holders(self) -> None:
        ledger, source = self._wiring.ledger, self._wiring.source
        if not ledger.answered:
            await source.ask()
        if not ledger.answered:
            raise ClaimError("the kubelet's PodResources API does not tell what pods hold")


def is_elsewhere(usage: Usage, device: Device, children: tuple[DeviceID, ...]) -> bool:
    """Whether pods have the device by the device plugin, or anybody a whole or a part of it."""
    if any(kind != CLAIM for _, kind in usage.of(device.id)):
        return True
    relatives = (*children, *((device.parent,) if device.parent is not None else ()))
    return any(name != RESERVED for other in relatives for name, _ in usage.of(other))


def _boot_id(host: Host) -> str | None:
    try:
        return read_boot_id(host)
    except DevicePluginError:
        return None
