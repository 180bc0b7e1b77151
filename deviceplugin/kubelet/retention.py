"""What is listed to the kubelet: the plan, and the ids that a pod may still hold.

Removing an id that is held, or that an Allocate in flight names, can crash the kubelet
(devicemanager, allocateContainerResources and generateDeviceTopologyHints), so an id stays listed
as a tombstone. The kubelet does not tell that a device was released: an id is let go when in two
PodResources replies in a row the ledger did not have it and no Allocate named it lately, since a
running init container is not in those replies. The ledger may free an id sooner: where that is
wrong one Allocate is refused and tried again; where this is wrong the kubelet crashes.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.resources.ledger import MISSING_ANSWERS, QUIET_S, Ledger
from deviceplugin.resources.lists import Entries, changed_entries
from deviceplugin.resources.plan import Resources
from deviceplugin.resources.usage import Key
from deviceplugin.runtime.latest import Latest

Ids = frozenset[AdvertisedID]


class Retention:
    """Keeps `listed` true to the plan and to what pods may hold; changed on the loop only."""

    def __init__(self, ledger: Ledger) -> None:
        self.listed: Latest[Resources] = Latest({})
        self._ledger = ledger
        self._planned: Resources = {}
        self._listed: Resources = {}
        self._tombstones: dict[Key, AdvertisedDevice] = {}
        self._unheld: dict[Key, int] = {}
        self._known_ids: Mapping[ResourceName, tuple[Entries, Ids]] = {}

    @property
    def waiting(self) -> bool:
        """Whether any id waits to be let go."""
        return bool(self._tombstones)

    @property
    def kept(self) -> Mapping[ResourceName, int]:
        """How many ids of each resource are listed although they are gone."""
        return Counter(name for name, _ in self._tombstones)

    def apply(self, planned: Resources) -> None:
        """List the plan, and Unhealthy what it no longer has but a pod may hold."""
        self._planned = planned
        planned_ids = self._ids_of(planned)
        listed_ids = self._ids_of(self._listed)
        for resource in self._listed.values():
            gone = listed_ids[resource.name] - planned_ids.get(resource.name, frozenset())
            for entry in resource.devices if gone else ():
                if entry.id in gone:
                    self._tombstones.setdefault((resource.name, entry.id), entry)
        self._known_ids = {n: (planned[n].devices, ids) for n, ids in planned_ids.items()}
        self._add_held(planned_ids)
        for key in [k for k in self._tombstones if k[1] in planned_ids.get(k[0], frozenset())]:
            self._forget(key)
        self._list()

    def observe(self) -> None:
        """Take one reply that the ledger has taken into account, ids held since before our time
        included."""
        was_waiting = self.waiting
        self._add_held(self._ids_of(self._listed))
        for key in list(self._tombstones):
            self._unheld[key] = 0 if self._ledger.is_held(key) else self._unheld.get(key, 0) + 1
            if self._unheld[key] >= MISSING_ANSWERS and not self._ledger.is_held(key, QUIET_S):
                self._forget(key)
        if was_waiting or self.waiting:
            self._list()

    def _list(self) -> None:
        listed = with_tombstones(self._planned, self._by_resource())
        self._listed = _as_before(listed, self._listed)
        self.listed.set(self._listed)

    def _add_held(self, there: Mapping[ResourceName, frozenset[AdvertisedID]]) -> None:
        """What pods hold of resources that are `there`, and is not: the kubelet may have told of
        it before the resource was first planned."""
        held = self._ledger.holders
        for name in there.keys() & held.keys():
            for advertised in held[name] - there[name]:
                tombstone = _unknown(advertised, self._ledger.entries[name, advertised].numa_node)
                self._tombstones.setdefault((name, advertised), tombstone)

    def _ids_of(self, resources: Resources) -> Mapping[ResourceName, Ids]:
        """The ids of each resource; those of a list that differs in other things are known."""
        nothing: tuple[Entries, Ids] = ((), frozenset())
        return {
            name: _ids(resource, *self._known_ids.get(name, nothing))
            for name, resource in resources.items()
        }

    def _forget(self, key: Key) -> None:
        self._tombstones.pop(key)
        self._unheld.pop(key, None)

    def _by_resource(self) -> Mapping[ResourceName, Resource]:
        """The tombstones, each resource's as a resource of their own."""
        found: dict[ResourceName, list[AdvertisedDevice]] = {}
        for (name, _), entry in sorted(self._tombstones.items()):
            found.setdefault(name, []).append(entry)
        return {
            name: replace(self._planned.get(name) or self._listed[name], devices=tuple(entries))
            for name, entries in found.items()
        }


def _as_before(listed: Resources, before: Resources) -> Resources:
    """The very objects of before where they are equal: who serves a resource and who has prepared
    its placement know by identity that they mean the same list."""
    return MappingProxyType(
        {name: before[name] if before.get(name) == r else r for name, r in listed.items()}
    )


def _ids(resource: Resource, known: Entries, ids: Ids) -> Ids:
    """The ids of a resource, `ids` itself where they are those of the entries `known`."""
    if changed_entries(resource.devices, known) is not None:
        return ids
    return frozenset([entry.id for entry in resource.devices])


def _unknown(device_id: AdvertisedID, numa_node: int | None) -> AdvertisedDevice:
    """An id that a pod holds since before our time, as the kubelet has it."""
    return AdvertisedDevice(
        id=device_id, device=DeviceID(device_id), health=Health.UNHEALTHY, numa_node=numa_node
    )


def with_tombstones(planned: Resources, gone: Mapping[ResourceName, Resource]) -> Resources:
    """`planned` with the ids of `gone`, which a pod may still hold, listed Unhealthy.

    An id that is a tombstone of one resource is listed by no other of its vendor: ids are unique
    node-wide, and another vendor's device of that id is another device.
    """
    if not gone:
        return planned
    buried: dict[str, set[AdvertisedID]] = {}
    for resource in gone.values():
        buried.setdefault(resource.vendor, set()).update(e.id for e in resource.devices)
    merged = {name: _without(r, buried.get(r.vendor, set())) for name, r in planned.items()}
    for name, resource in gone.items():
        base = merged.get(name, replace(resource, devices=()))
        dead = tuple(replace(e, health=Health.UNHEALTHY) for e in resource.devices)
        merged[name] = replace(base, devices=tuple(sorted(base.devices + dead, key=_entry_id)))
    return MappingProxyType(dict(sorted(merged.items())))


def _without(resource: Resource, ids: set[AdvertisedID]) -> Resource:
    if ids.isdisjoint(entry.id for entry in resource.devices):
        return resource
    return replace(resource, devices=tuple(e for e in resource.devices if e.id not in ids))


def _entry_id(entry: AdvertisedDevice) -> AdvertisedID:
    return entry.id
