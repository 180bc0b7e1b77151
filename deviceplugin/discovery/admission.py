"""What a vendor reports, checked before it is admitted to the inventory; pure.

Vendor modules are plug-ins: one that returns nonsense, or speaks of devices that are not its own,
must cost its own devices only. Where two vendors report one id or one resource name, the earlier in
`order` has it: nobody can tell from the outside which of them is wrong.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.cdi.spec import precedes
from deviceplugin.discovery.values import device_problem, fault_problem, link_problem
from deviceplugin.errors import DiscoveryError
from deviceplugin.health.words import printable
from deviceplugin.model import MAX_NUMA_NODES, CdiSpec, Device, DeviceID, Discovery, Fault
from deviceplugin.names import cdi_kind_problem, cdi_name_problem, one_line

MAX_NOTES, MAX_NOTE = 8, 1000  # characters of one

T = TypeVar("T")


class NotAdmitted(Struct, frozen=True, kw_only=True):
    """A device, or something said of one, that is left out: of which device, and why."""

    device: str
    reason: str


class Admission(Struct, frozen=True, kw_only=True):
    """What a vendor may have of what it reports; `displaced` has what is left to weaker vendors
    that had something of it before."""

    devices: tuple[Device, ...]
    faults: tuple[Fault, ...]
    displaced: Mapping[str, tuple[Device, ...]]
    refused: tuple[NotAdmitted, ...]


def checked(vendor: str, found: object) -> tuple[Discovery, tuple[NotAdmitted, ...]]:
    """A discovery without what is not a device of the vendor or a fault, and what was left out.

    Raises DiscoveryError where it is not a Discovery at all.
    """
    if not isinstance(found, Discovery):
        raise DiscoveryError(f"discover() gave {type(found).__name__}, not a Discovery")
    refused: list[NotAdmitted] = []
    mine = _each(found.devices, lambda device: device_problem(vendor, device), refused)
    devices = map(_printable_product, mine)
    kept = _related([_with_numa(d, refused) for d in _distinct(devices, refused)], refused)
    own = _each(found.faults, lambda fault: fault_problem(fault, vendor), refused)
    checked_one = Discovery(
        devices=kept,
        faults=tuple(map(printable, own)),
        driver_version=_text_or_none(found.driver_version),
        library_version=_text_or_none(found.library_version),
        notes=_notes(found.notes),
    )
    return checked_one, tuple(refused)


def checked_specs(found: object) -> tuple[tuple[CdiSpec, ...], tuple[NotAdmitted, ...]]:
    """The CDI files of a vendor without those that no runtime would read, and what was left out.

    Raises DiscoveryError where they are not a sequence of CdiSpec.
    """
    if not isinstance(found, Sequence) or not all(isinstance(spec, CdiSpec) for spec in found):
        raise DiscoveryError(f"cdi_specs() gave {repr(found)[:60]}, not CdiSpecs")
    refused: list[NotAdmitted] = []
    specs: list[CdiSpec] = []
    for spec in found:
        if problem := cdi_kind_problem(spec.kind):
            reason = f"the CDI kind {spec.kind[:80]!r} cannot be used: {problem}"
            refused.append(NotAdmitted(device=one_line(spec.kind, 80), reason=reason))
        else:
            specs.append(_with_names(spec, refused))
    return tuple(specs), tuple(refused)


def admitted(
    vendor: str, found: Discovery, others: Iterable[Device], order: Sequence[str]
) -> Admission:
    """What `vendor` may have of its discovery beside the devices of the other vendors.

    A device under an id of another vendor is refused, one under a resource name of another is
    known and not advertised; a vendor that comes after this one in `order` gives way instead. A
    fault of another vendor's device is refused.
    """
    others = tuple(other for other in others if other.vendor != vendor)
    weaker = {o.vendor for o in others if precedes(vendor, o.vendor, order)}
    stronger = [other for other in others if other.vendor not in weaker]
    ids: dict[str, str] = {other.id: other.vendor for other in stronger}
    names: dict[str, str] = {o.resource: o.vendor for o in stronger if o.resource}
    kept, refused = _yielding(found.devices, ids, names)
    faults, foreign = _own_faults(found.faults, ids)
    mine: set[str] = {device.id for device in kept}
    my_names: set[str] = {device.resource for device in kept if device.resource}
    displaced = {
        name: tuple(d for d in others if d.vendor == name and _apart(d, mine, my_names))
        for name in sorted(weaker)
        if any(d.vendor == name and not _apart(d, mine, my_names) for d in others)
    }
    return Admission(devices=kept, faults=faults, displaced=displaced, refused=(*refused, *foreign))


def _own_faults(
    faults: Iterable[Fault], ids: Mapping[str, str]
) -> tuple[tuple[Fault, ...], tuple[NotAdmitted, ...]]:
    """The faults without those of devices in `ids`, which are other vendors'."""
    faults = tuple(faults)
    refused = tuple(
        NotAdmitted(
            device=fault.device,
            reason=f"a fault ({fault.source}) of a device of vendor {ids[fault.device]}",
        )
        for fault in faults
        if fault.device in ids
    )
    return tuple(fault for fault in faults if fault.device not in ids), refused


