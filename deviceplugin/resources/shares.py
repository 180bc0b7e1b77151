"""Shares of a device: how many there are, what they are called, how large their list is; pure.

Ids: `<device id>` whole, `<device id>::<n>` a replica, `<device id>-m<n>` a GiB of memory and
`<device id>-<unit>-m<n>` a slice of another size; `-c<percent>` stands before `-m` where compute
comes with it. They are made here only. A device id may end like any of them: what an id means,
`resources.ids` looks up among the devices that are there.
"""

from collections.abc import Iterable, Iterator

from deviceplugin.model import AdvertisedID, Device, DeviceID, Resource, ResourceName, Share
from deviceplugin.resources.section import Offer
from deviceplugin.schema import parse_bytes

GIB, MIB = 1 << 30, 1 << 20
_UNITS = {"gi": GIB, "mi": MIB}
_UNIT_LENGTH = 12  # a text of more digits is no unit of any device's memory

REPLICA, WHOLE = "replica", "whole"
# A device, and a form of it: `whole`, `replica`, or the unit of a slice.
Meaning = tuple[DeviceID, str]


def unit_text(unit_bytes: int) -> str:
    """A unit as names carry it: `256mi`, `2gi`."""
    whole_gib = unit_bytes % GIB == 0
    return f"{unit_bytes // GIB}gi" if whole_gib else f"{unit_bytes // MIB}mi"


def memory_name(device: Device, domain: str, unit_bytes: int) -> ResourceName:
    """`nvidia.com/gpu-memory` counts GiB on every node; another unit stands in its name.

    A unit that changed from node to node under one name would change what a pod asks for.
    """
    unit = "" if unit_bytes == GIB else f"-{unit_text(unit_bytes)}"
    return ResourceName(f"{domain}/{device.noun}-memory{unit}")


def noun_text(of: Device | Resource) -> str:
    """The noun of a device, or of a resource's devices, in a sentence: `GPU`."""
    return of.noun.upper()


def memory_text(device: Device, reserve: str | None) -> str:
    """How much memory a device has for slices, in a sentence: `it has 0.5 GiB`."""
    if device.memory_bytes is None:
        return "its memory is unknown"
    kept = f", of which {reserve} are reserved" if reserve else ""
    return f"it has {round(device.memory_bytes / GIB, 2):g} GiB{kept}"


def share_of(device: Device, offer: Offer) -> Share | None:
    """How an offer cuts a device, None where it stays whole; a slice list may be empty."""
    if offer.replicas is not None:
        return Share(
            count=offer.replicas,
            whole=device.parent,
            method=offer.method,
            variables=offer.variables,
        )
    if offer.memory is None:
        return None
    unit = parse_bytes(offer.memory.unit)
    reserve = parse_bytes(offer.memory.reserve) if offer.memory.reserve else 0
    return Share(
        count=max((device.memory_bytes or 0) - reserve, 0) // unit,
        whole=device.parent,
        unit_bytes=unit,
        method=offer.method,
        variables=offer.variables,
        compute_percent=offer.compute_percent,
    )


def share_bytes(device: Device, share: Share) -> int | None:
    """The memory that one share of the device stands for, None where it is unknown."""
    if share.unit_bytes is not None:
        return share.unit_bytes
    return None if device.memory_bytes is None else device.memory_bytes // share.count


def share_prefix(device: DeviceID, share: Share) -> str:
    """What the ids of all shares of a device begin with; the number of the share follows."""
    if share.unit_bytes is None:
        return f"{device}::"
    unit = "" if share.unit_bytes == GIB else f"-{unit_text(share.unit_bytes)}"
    return f"{device}{unit}{_compute_text(share)}-m"


def _compute_text(share: Share) -> str:
    """In ids and forms: slices of one size with another part of the compute are others, so that a
    part that a container has since another configuration is given to nobody else."""
    return "" if share.compute_percent is None else f"-c{share.compute_percent}"


