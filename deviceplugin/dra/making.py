"""Partitions that are made for a claim when it is prepared and destroyed when it is given back.

The journal says first what has to be there, as it says first what is held: whatever a process dies
between, the next look at the node sees what no claim has, and what one has and is not there.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec.structs import replace

from deviceplugin.dra.claims import ClaimError
from deviceplugin.dra.journal import Entry, Prepared
from deviceplugin.dra.partitions import place_of
from deviceplugin.dra.surroundings import Node
from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID
from deviceplugin.provision.on_demand import Claimed, Fitted


class Making:
    """Of one driver's claims."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def make(self, entry: Entry) -> Entry:
        """The entry with the ids of what was made for it; raises ClaimError."""
        gpus = self._node.gpus()
        wanted = {one.place.gpu for one in entry.devices if one.place is not None}
        wanted |= {one.device for one in entry.devices if one.device in gpus and not one.admin}
        await self._fit(entry, wanted)
        if not any(one.place for one in entry.devices):
            return entry
        return replace(entry, devices=tuple(self._filled(entry)))

    async def unmake(self, entry: Entry) -> None:
        """Destroy what was made for a claim, which no longer counts for what claims ask; raises
        ClaimError while the privileged process finds it there, or nobody says. What is not to be
        cut for claims any more is left as it is."""
        places = {one.name: one.place for one in entry.devices if one.place is not None}
        cut = {place.gpu for place in places.values() if not self._node.left(place.gpu)}
        fitted = await self._fit(entry, cut)
        for name, place in places.items():
            # What we know of the node is older: what a kill left may have been made again.
            found = fitted.get(place.gpu)
            if found is not None and (place.profile, place.start) in found.there:
                raise ClaimError(f"claim {entry.ref.text}: {name} is there still: {found.told}")

    def is_there(self, entry: Entry) -> bool:
        """Whether all that a claim has is known and, where it was made, there."""
        devices = self._node.devices()
        return all(
            one.device and (one.place is None or one.device in devices) for one in entry.devices
        )

    async def _fit(self, entry: Entry, gpus: Collection[DeviceID]) -> Mapping[DeviceID, Fitted]:
        fitted = {}
        for gpu in sorted(gpus):
            try:
                fitted[gpu] = await self._node.fit(gpu)
            except DevicePluginError as error:
                raise ClaimError(f"claim {entry.ref.text}: {gpu}: {error}") from error
        return fitted

    def _filled(self, entry: Entry) -> Iterator[Prepared]:
        names = self._node.names()
        for one in entry.devices:
            if one.place is None:
                yield one
                continue
            device = names.get(one.name)
            if device is None or place_of(device) != one.place:
                text = f"{one.name} was made and is not found"
                raise ClaimError(f"claim {entry.ref.text}: {text}")
            yield replace(one, device=device.id, known=replace(device, links=(), nodes=()))


def places_of(entries: Collection[Entry], gpu: DeviceID, devices: Iterable[Device]) -> Claimed:
    """The places on a GPU that claims have or ask for, and whether one has it whole."""
    held = {one.device for entry in entries for one in entry.devices if not one.admin}
    asked = {one.place for entry in entries for one in entry.devices}
    there = {place_of(device) for device in devices if device.id in held}
    mine = [place for place in asked | there if place is not None and place.gpu == gpu]
    found = {(place.profile, place.start) for place in mine if place.start is not None}
    return Claimed(places=frozenset(found), whole=gpu in held)
