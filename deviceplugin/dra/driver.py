"""One driver: its claims, sockets and slices."""

import time
from collections.abc import Collection, Container, Iterator, Mapping
from functools import partial

from msgspec.structs import replace

from deviceplugin.dra.attributes import Seen, link_groups
from deviceplugin.dra.claims import ClaimError
from deviceplugin.dra.files import ClaimFiles
from deviceplugin.dra.gates import Cluster
from deviceplugin.dra.health import health_lists
from deviceplugin.dra.journal import Entry, Journal
from deviceplugin.dra.names import device_names, driver_of
from deviceplugin.dra.partitions import Placement, placements
from deviceplugin.dra.prepare import Claims
from deviceplugin.dra.publisher import Publisher, read_claim
from deviceplugin.dra.section import DraSection
from deviceplugin.dra.servers import DriverServers, sockets_of
from deviceplugin.dra.settings import OfNode
from deviceplugin.dra.shares import Shares, shares_of
from deviceplugin.dra.slices import Offered, Pool, SlicePlan, plan_slices
from deviceplugin.dra.surroundings import Node
from deviceplugin.dra.wiring import Wiring
from deviceplugin.errors import DevicePluginError
from deviceplugin.host import Host
from deviceplugin.host.boot import read_boot_id
from deviceplugin.host.pci import read_pci_path
from deviceplugin.model import Device, DeviceID, Fault, Inventory
from deviceplugin.resources.section import PLUGIN
from deviceplugin.resources.usage import CLAIM, RESERVED, Usage, children_of
from deviceplugin.runtime.keep import Keeper

FOR_MACHINES = "it is for a virtual machine, a container of a claim could not use it"
GONE = "it is not on the node any more, and a claim holds it"


