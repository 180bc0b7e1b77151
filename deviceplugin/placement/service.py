"""Which devices a container should get: keeps what policies need to know ready before the call."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import ConfigError
from deviceplugin.files.reading import read_own
from deviceplugin.host import Host
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Inventory,
    Preference,
    Resource,
    ResourceName,
)
from deviceplugin.placement.large import prefer_large
from deviceplugin.placement.layout import Layout, layout_after, layout_of, loads_of
from deviceplugin.placement.narrow import narrow
from deviceplugin.placement.pci_topology import declared_problems, order_of, read_pci_topology
from deviceplugin.placement.policies import last_handed_out
from deviceplugin.placement.prefer import BUILT_IN, READERS, default_policy, prefer
from deviceplugin.placement.registry import configured_policies, load_policy
from deviceplugin.placement.section import (
    GpuNode,
    SchedulingSection,
    node_of,
    scheduling_of,
)
from deviceplugin.placement.topology import PciTopology, Topology, topology_of
from deviceplugin.placement.view import Context, Policy
from deviceplugin.resources.large import LargeQuestion
from deviceplugin.resources.plan import Resources
from deviceplugin.runtime.files import write_atomically
from deviceplugin.runtime.latest import Latest
from deviceplugin.vendor import Reading, Sections

log = structlog.get_logger()

STATE_FILE = "placement.json"
MAX_STATE_BYTES = 1 << 20
Holders = Mapping[ResourceName, Collection[AdvertisedID]]
Turns = Mapping[ResourceName, DeviceID]
_WITHOUT_TURNS = BUILT_IN.keys() - {"round_robin"}
_NOBODY: Holders = MappingProxyType({})
_NO_READINGS: Mapping[DeviceID, Reading] = MappingProxyType({})


class Settings(Struct, frozen=True, kw_only=True):
    """What the configuration says: `policy` for the node, and every policy it names, loaded."""

    policy: str | None
    policies: Mapping[str, Policy]
    scheduling: SchedulingSection
    declared: GpuNode | None


def settings_of(sections: Sections, node_name: str) -> Settings:
    """The settings of this node; its entry in `gpu_nodes` wins over the general section.

    Raises ConfigError for a policy that cannot be had.
    """
    scheduling, node = scheduling_of(sections), node_of(sections, node_name)
    return Settings(
        policy=(node.scheduling_policy if node else None) or scheduling.policy,
        policies=configured_policies(sections),
        scheduling=scheduling,
        declared=node,
    )


class Sources(Struct, frozen=True, kw_only=True):
    """Who else knows something: which ids pods hold, and what telemetry last measured."""

    holders: Callable[[], Holders] = lambda: _NOBODY
    readings: Callable[[], Mapping[DeviceID, Reading]] = lambda: _NO_READINGS


class Placement:
    """Answers GetPreferredAllocation from values that are prepared once for each change."""

    def __init__(
        self, host: Host, settings: Settings, state_dir: Path, sources: Sources | None = None
    ) -> None:
        self._host, self._settings = host, settings
        self._policies = dict(settings.policies)
        self._missing: frozenset[str] = frozenset()
        self._sources = sources or Sources()
        self._file = state_dir / STATE_FILE
        self._context = Context()
        self._preparing = asyncio.Lock()
        self._turns: Latest[Turns] = Latest(MappingProxyType({}))
        self._document: Mapping[str, Any] = {}  # what the file held, later versions' keys included
        self._problems: Sequence[str] = ()
        self._held: tuple[object, object, Mapping[DeviceID, int]] = (None, None, {})

    @property
    def context(self) -> Context:
        """Everything that policies know at this moment."""
        return replace(
            self._context,
            loads=self._loads(),
            readings=self._sources.readings(),
            last=self._turns.value,
        )

    def policy_of(self, resource: Resource) -> str:
        """The resource's own policy, else the node's, else the default for its kind."""
        for name in (resource.policy, self._settings.policy):
            if name in self._policies:
                return str(name)
        return default_policy(self._context.layout(resource))

    @property
    def uses_readings(self) -> bool:
        """Whether a policy in force may choose by readings: a third party's may, too."""
        layouts = self._context.layouts.values()
        others = BUILT_IN.keys() - READERS
        return any(self.policy_of(layout.resource) not in others for layout in layouts)

    def prefer(self, resource: Resource, preference: Preference) -> Sequence[AdvertisedID]:
        """Sharing says which ids make sense together, then the resource's policy chooses; changes
        nothing."""
        policy = self._policies[self.policy_of(resource)]
        sensible = narrow(self._context.layout(resource).shared, preference)
        return prefer(resource, sensible, self.context, policy)

    def prefer_large(
        self, resource: Resource, asked: LargeQuestion
    ) -> Sequence[AdvertisedID] | None:
        """The same answer to a question that is not read, None where it has to be."""
        return prefer_large(self._context.layout(resource).shared, asked)

    def handed_out(self, resource: Resource, entries: Sequence[AdvertisedDevice]) -> None:
        """A container got `entries`: the next turn is the GPU's after them.

        Nothing is kept for those of our policies that know no turns.
        """
        if self.policy_of(resource) in _WITHOUT_TURNS:
            return
        layout = self._context.layout(resource)
        given = {layout.gpus[layout.position[e.id]] for e in entries if e.id in layout.position}
        last = last_handed_out(layout.gpus, self._turns.value.get(resource.name), given)
        if last is not None:
            self._turns.set(MappingProxyType(dict(self._turns.value) | {resource.name: last}))

    async def follow(self, inventories: Latest[Inventory], resources: Latest[Resources]) -> None:
        """Prepare for each newest inventory and list, and keep the turns; runs until cancelled."""
        await self.recall()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_inventories(inventories))
            tasks.create_task(self._follow_resources(resources))
            tasks.create_task(self._write_turns())

    async def recall(self) -> None:
        """Take over the turns of a former run; what was handed out since counts more."""
        former, self._document = await asyncio.to_thread(read_turns, self._file)
        self._turns.set(MappingProxyType(former | dict(self._turns.value)))

    async def look(self, inventory: Inventory) -> None:
        """Prepare the topology of an inventory; reads sysfs, on a thread."""
        nic = self._settings.scheduling.proximity_to
        async with self._preparing:
            pci = await asyncio.to_thread(read_pci_topology, self._host, inventory, nic)
            topology = await asyncio.to_thread(topology_of, inventory, pci)
            self._log_problems(declared_problems(self._settings.declared, topology), pci)
            if topology != self._context.topology:
                known = [layout.resource for layout in self._context.layouts.values()]
                await self._prepare(topology, known)

    async def lay_out(self, resources: Sequence[Resource]) -> None:
        """Prepare the layouts of the resources; those that have not changed are kept."""
        async with self._preparing:
            await self._load_policies(resources)
            await self._prepare(self._context.topology, resources)

    async def _load_policies(self, resources: Sequence[Resource]) -> None:
        """Have the policies that vendors ask for in code too; the configuration's are there.

        One that cannot be had is logged once, and the node's or the default is used.
        """
        wanted = {r.policy: r for r in resources if r.policy and r.policy not in self._policies}
        for name in sorted(wanted.keys() - self._missing):
            try:
                self._policies[name] = await asyncio.to_thread(load_policy, name, "policy")
            except ConfigError as error:
                device = self._asking(wanted[name])
                log.warning("placement_configuration", device=device, reason=str(error))
        self._missing = frozenset(wanted.keys() - self._policies.keys())

    def _asking(self, resource: Resource) -> DeviceID:
        """A device that asks for the policy of its resource."""
        devices, ids = self._context.topology.devices, [e.device for e in resource.devices]
        asking = (i for i in ids if i in devices and devices[i].policy == resource.policy)
        return next(asking, ids[0])

    async def _prepare(self, topology: Topology, resources: Sequence[Resource]) -> None:
        before = self._context.layouts
        layouts = await asyncio.to_thread(_layouts, resources, topology, before)
        order = order_of(topology, self._settings.scheduling.selectors)
        self._context = Context(topology=topology, layouts=layouts, order=order)

    async def _follow_inventories(self, inventories: Latest[Inventory]) -> None:
        async for inventory in inventories.changes():
            await self.look(inventory)

    async def _follow_resources(self, resources: Latest[Resources]) -> None:
        async for listed in resources.changes():
            await self.lay_out(list(listed.values()))

    async def _write_turns(self) -> None:
        async for turns in self._turns.changes():
            content = {**self._document, "handed_out": dict(sorted(turns.items()))}
            document = json.dumps(content, indent=1)
            try:
                if turns:
                    await asyncio.to_thread(write_atomically, self._file, document.encode())
            except OSError as error:  # a full disk must not stop the preparation beside it
                log.warning("state_not_written", file=str(self._file), reason=str(error))

    def _loads(self) -> Mapping[DeviceID, int]:
        """What the ledger's holders amount to, counted again only when something changed."""
        held, layouts = self._sources.holders(), self._context.layouts
        if self._held[0] is not held or self._held[1] is not layouts:
            self._held = (held, layouts, loads_of(held, layouts))
        return self._held[2]

    def _log_problems(self, problems: Sequence[str], pci: PciTopology) -> None:
        if self._settings.scheduling.proximity_to and pci.nic is None:
            problems = (
                *problems,
                f"scheduling.proximity_to: no {self._settings.scheduling.proximity_to}",
            )
        for problem in problems:
            if problem not in self._problems:
                log.warning("placement_configuration", reason=problem)
        self._problems = problems


def _layouts(
    resources: Sequence[Resource], topology: Topology, before: Mapping[ResourceName, Layout]
) -> Mapping[ResourceName, Layout]:
    return MappingProxyType({r.name: _layout(r, topology, before.get(r.name)) for r in resources})


def _layout(resource: Resource, topology: Topology, before: Layout | None) -> Layout:
    """What is prepared already where it still holds."""
    if before is None or before.topology is not topology:
        return layout_of(resource, topology)
    if before.resource is resource:
        return before
    return layout_after(before, resource) or layout_of(resource, topology)


def read_turns(path: Path) -> tuple[dict[ResourceName, DeviceID], Mapping[str, Any]]:
    """The GPU of each resource that was handed out last, and the whole document of the file, whose
    keys of a later version are written back; a damaged file is logged and left alone."""
    try:
        document = json.loads(read_own(path, MAX_STATE_BYTES))
        turns = document["handed_out"].items()
        return {ResourceName(str(name)): DeviceID(str(gpu)) for name, gpu in turns}, document
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.warning("state_ignored", file=str(path), reason=str(error))
        return {}, {}