def _yielding(
    devices: Sequence[Device], ids: Mapping[str, str], names: Mapping[str, str]
) -> tuple[tuple[Device, ...], tuple[NotAdmitted, ...]]:
    kept, refused = [], []
    for device in devices:
        if device.id in ids:
            reason = f"the id is that of a device of vendor {ids[device.id]}"
            refused.append(NotAdmitted(device=device.id, reason=reason))
        elif device.resource is not None and device.resource in names:
            reason = f"the resource {device.resource} is that of vendor {names[device.resource]}"
            refused.append(NotAdmitted(device=device.id, reason=reason))
            kept.append(replace(device, resource=None))
        else:
            kept.append(device)
    return tuple(kept), tuple(refused)


def _apart(device: Device, ids: set[str], names: set[str]) -> bool:
    return device.id not in ids and device.resource not in names


def _each(
    items: Iterable[T], problem_of: Callable[[T], str | None], refused: list[NotAdmitted]
) -> Iterator[T]:
    for item in items:
        if problem := problem_of(item):
            refused.append(NotAdmitted(device=_name_of(item), reason=problem))
        else:
            yield item


def _distinct(devices: Iterable[Device], refused: list[NotAdmitted]) -> tuple[Device, ...]:
    """An id that two devices have identifies neither of them."""
    devices = tuple(devices)
    counted = Counter(device.id for device in devices)
    for device_id, count in counted.items():
        if count > 1:
            refused.append(NotAdmitted(device=device_id, reason=f"{count} devices have this id"))
    return tuple(device for device in devices if counted[device.id] == 1)


def _with_numa(device: Device, refused: list[NotAdmitted]) -> Device:
    """The kernel's -1 is no NUMA node; the device is none the worse for it."""
    if device.numa_node is None or 0 <= device.numa_node < MAX_NUMA_NODES:
        return device
    reason = f"NUMA node {device.numa_node} is taken as unknown"
    refused.append(NotAdmitted(device=device.id, reason=reason))
    return replace(device, numa_node=None)


def _related(devices: Sequence[Device], refused: list[NotAdmitted]) -> tuple[Device, ...]:
    """The devices without links to, and parents among, what is not of this discovery."""
    ids = {device.id for device in devices}
    return tuple(
        _with_links(_with_parent(device, ids, refused), ids, refused) for device in devices
    )


def _with_parent(device: Device, ids: set[DeviceID], refused: list[NotAdmitted]) -> Device:
    if device.parent is None or (device.parent in ids and device.parent != device.id):
        return device
    what = "itself" if device.parent == device.id else "not a device of this vendor"
    reason = f"its parent {device.parent[:80]!r} is {what}"
    refused.append(NotAdmitted(device=device.id, reason=reason))
    return replace(device, parent=None)


def _with_links(device: Device, ids: set[DeviceID], refused: list[NotAdmitted]) -> Device:
    problems = [link_problem(device, link, ids) for link in device.links]
    if not any(problems):
        return device
    refused += [NotAdmitted(device=device.id, reason=p) for p in dict.fromkeys(problems) if p]
    kept = [link for link, problem in zip(device.links, problems, strict=True) if not problem]
    return replace(device, links=tuple(kept))


def _with_names(spec: CdiSpec, refused: list[NotAdmitted]) -> CdiSpec:
    problems = {name: cdi_name_problem(name) for name in spec.devices}
    for name, problem in problems.items():
        if problem:
            reason = f"the CDI name {name[:80]!r} cannot be used: {problem}"
            refused.append(NotAdmitted(device=one_line(name, 80), reason=reason))
    return replace(spec, devices={n: e for n, e in spec.devices.items() if not problems[n]})


def _text_or_none(value: object) -> str | None:
    return None if value is None else one_line(str(value))


def _notes(found: object) -> tuple[str, ...]:
    """Lines for people: what is none, is left out."""
    notes = found if isinstance(found, tuple) else ()
    return tuple(one_line(note, MAX_NOTE) for note in notes[:MAX_NOTES] if isinstance(note, str))


def _printable_product(device: Device) -> Device:
    """A product's name is firmware's: it stands in tables and in labels."""
    product = device.product and one_line(device.product)
    return device if product == device.product else replace(device, product=product)


def _name_of(item: object) -> str:
    """How to name something that may be anything."""
    known = item.__struct_fields__ if isinstance(item, Device | Fault) else ()
    name = getattr(item, "id" if "id" in known else "device", item)
    return one_line(name, 80) if isinstance(name, str) else repr(name)[:80]