class Driver:
    """One driver: the devices that it publishes, and what it does with them."""

    def __init__(self, name: str, config: OfNode, section: DraSection, wiring: Wiring) -> None:
        self.name, self._config, self._section, self._wiring = name, config, section, wiring
        self._host = Host(config.host_root)
        self._roots: dict[str, str | None] = {}
        self._groups: tuple[object, Mapping[DeviceID, str]] = (None, {})
        self._seen_last: tuple[object, object, object] = (None, None, None)
        self._names: Mapping[str, Device] = {}
        self._places_of: tuple[object, object] = (None, None)
        self._places: Mapping[str, Placement] = {}
        self._servers: DriverServers | None = None
        self._publisher: Publisher | None = None
        self._publishes = False
        journal = Journal(config.state_dir / "dra" / name, _boot_id(self._host))
        files = ClaimFiles(config.cdi_dir, name)
        self.claims = Claims(self._node(), wiring.ledger, journal, files)
        self._serves = section.enabled
        self.claims.reserves = self._reserves

    @property
    def serving(self) -> bool:
        """Whether its tasks run."""
        return self._servers is not None

    def serve(self, keeper: Keeper) -> None:
        """Begin to serve; raises RegistrationError for a name that makes no socket."""
        sockets = sockets_of(self._config.kubelet_dir, self.name)
        api, store = self._wiring.api, self._wiring.store
        self._publisher = Publisher(self.name, self._config.node_name, self.plan, api)
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

    def end(self) -> None:
        """What claims hold they go on holding, and nothing is kept for others."""
        self._serves = False
        self.claims.hold()

    def _reserves(self, device: Device) -> bool:
        """Whether a device that no claim has is kept for one."""
        cut = self._wiring.partitionable()
        if device.id in cut or device.parent in cut:  # claims alone say what there is of it
            return self._serves
        apis = self._wiring.apis(self._wiring.store.current).get(device.id)
        both = self._section.handover if apis is None else PLUGIN in apis
        return self._serves and not both

    def wake(self) -> None:
        """What is published may have changed."""
        if self._publisher is not None:
            self._publisher.wake()

    def changed(self, version: str) -> None:
        """One of its slices, or any, is of that version now."""
        if self._publisher is not None:
            self._publisher.changed(version)

    def problems(self) -> Iterator[str]:
        """What keeps it from its work."""
        for part in (self._servers, self._publisher):
            if part is not None and part.problem:
                yield part.problem

    def names(self) -> Mapping[str, Device]:
        """The devices that it publishes now, by name."""
        inventory, wiring = self._wiring.store.current, self._wiring
        seen = (inventory.devices, wiring.forms(inventory), wiring.partitionable())
        if not all(one is other for one, other in zip(seen, self._seen_last, strict=True)):
            devices = wiring.published(inventory, self._section)
            ours = [device for device in devices if driver_of(device, self._section) == self.name]
            self._seen_last, self._names = seen, device_names(ours)
        return self._names

    def places(self) -> Mapping[str, Placement]:
        """What those of its devices stand for that have to be made, by name."""
        names, gpus = self.names(), self._wiring.partitionable()
        if self._places_of[0] is not names or self._places_of[1] is not gpus:
            self._places_of = (names, gpus)
            self._places = placements(names, gpus)
        return self._places

    def claimed(self) -> Collection[Entry]:
        """Its claims, of which each says what must be there."""
        return self.claims.standing

    def offered(self) -> tuple[Offered, ...]:
        """Its devices as claims are to see them."""
        inventory, usage = self._wiring.store.current, self._wiring.ledger.usage.value
        parts, gpus = children_of(inventory.devices), self._wiring.partitionable()
        forms = self._wiring.forms(inventory)
        found = [
            Offered(
                name=name,
                device=device,
                seen=self._seen(inventory, device),
                faults=inventory.faults_of(device),
                claimed=self.claims.holds(device.id),
                elsewhere=is_elsewhere(usage, device, parts.get(device.id, ()), gpus),
                gpu=gpus.get(device.id),
                shares=shares_of(device, forms.get(device.id, ())),
                stays=not self._wiring.ours(device),
            )
            for name, device in self.names().items()
        ]
        return (*found, *self._vanished({one.name for one in found}))

    def _vanished(self, names: Container[str]) -> Iterator[Offered]:
        """What a claim holds and is not there any more: it stays until it is given back."""
        devices = self._wiring.store.current.devices
        gone = {
            one.name: one.known
            for entry in self.claims.entries.values()
            for one in entry.devices
            if one.known is not None and one.device not in devices and one.name not in names
        }
        for name, device in sorted(gone.items()):
            seen = self._seen(self._wiring.store.current, device)
            fault = Fault(device=device.id, source="dra", code="gone", reason=GONE)
            yield Offered(name=name, device=device, seen=seen, faults=(fault,), claimed=True)

    def _shared(self, device: Device) -> Shares | None:
        forms = self._wiring.forms(self._wiring.store.current)
        return shares_of(device, forms.get(device.id, ()))

    def plan(self, minor: int, lacking: frozenset[str] = frozenset()) -> SlicePlan:
        """Its slices for an API server of that release, which drops what it is `lacking`."""
        cluster = Cluster(minor=minor, on=frozenset(self._section.gates), lacking=lacking)
        pool = Pool(driver=self.name, node=self._config.node_name, cluster=cluster)
        plan = plan_slices(pool, self.offered())
        return replace(plan, dropped=(*self._for_machines(), *plan.dropped))

    def _for_machines(self) -> Iterator[str]:
        """What the device plugin alone gives, and why."""
        for device in self._wiring.for_machines(self._wiring.store.current, self._section):
            if driver_of(device, self._section) == self.name:
                yield f"device {device.id}: {FOR_MACHINES}"

    def _seen(self, inventory: Inventory, device: Device) -> Seen:
        status = inventory.vendors.get(device.vendor)
        return Seen(
            driver_version=status.driver_version if status else None,
            pcie_root=self._root(device.pci_address),
            link_group=self._group(inventory, device),
            health=inventory.health_of(device),
        )

    def _group(self, inventory: Inventory, device: Device) -> str | None:
        if self._groups[0] is not inventory.devices:
            self._groups = (inventory.devices, link_groups(inventory.devices))
        return self._groups[1].get(device.id)

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
            shared=self._shared,
            places=self.places,
            gpus=wiring.partitionable,
            ours=wiring.ours,
            fit=wiring.fit,
            left=wiring.left,
            edits=wiring.described,
            read_claim=lambda ref: read_claim(wiring.api, ref),
            know_holders=self._know_holders,
            now=wiring.now,
            told=wiring.told,
            limited=partial(wiring.limited, self.name),
        )

    async def _know_holders(self) -> None:
        ledger, source = self._wiring.ledger, self._wiring.source
        if not ledger.answered:
            await source.ask()
        if not ledger.answered:
            raise ClaimError("the kubelet's PodResources API does not tell what pods hold")


def is_elsewhere(
    usage: Usage,
    device: Device,
    children: tuple[DeviceID, ...],
    cut: Container[DeviceID | None] = (),
) -> bool:
    """Whether pods have the device by the device plugin, or anybody a whole or a part of it.

    Of GPUs that are `cut` for claims the counters say what is left beside those of claims.
    """
    if any(kind != CLAIM for _, kind in usage.of(device.id)):
        return True
    if device.id in cut:
        return False
    if device.parent in cut and device.parent is not None:
        return any(kind != CLAIM for _, kind in usage.of(device.parent))
    relatives = (*children, *((device.parent,) if device.parent is not None else ()))
    return any(name != RESERVED for other in relatives for name, _ in usage.of(other))


def _boot_id(host: Host) -> str | None:
    try:
        return read_boot_id(host)
    except DevicePluginError:
        return None
