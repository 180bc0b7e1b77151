"""Ids that stay listed although their device is gone, because a pod may still hold them.

Removing an id that is held, or that an Allocate in flight names, can crash the kubelet
(devicemanager, allocateContainerResources and generateDeviceTopologyHints). There is no word from
the kubelet that a device was released: an id is let go when two PodResources answers in a row show
no holder and no Allocate named it lately, since a running init container is not in that answer.
The ledger, whose claims count as holders here, may free an id sooner: its mistake costs a refusal.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.resources.ledger import MISSING_ANSWERS, QUIET_S, Holders
from deviceplugin.resources.plan import Resources, with_tombstones
from deviceplugin.resources.usage import Key


class Retention:
    """Remembers what was listed, and lets ids go when nobody can hold them any more.

    `busy_since(resource, id)` tells when an id was last named by an Allocate, in seconds before
    now: 0 while one runs, None if never.
    """

    def __init__(self, busy_since: Callable[[ResourceName, AdvertisedID], float | None]) -> None:
        self._busy_since = busy_since
        self._listed: Resources = {}
        self._gone: dict[Key, AdvertisedDevice] = {}
        self._unheld: dict[Key, int] = {}
        self._holders: Holders = {}

    @property
    def waiting(self) -> bool:
        """Whether any id waits to be let go."""
        return bool(self._gone)

    def apply(self, planned: Resources) -> Resources:
        """What to list: the plan, and Unhealthy what it no longer has but a pod may hold."""
        planned_ids = {name: _ids(resource) for name, resource in planned.items()}
        for resource in self._listed.values():
            there = planned_ids.get(resource.name, frozenset())
            for entry in resource.devices:
                if entry.id not in there:
                    self._gone.setdefault((resource.name, entry.id), entry)
        self._bury_held(planned_ids)
        for key in [k for k in self._gone if k[1] in planned_ids.get(k[0], frozenset())]:
            self._forget(key)
        self._listed = with_tombstones(planned, self._graves(planned))
        return self._listed

    def observe(self, holders: Holders) -> None:
        """Take one PodResources answer into account, ids held since before our time included."""
        self._holders = holders
        self._bury_held({name: _ids(resource) for name, resource in self._listed.items()})
        for key in list(self._gone):
            held_now = key[1] in holders.get(key[0], {})
            self._unheld[key] = 0 if held_now else self._unheld.get(key, 0) + 1
            if self._unheld[key] >= MISSING_ANSWERS and self._quiet(key):
                self._let_go(key)

    def _bury_held(self, there: Mapping[ResourceName, frozenset[AdvertisedID]]) -> None:
        """What pods hold of resources that are `there`, and is not: the kubelet may have told of
        it before the resource was first planned."""
        for name in there.keys() & self._holders.keys():
            held = self._holders[name]
            for device_id in held.keys() - there[name]:
                self._gone.setdefault((name, device_id), _unknown(device_id, held[device_id]))

    def _quiet(self, key: Key) -> bool:
        ago_s = self._busy_since(*key)
        return ago_s is None or ago_s >= QUIET_S

    def _let_go(self, key: Key) -> None:
        self._forget(key)
        resource = self._listed.get(key[0])
        if resource is not None:
            left = tuple(entry for entry in resource.devices if entry.id != key[1])
            self._listed = dict(self._listed) | {key[0]: replace(resource, devices=left)}

    def _forget(self, key: Key) -> None:
        self._gone.pop(key)
        self._unheld.pop(key, None)

    def _graves(self, planned: Resources) -> Mapping[ResourceName, Resource]:
        graves: dict[ResourceName, Resource] = {}
        for (name, _), entry in sorted(self._gone.items()):
            template = planned.get(name) or self._listed[name]
            grave = graves.get(name, replace(template, devices=()))
            graves[name] = replace(grave, devices=(*grave.devices, entry))
        return graves


def _ids(resource: Resource) -> frozenset[AdvertisedID]:
    return frozenset(entry.id for entry in resource.devices)


def _unknown(device_id: AdvertisedID, numa_node: int | None) -> AdvertisedDevice:
    """An id that a pod holds since before our time, as the kubelet has it."""
    return AdvertisedDevice(
        id=device_id, device=DeviceID(device_id), health=Health.UNHEALTHY, numa_node=numa_node
    )
