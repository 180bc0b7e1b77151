"""Whether a claim can have what the scheduler gave it: asked in the same step on the loop as it is
taken."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from msgspec.structs import replace

from deviceplugin.dra.claims import ClaimError, ClaimRef, Result
from deviceplugin.dra.holders import check_beside, in_use, other_holder
from deviceplugin.dra.journal import Entry, Prepared
from deviceplugin.dra.partitions import Placement, overlap, place_of
from deviceplugin.dra.shares import consumed_of
from deviceplugin.dra.surroundings import Node
from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.provision.ledger import KEPT
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.usage import children_of

Names = Iterable[ResourceName]
Held = Sequence[tuple[ClaimRef, Prepared]]


class Checks:
    """What is asked of a result, by what claims and pods have now."""

    def __init__(self, node: Node, ledger: Ledger) -> None:
        self._node, self._ledger = node, ledger

    def checked(
        self, ref: ClaimRef, result: Result, mine: Sequence[Prepared], entries: Collection[Entry]
    ) -> Prepared:
        """The device of a result, which nobody else holds, or the part of it that is free, or the
        place where it has to be made; raises ClaimError.

        By uid among our own claims: one that was made again has the name of the last.
        """
        others = [entry for entry in entries if entry.ref.uid != ref.uid]
        held = [(entry.ref, one) for entry in others for one in entry.devices]
        held += [(ref, one) for one in mine]
        device = self._node.names().get(result.device)
        place = self._node.places().get(result.device) if device is None else None
        if result.pool != self._node.pool or (device is None and place is None):
            where = f"pool {result.pool}, device {result.device}"
            raise ClaimError(f"claim {ref.text}: this node has nothing at {where}")
        if device is not None:
            return self._there(ref, result, device, held)
        if result.admin:
            text = f"device {result.device} is not there, and admin access makes none"
            raise ClaimError(f"claim {ref.text}: {text}")
        wanted = replace(_prepared(result), place=place)
        self._check_place(ref, wanted, held)
        return wanted

    def _there(self, ref: ClaimRef, result: Result, device: Device, held: Held) -> Prepared:
        shares = self._node.shared(device) if result.share_id is not None else None
        ours = self._node.ours(device) and not result.admin
        found = replace(
            _prepared(result),
            device=device.id,
            consumed=consumed_of(shares, result.consumed),
            known=replace(device, links=(), nodes=()),
            place=place_of(device) if ours else None,
        )
        if not result.admin:
            self._check_free(ref, device, found, held)
        return found

    def _check_free(self, ref: ClaimRef, device: Device, wanted: Prepared, held: Held) -> None:
        relatives = {device.id, *children_of(self._node.devices()).get(device.id, ())}
        relatives |= {device.parent} if device.parent is not None else set()
        near = [pair for pair in held if self._is_near(pair[1], wanted, relatives)]
        beside = check_beside(ref, wanted, near, (device, self._node.shared(device)))
        self._check_ledger(ref, wanted, relatives, beside)

    def _check_place(self, ref: ClaimRef, wanted: Prepared, held: Held) -> None:
        relatives = set(self._beneath(wanted.place)) if wanted.place else set()
        near = [pair for pair in held if self._is_near(pair[1], wanted, relatives)]
        beside = check_beside(ref, wanted, near, (Device(id=DeviceID(""), vendor=""), None))
        self._check_ledger(ref, wanted, relatives, beside)

    def _check_ledger(
        self,
        ref: ClaimRef,
        wanted: Prepared,
        relatives: set[DeviceID],
        beside: Iterable[ResourceName],
    ) -> None:
        # What is kept while a GPU is cut for claims is in the way of none: one is cut after the
        # other, and what was begun is ended first.
        settled = (KEPT,) if relatives & self._node.gpus().keys() else ()
        holder = other_holder(self._ledger.usage.value, relatives, (*beside, *settled))
        if holder is not None:
            raise in_use(ref, wanted, holder)

    def _is_near(self, one: Prepared, wanted: Prepared, relatives: set[DeviceID]) -> bool:
        """Whether what a claim has is of the same device, or of one beside which that is not."""
        if one.device in relatives:
            return True
        if one.place is None:
            return False
        if wanted.place is None:
            return one.place.gpu == wanted.device
        return self._overlap(one.place, wanted.place)

    def _beneath(self, place: Placement) -> Iterator[DeviceID]:
        """The GPU, and its instances that take of the same memory, or where nobody knows that."""
        yield place.gpu
        devices = self._node.devices()
        for part in children_of(devices).get(place.gpu, ()):
            there = place_of(devices[part])
            if there is None or self._overlap(there, place):
                yield part

    def _overlap(self, one: Placement, other: Placement) -> bool:
        if one.gpu != other.gpu:
            return False
        gpu = self._node.gpus().get(one.gpu)
        return gpu is None or gpu.mig is None or overlap(one, other, gpu.mig)


def _prepared(result: Result) -> Prepared:
    return Prepared(
        request=result.request,
        pool=result.pool,
        name=result.device,
        device=DeviceID(""),
        admin=result.admin,
        share_id=result.share_id,
    )
