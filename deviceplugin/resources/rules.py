"""Rules: which device is offered in which forms, and under which names; pure.

The first rule that fits a device decides; a device that no rule fits is offered as its vendor
names it. A device whose resource is None is not offered, whatever the rules say.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType

from msgspec import Struct

from deviceplugin.model import Device, DeviceID, Inventory, ResourceName
from deviceplugin.resources.section import MemoryRange, Numbers, Offer, Rule, Texts
from deviceplugin.resources.shares import memory_name
from deviceplugin.schema import parse_bytes

WHOLE = Offer(whole=True)


class Offering(Struct, frozen=True, kw_only=True):
    """A device in one of the forms in which it is offered; `partner` names the other one where
    a container can have both at once, `apis` are those of its rule."""

    device: Device
    name: ResourceName
    offer: Offer
    partner: ResourceName | None = None
    apis: tuple[str, ...] | None = None


_NO_DOMAINS: Mapping[str, str] = MappingProxyType({})


def offerings(
    inventory: Inventory, rules: Sequence[Rule], domains: Mapping[str, str] = _NO_DOMAINS
) -> Iterator[Offering]:
    """Every form of every device that is offered, in an order that only the devices decide.

    `domains` has the domain of the names of memory by vendor; without one it is that of the
    device's own resource.
    """
    taken = [0] * len(rules)
    for device in sorted(inventory.devices.values(), key=_place):
        if device.resource is None:
            continue
        number = _first_fit(device, rules, taken, inventory.devices)
        if number is None:
            yield Offering(device=device, name=device.resource, offer=WHOLE)
            continue
        taken[number] += 1
        yield from _forms(device, rules[number], domains.get(device.vendor))


def rules_that_decide(inventory: Inventory, rules: Sequence[Rule]) -> frozenset[int]:
    """The numbers of the rules that decide about a device."""
    taken, deciding = [0] * len(rules), set()
    for device in sorted(inventory.devices.values(), key=_place):
        number = _first_fit(device, rules, taken, inventory.devices)
        if number is not None:
            taken[number] += device.resource is not None  # `offerings` counts these alone
            deciding.add(number)
    return frozenset(deciding)


def rules_that_fit(inventory: Inventory, rules: Sequence[Rule]) -> frozenset[int]:
    """The numbers of the rules that fit a device, whichever rule decides about it."""
    devices = inventory.devices
    return frozenset(
        number
        for number, rule in enumerate(rules)
        for device in devices.values()
        if _fits(rule, device, devices.get(device.parent) if device.parent else None)
    )


def _place(device: Device) -> tuple[str, int, str]:
    return (device.vendor, -1 if device.index is None else device.index, device.id)


def _first_fit(
    device: Device,
    rules: Sequence[Rule],
    taken: Sequence[int],
    devices: Mapping[DeviceID, Device],
) -> int | None:
    parent = devices.get(device.parent) if device.parent else None
    for number, rule in enumerate(rules):
        full = rule.count is not None and taken[number] >= rule.count
        if not full and _fits(rule, device, parent):
            return number
    return None


def _fits(rule: Rule, device: Device, parent: Device | None) -> bool:
    """A rule is about whole devices unless it speaks of partitions; hiding hides all parts."""
    if not rule.forms:
        return fits(rule, device) or (parent is not None and fits(rule, parent))
    return (device.parent is None or _names_partitions(rule)) and fits(rule, device)


def _names_partitions(rule: Rule) -> bool:
    match = rule.match
    partition = any(":" in str(number) for number in _each(match.index))
    return partition or any(k is not None for k in (match.profile, match.resource, match.uuid))


def fits(rule: Rule, device: Device) -> bool:
    """Whether a device has everything that the rule's `match` asks for; Unknown never fits."""
    match = rule.match
    texts: tuple[tuple[Texts | None, str | None], ...] = (
        (match.vendor, device.vendor),
        (match.product, device.product),
        (match.uuid, device.id),
        (match.pci_address, device.pci_address),
        (match.profile, device.profile),
        (match.driver, device.driver or device.vendor),
        (match.resource, device.resource),
    )
    return (
        all(_text_fits(wanted, found) for wanted, found in texts)
        and _index_fits(match.index, device)
        and _memory_fits(match.memory, device.memory_bytes)
    )


def _text_fits(wanted: Texts | None, found: str | None) -> bool:
    if wanted is None:
        return True
    return found is not None and any(fnmatchcase(found, str(glob)) for glob in _each(wanted))


def _index_fits(wanted: Numbers | None, device: Device) -> bool:
    if wanted is None:
        return True
    place = device.index if device.parent is None else device.ordinal
    return place is not None and str(place) in {str(number) for number in _each(wanted)}


def _memory_fits(wanted: MemoryRange | None, found: int | None) -> bool:
    if wanted is None:
        return True
    if found is None:
        return False
    low, high = (parse_bytes(size) if size else None for size in (wanted.min, wanted.max))
    return (low is None or found >= low) and (high is None or found <= high)


def _each(value: Numbers | None) -> Iterable[int | str]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _forms(device: Device, rule: Rule, domain: str | None) -> Iterator[Offering]:
    """What the rule makes of a device; one that cannot be shared is offered whole."""
    if not rule.forms:
        return
    forms = tuple(offer for offer in rule.forms if offer.whole or device.shareable)
    joined = rule.joined and len(forms) > 1
    namings = _namings(device, (forms[0],) if joined else forms, domain)
    names = [namings(offer) for offer in forms or (WHOLE,)]
    partners = reversed(names) if joined else [None] * len(names)
    for offer, name, partner in zip(forms or (WHOLE,), names, partners, strict=True):
        yield Offering(device=device, name=name, offer=offer, partner=partner, apis=rule.apis)


def _namings(
    device: Device, forms: Sequence[Offer], domain: str | None
) -> Callable[[Offer], ResourceName]:
    """The default names: replicas beside other forms need one of their own."""
    natural = str(device.resource)

    def name(offer: Offer) -> ResourceName:
        if offer.name is not None:
            return ResourceName(offer.name)
        if offer.memory is not None:
            home = domain or natural.partition("/")[0]
            return memory_name(device, home, parse_bytes(offer.memory.unit))
        return ResourceName(f"{natural}.shared" if offer.replicas and len(forms) > 1 else natural)

    return name


def choices_of(offered: Iterable[Offering]) -> Mapping[DeviceID, ResourceName | None]:
    """The devices that are offered in several forms, themselves or with their parts, and the
    form that comes first: None for the parts of a whole that is offered too. Two that are joined
    are one."""
    forms: dict[DeviceID, list[ResourceName]] = {}
    parents: dict[DeviceID, DeviceID] = {}
    for offering in offered:
        names = forms.setdefault(offering.device.id, [])
        if offering.partner not in names:
            names.append(offering.name)
        if offering.device.parent is not None:
            parents[offering.device.id] = offering.device.parent
    split = {parent for parent in parents.values() if parent in forms}
    return {
        device: None if parents.get(device) in split else names[0]
        for device, names in sorted(forms.items())
        if len(names) > 1 or device in split or parents.get(device) in split
    }
