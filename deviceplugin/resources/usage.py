"""One GPU in several forms: the form that pods hold keeps the others away; pure."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.model import AdvertisedID, Device, DeviceID, ResourceName
from deviceplugin.resources.shares import Meaning

Key = tuple[ResourceName, AdvertisedID]
# What each held id stands for, as `resources.ids` looks it up.
Meanings = Mapping[Key, tuple[Meaning, ...]]
# A resource and the kind of its ids: a resource that was of whole GPUs may now be of replicas.
Form = tuple[ResourceName, str]
Held = frozenset[AdvertisedID]
# Devices that are held beside the ids of resources, and what is said of their holders. The text
# stands where a resource's name does: `in_use_as claim default/train`.
Claims = Mapping[DeviceID, tuple[ResourceName, ...]]
CLAIM = "claim"
# A device that the device plugin lists and does not give: claims alone have it.
RESERVED = ResourceName("dra")
# A device that a test uses: nobody is given it.
TESTED = ResourceName("active test")
_CLAIMED = f"{CLAIM} "
_NONE: Mapping[Form, Held] = MappingProxyType({})


def claim_name(namespace: str, name: str) -> ResourceName:
    """What a claim is called where a resource's name stands."""
    return ResourceName(f"{_CLAIMED}{namespace}/{name}")


def kind_of(name: ResourceName) -> ResourceName:
    """The resource, and of all claims one word: there are new ones all the time."""
    return ResourceName(CLAIM) if name.startswith(_CLAIMED) else name


class Usage(Struct, frozen=True):
    """Which ids pods hold of each device, by form; `unlisted` are those that were given to a
    container which no reply of the kubelet has shown yet."""

    held: Mapping[DeviceID, Mapping[Form, Held]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    unlisted: frozenset[Key] = frozenset()

    def of(self, device: DeviceID) -> Mapping[Form, Held]:
        """The forms in which the device is held."""
        return self.held.get(device, _NONE)

    @property
    def tested(self) -> frozenset[DeviceID]:
        """The devices that a test uses."""
        return frozenset(d for d, forms in self.held.items() if any(f[0] == TESTED for f in forms))

    def ids(self, device: DeviceID, form: Form) -> Held:
        """The ids that are held of a device in one form."""
        return self.of(device).get(form, frozenset())

    def kept(self, device: DeviceID, form: Form) -> Held:
        """The ids that stay usable whatever else is held of the device: a container is known to
        have them, and the kubelet would kill its pod if they were Unhealthy."""
        held = self.ids(device, form)
        return held and frozenset(i for i in held if (form[0], i) not in self.unlisted)


NOTHING_USED = Usage()


def usage_of(meanings: Meanings, unlisted: frozenset[Key] = frozenset()) -> Usage:
    """The usage that held ids make."""
    held: dict[DeviceID, dict[Form, set[AdvertisedID]]] = {}
    for (name, advertised), meant in meanings.items():
        for device, kind in meant:
            held.setdefault(device, {}).setdefault((name, kind), set()).add(advertised)
    return Usage(
        MappingProxyType(
            {
                device: MappingProxyType({form: frozenset(ids) for form, ids in forms.items()})
                for device, forms in held.items()
            }
        ),
        unlisted,
    )


def with_keys(usage: Usage, meanings: Meanings, unlisted: frozenset[Key] = frozenset()) -> Usage:
    """The usage with more held ids; of devices that they are not of nothing is copied."""
    held = dict(usage.held)
    for (name, advertised), meant in meanings.items():
        for device, kind in meant:
            forms = dict(held.get(device, _NONE))
            forms[name, kind] = forms.get((name, kind), frozenset()) | {advertised}
            held[device] = MappingProxyType(forms)
    return Usage(MappingProxyType(held), unlisted)


def with_claims(usage: Usage, sources: Iterable[Claims]) -> Usage:
    """The usage with what claims hold, each a form of its own that keeps all others away."""
    sources = tuple(filter(None, sources))
    if not sources:
        return usage
    held = dict(usage.held)
    for claims in sources:
        for device, holders in claims.items():
            forms = {(name, CLAIM): frozenset({AdvertisedID(device)}) for name in holders}
            held[device] = MappingProxyType({**held.get(device, _NONE), **forms})
    return Usage(MappingProxyType(held), usage.unlisted)


def children_of(devices: Mapping[DeviceID, Device]) -> Mapping[DeviceID, tuple[DeviceID, ...]]:
    """The parts of each whole."""
    found: dict[DeviceID, tuple[DeviceID, ...]] = {}
    for device in devices.values():
        if device.parent is not None:
            found[device.parent] = (*found.get(device.parent, ()), device.id)
    return found


def in_use_as(
    usage: Usage,
    device: Device,
    form: Form,
    children: Iterable[DeviceID],
    partner: ResourceName | None = None,
) -> ResourceName | None:
    """The resource as which the device is held, where that keeps `form` away; else None.

    Another form of the device itself does, but not that of the `partner` with which it is joined,
    and any form of the whole that it is a part of or of a part of it. Then only what
    `Usage.kept` has of `form` is left: what is listed and what is allocated both go by it.
    """
    relatives = (*((device.parent,) if device.parent else ()), *children)
    others = [other for other in usage.of(device.id) if other != form and other[0] != partner]
    others += [other for relative in relatives for other in usage.of(relative)]
    return min(others)[0] if others else None