def share_ids(device: DeviceID, share: Share) -> Iterator[AdvertisedID]:
    """The ids of all shares of a device, by number."""
    prefix = share_prefix(device, share)
    return (AdvertisedID(f"{prefix}{number}") for number in range(share.count))


def possible_shares(advertised: str) -> Iterator[Meaning]:
    """Each device and form that would have this id for a share: five at most.

    None of the devices need be there, and a device of this very id may be: see `resources.ids`.
    """
    device, found, number = advertised.rpartition("::")
    if found and device and _is_number(number):
        yield DeviceID(device), REPLICA
    device, found, number = advertised.rpartition("-m")
    if not (found and device and _is_number(number)):
        return
    yield from _possible_slices(device, "")
    device, _, percent = device.rpartition("-c")
    if device and _is_percent(percent):
        yield from _possible_slices(device, f"-c{percent}")


def _possible_slices(text: str, compute: str) -> Iterator[Meaning]:
    yield DeviceID(text), f"{unit_text(GIB)}{compute}"
    device, _, unit = text.rpartition("-")
    if device and _is_unit(unit):
        yield DeviceID(device), f"{unit}{compute}"


def _is_percent(text: str) -> bool:
    return _is_number(text) and len(text) <= len("100") and 1 <= int(text) <= 100


def _is_number(text: str) -> bool:
    """As `str` writes one: no sign, no zero in front."""
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")


def _is_unit(text: str) -> bool:
    """As `unit_text` writes a unit in an id, where that of 1 GiB is not written."""
    number, size = text[:-2], _UNITS.get(text[-2:])
    if size is None or not _is_number(number) or len(number) > _UNIT_LENGTH:
        return False
    unit_bytes = int(number) * size
    return unit_bytes not in (0, GIB) and unit_text(unit_bytes) == text


def form_text(share: Share | None) -> str:
    """The form of a device that is given as such shares, `whole` for None."""
    if share is None:
        return WHOLE
    if share.unit_bytes is None:
        return REPLICA
    return f"{unit_text(share.unit_bytes)}{_compute_text(share)}"


def smallest_unit(devices: Iterable[Device], reserve_bytes: int, limit_bytes: int) -> int | None:
    """The smallest power of two of MiB whose list of slices stays below `limit_bytes`."""
    devices = tuple(devices)
    for power in range(24):
        unit = MIB << power
        counts = [(d, max((d.memory_bytes or 0) - reserve_bytes, 0) // unit) for d in devices]
        if sum(slices_bytes(d, unit, count) for d, count in counts) < limit_bytes:
            return unit
    return None


def slices_bytes(device: Device, unit_bytes: int, count: int) -> int:
    """The encoded size of a device's slices in a list, without making them (see list_bytes)."""
    unit = 0 if unit_bytes == GIB else 1 + len(unit_text(unit_bytes))
    return _ids_bytes(device, len(device.id) + unit + len("-m"), count)


def replicas_bytes(device: Device, count: int) -> int:
    """The encoded size of a device's replicas in a list, without making them."""
    return _ids_bytes(device, len(device.id) + len("::"), count)


def _ids_bytes(device: Device, fixed: int, count: int) -> int:
    """That of `count` ids: `fixed` characters and the number."""
    total, start, digits = 0, 0, 1
    while start < count:
        end = min(count, 10**digits)
        total += (end - start) * entry_bytes(fixed + digits, device.numa_node)
        start, digits = end, digits + 1
    return total


def entry_bytes(id_length: int, numa_node: int | None) -> int:
    """The encoded size of one list entry, Unhealthy, the longest form.

    A device is field 1 of the response: tag, length, then ID, health and topology as fields of
    their own (v1beta1 api.proto); a NUMA node takes at most 6 bytes here.
    """
    body = 2 + id_length + 2 + len("Unhealthy") + (0 if numa_node is None else 6)
    return body + (2 if body < 128 else 3)
