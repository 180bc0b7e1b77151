"""Joined resources: a container that asks for replicas and memory gets both of one device.

The kubelet allocates the resources of a container one after the other, in any order, and in a
single loop (devicemanager, allocateContainerResources), so that nothing of another container comes
between. Which container it is it does not say: what was given of one resource last, and has not
met its partner yet, is of the container that is now given something of the partner.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Preference,
    Resource,
    ResourceName,
)
from deviceplugin.resources.plan import Resources
from deviceplugin.resources.shares import noun_text

PAIR_S = 2.0  # from one Allocate of a container to its next: milliseconds, more where CPU is short
Holders = Mapping[ResourceName, Collection[AdvertisedID]]
Container = tuple[str, str, str]
Containers = Mapping[Container, frozenset[DeviceID]]
Held = tuple[Container, ResourceName, DeviceID]


class Half(Struct, frozen=True, kw_only=True):
    """What was given of a joined resource, when (monotonic seconds), and nothing of its partner."""

    resource: ResourceName
    devices: frozenset[DeviceID]
    since_s: float


class Pairs:
    """Matches the allocations of joined resources; changed on the loop only.

    `resources` are those that are listed, `holders` has the ids in use; `now` is monotonic.
    """

    def __init__(
        self,
        now: Callable[[], float],
        resources: Callable[[], Resources],
        holders: Callable[[], Holders],
    ) -> None:
        self._now, self._resources, self._holders = now, resources, holders
        self._half: Half | None = None

    def check(self, resource: Resource, entries: Sequence[AdvertisedDevice]) -> None:
        """Raise AllocationError where a container would get memory of a device that it has no
        replica of."""
        half = self._open(resource)
        if half is None or _fits(resource, entries, half):
            return
        self._half = None
        noun, size = noun_text(resource), len(entries)
        here, there = min(half.devices), min(entry.device for entry in entries)
        raise AllocationError(
            Refusal.PAIR,
            f"{resource.name}: the container has {half.resource} of {noun} {here}, and {size} of"
            f" {resource.name} would be of {noun} {there}: {here} has not enough free",
        )

    def given(self, resource: Resource, entries: Iterable[AdvertisedDevice]) -> None:
        """A container was given the entries."""
        if resource.partner is None:
            return
        devices = frozenset(entry.device for entry in entries)
        half = Half(resource=resource.name, devices=devices, since_s=self._now())
        self._half = None if self._open(resource) else half

    def refused(self, resource: Resource) -> None:
        """A container was not given what it asked for: then it does not keep the other half."""
        if self._open(resource):
            self._half = None

    def narrowed(self, resource: Resource, preference: Preference) -> Preference:
        """The question, with those ids alone with which the container can get its other half.

        Where they are too few it is the same question: the ids that are chosen are checked again.
        """
        if resource.partner is None:
            return preference
        half = self._open(resource)
        devices = half.devices if half else self._promising(resource, preference)
        on = {e.id for e in resource.devices if e.device in devices}
        available = preference.available & on
        if len(available) < preference.size or not preference.must_include <= available:
            return preference
        return replace(preference, available=available)

    def _open(self, resource: Resource) -> Half | None:
        """What the container that is given something of `resource` has of its partner."""
        half = self._half
        if half is None or half.resource != resource.partner:
            return None
        return half if self._now() - half.since_s < PAIR_S else None

    def _promising(self, resource: Resource, preference: Preference) -> Collection[DeviceID]:
        """The devices with most of the partner free: how much of it comes next is not known.

        Of replicas, or for several devices at once, one that is free is enough.
        """
        free = self._free(resource.partner)
        few = preference.size > 1 or not _is_replicas(resource)
        devices = {e.device for e in resource.devices if e.id in preference.available}
        most = max((free.get(device, 0) for device in devices), default=0)
        return {device for device in devices if free.get(device, 0) >= (1 if few else most)}

    def _free(self, name: ResourceName | None) -> Mapping[DeviceID, int]:
        partner = self._resources().get(name) if name else None
        held = self._holders().get(name, ()) if name else ()
        free: dict[DeviceID, int] = {}
        for entry in partner.devices if partner else ():
            if entry.health is Health.HEALTHY and entry.id not in held:
                free[entry.device] = free.get(entry.device, 0) + 1
        return free


def _fits(resource: Resource, entries: Iterable[AdvertisedDevice], half: Half) -> bool:
    """Memory is of devices of which the container has a replica."""
    devices = frozenset(entry.device for entry in entries)
    return half.devices <= devices if _is_replicas(resource) else devices <= half.devices


def _is_replicas(resource: Resource) -> bool:
    return not any(entry.share and entry.share.unit_bytes for entry in resource.devices)


def splits(held: Iterable[Held], resources: Resources) -> Mapping[Container, str]:
    """The containers that have joined resources of different devices, and which: not by way of
    `Pairs.check`, but where an allocation of before was taken for one of theirs."""
    found: dict[Container, dict[ResourceName, set[DeviceID]]] = {}
    for container, name, device in held:
        if name in resources and resources[name].partner is not None:
            found.setdefault(container, {}).setdefault(name, set()).add(device)
    return {
        container: ", ".join(f"{n} of {min(devices)}" for n, devices in sorted(parts.items()))
        for container, parts in found.items()
        if len(parts) > 1 and not set.intersection(*parts.values())
    }


def containers_of(held: Iterable[tuple[Container, ResourceName, DeviceID]]) -> Containers:
    """The devices of each container, of all its resources together."""
    found: dict[Container, set[DeviceID]] = {}
    for container, _, device in held:
        found.setdefault(container, set()).add(device)
    return {container: frozenset(devices) for container, devices in found.items()}
