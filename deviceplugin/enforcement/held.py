"""What each container was granted of each device, from the ledger and the lists; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

from deviceplugin.model import AdvertisedID, Device, DeviceID, Resource, ResourceName, Share
from deviceplugin.resources.entries import ClaimMemory, Holder, LedgerEntry
from deviceplugin.resources.shares import share_bytes
from deviceplugin.vendor import Grant

Key = tuple[ResourceName, AdvertisedID]
Granted = Mapping[Holder, tuple[Grant, ...]]


def grants_of(
    entries: Mapping[Key, LedgerEntry],
    listed: Mapping[ResourceName, Resource],
    devices: Mapping[DeviceID, Device],
) -> Granted:
    """The slices of memory of each container whose ids a kubelet has listed; sorted."""
    wanted = {name for (name, _), entry in entries.items() if entry.holder}
    shares = {
        (name, one.id): one
        for name in wanted
        if name in listed
        for one in listed[name].devices
        if one.share is not None and one.share.unit_bytes is not None and one.device in devices
    }
    counts = Counter(
        (entry.holder, shares[key].device, shares[key].share)
        for key, entry in entries.items()
        if entry.holder and key in shares
    )
    found: dict[Holder, list[Grant]] = {}
    for (holder, device, share), count in counts.items():
        if share is not None:
            each = share_bytes(devices[device], share) or 0
            grant = Grant(
                device=devices[device], share=share, count=count, memory_bytes=each * count
            )
            found.setdefault(holder, []).append(grant)
    return {holder: tuple(sorted(found[holder], key=_by_id)) for holder in sorted(found)}


def grants_of_claim(claim: ClaimMemory, devices: Mapping[DeviceID, Device]) -> tuple[Grant, ...]:
    """What a claim has of the memory of devices that it shares, as slices of that size."""
    return tuple(
        Grant(
            device=devices[device],
            share=Share(count=1, unit_bytes=size),
            count=1,
            memory_bytes=size,
        )
        for device, size in sorted(claim.memory.items())
        if device in devices
    )


def with_claims(
    granted: Granted,
    claims: Iterable[ClaimMemory],
    claimants: Iterable[tuple[ResourceName, Holder]],
    devices: Mapping[DeviceID, Device],
) -> Granted:
    """With what containers have by claims; of one that several share, each may have all."""
    found = dict(granted)
    held = {claim.name: grants_of_claim(claim, devices) for claim in claims if claim.memory}
    for name, holder in sorted(claimants):
        if name in held:
            found[holder] = (*found.get(holder, ()), *held[name])
    return {holder: found[holder] for holder in sorted(found)}


def memory_of(grants: Iterable[Grant]) -> Mapping[DeviceID, int]:
    """The memory that grants stand for, by device."""
    total: dict[DeviceID, int] = {}
    for grant in grants:
        total[grant.device.id] = total.get(grant.device.id, 0) + (grant.memory_bytes or 0)
    return total


def _by_id(grant: Grant) -> str:
    return grant.device.id
