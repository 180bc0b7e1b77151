"""Prepare and Unprepare of one driver's claims: the last line against giving a device twice.

The order is the contract: hold, write the journal, write the CDI file, answer; and the other way
round. What the process dies between is done again by the next call for that claim.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import structlog
from msgspec.structs import replace

from deviceplugin.dra.claims import (
    UID,
    ClaimError,
    ClaimRef,
    Result,
    configs_of,
    is_that_claim,
    pods_of,
    results_of,
)
from deviceplugin.dra.files import ClaimFiles, DeviceEdits
from deviceplugin.dra.holders import (
    RESERVED,
    check_beside,
    check_ref,
    check_variables,
    holder_text,
    in_use,
    memory_held,
    other_holder,
)
from deviceplugin.dra.journal import Entry, Journal, Prepared
from deviceplugin.dra.limits import Counters
from deviceplugin.dra.parameters import check_parameters
from deviceplugin.dra.shares import Shares, consumed_of, share_edits
from deviceplugin.dra.surroundings import Node, PreparedDevice
from deviceplugin.dra.tombstones import Tombstones
from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.usage import children_of

log = structlog.get_logger()


class Claims:
    """The prepared claims of one driver; made and called on the loop.

    One call after the other: between the check of a device and its entry in the ledger nothing
    waits, so that of a claim and a pod which race for it the second always finds the first.
    """

    def __init__(self, node: Node, ledger: Ledger, journal: Journal, files: ClaimFiles) -> None:
        self._node, self._ledger, self._journal, self._files = node, ledger, journal, files
        self._entries: dict[str, Entry] = {}
        self._lock, self._tombstones = asyncio.Lock(), Tombstones()
        self.reserves: Callable[[Device], bool] = lambda _: False  # while none has it

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The prepared claims by uid."""
        return self._entries

    def load(self) -> None:
        """Take what is on disk to be so; blocks, and comes before anything is handed out.

        Raises JournalError. A claim whose entry is damaged has what its CDI file names.
        """
        entries, damaged = self._journal.load()
        self._entries = dict(entries)
        for uid in damaged:
            names = self._files.names(uid)
            lost = [
                Prepared(request="", pool=self._node.pool, name=n, device=DeviceID(""))
                for n in names
            ]
            ref = ClaimRef(uid=uid, namespace="", name="")
            self._entries[uid] = Entry(ref=ref, devices=tuple(lost))
        try:
            self._files.remove_others(self._entries.keys())
        except OSError as error:
            log.warning("dra_files_not_removed", driver=self._node.driver, reason=str(error))
        self.hold()

    def hold(self) -> None:
        """Have the ledger say what claims hold: after each change of them or of the devices."""
        held: dict[DeviceID, tuple[ResourceName, ...]] = {}
        names = self._node.names()
        for device in filter(self.reserves, names.values()):
            held[device.id] = (RESERVED,)
        for entry in self._entries.values():
            for one in entry.devices:
                device_id = one.device or (names[one.name].id if one.name in names else None)
                if device_id is not None and not one.admin:
                    held[device_id] = (*held.get(device_id, ()), holder_text(entry.ref))
        parts = [(entry.ref, self._parts(entry)) for entry in self._entries.values()]
        self._ledger.claim(self._node.driver, held, memory_held(self._node.driver, parts))

    def holds(self, device: DeviceID) -> bool:
        """Whether a claim has the device."""
        return any(p.device == device for e in self._entries.values() for p in e.devices)

    async def prepare(self, ref: ClaimRef) -> tuple[PreparedDevice, ...]:
        """The devices of a claim, which are its own from here on; the same answer each time.

        Raises ClaimError, also for whatever fails as one of our errors: then a claim that was
        not prepared before holds nothing.
        """
        check_ref(ref)
        async with self._lock:
            entry = self._entries.get(ref.uid)
            if entry is not None and all(one.device for one in entry.devices) and entry.devices:
                await self._write_file(entry)
                return self._answer(entry)
            return self._answer(await self._prepare_new(ref))

    async def unprepare(self, ref: ClaimRef) -> None:
        """Give back what a claim has; one that is not prepared is no error. Raises ClaimError
        where its entry cannot be removed: its devices stay held until that is done."""
        if not UID.fullmatch(ref.uid):
            return
        async with self._lock:
            await self._unprepare(ref.uid)

    def refused(self, ref: ClaimRef, reason: str) -> None:
        """The kubelet was told that the claim gets nothing."""
        self._node.tell("refused", ref, (), reason=reason)

    async def reconcile(self) -> None:
        """Give back what claims hold that are not there any more: deleted while nobody told us."""
        for entry in list(self._entries.values()):
            async with self._lock:
                if entry.ref.uid in self._entries and await self._is_gone(entry):
                    await self._unprepare(entry.ref.uid)

    async def _prepare_new(self, ref: ClaimRef) -> Entry:
        document = await self._node.read_claim(ref)
        if document is None:
            raise ClaimError(f"claim {ref.text} does not exist")
        results = results_of(document, ref, self._node.driver)
        pods = pods_of(document)
        if self._tombstones.keeps(ref.uid, pods, self._node.now()):
            raise ClaimError(f"claim {ref.text} was given back just now: it is asked for again")
        names = self._node.names()
        given = [(one, names[one.device]) for one in results if one.device in names]
        check_parameters(ref, configs_of(document, ref, self._node.driver), given)
        await self._let_go_of_dead(ref, results)
        await self._node.know_holders()
        before = self._entries.get(ref.uid)
        held = replace(self._take(ref, results), pods=pods)
        try:
            entry = await asyncio.to_thread(self._journal.write, held)
            await self._write_file(entry)
        except DevicePluginError as error:
            await self._take_back(ref, before)
            raise ClaimError(f"claim {ref.text}: {error}") from error
        self._entries[ref.uid] = entry
        self._node.tell("prepared", ref, [one.device for one in held.devices])
        names_given = [one.name for one in held.devices]
        log.info("dra_prepared", claim=ref.text, uid=ref.uid, devices=names_given)
        return entry

    def _take(self, ref: ClaimRef, results: Iterable[Result]) -> Entry:
        """Check and hold, in one step on the loop. What a damaged entry of the claim itself holds
        is in nobody's way."""
        before = self._entries.pop(ref.uid, None)
        self.hold()
        try:
            devices: tuple[Prepared, ...] = ()
            for result in results:
                devices = (*devices, self._checked(ref, result, devices))
            before = Entry(ref=ref, devices=devices)
        finally:
            if before is not None:
                self._entries[ref.uid] = before
            self.hold()
        return self._entries[ref.uid]

    async def _take_back(self, ref: ClaimRef, before: Entry | None) -> None:
        """What could not be prepared holds nothing; what cannot be removed goes on holding."""
        if before is None:
            try:
                await self._unprepare(ref.uid)
            except ClaimError as error:
                log.warning("dra_not_taken_back", claim=ref.text, reason=str(error))

    def _checked(self, ref: ClaimRef, result: Result, mine: Sequence[Prepared]) -> Prepared:
        """The device of a result, which nobody else holds, or the part of it that is free."""
        device = self._node.names().get(result.device)
        if device is None or result.pool != self._node.pool:
            where = f"pool {result.pool}, device {result.device}"
            raise ClaimError(f"claim {ref.text}: this node has nothing at {where}")
        shares = self._node.shared(device) if result.share_id is not None else None
        found = Prepared(
            request=result.request,
            pool=result.pool,
            name=result.device,
            device=device.id,
            admin=result.admin,
            share_id=result.share_id,
            consumed=consumed_of(shares, result.consumed),
            known=replace(device, links=(), nodes=()),
        )
        if not result.admin:
            self._check_free(ref, device, found, mine)
        return found

    def _check_free(
        self, ref: ClaimRef, device: Device, wanted: Prepared, mine: Sequence[Prepared]
    ) -> None:
        """By uid among our own claims: one that was made again has the name of the last."""
        relatives = {device.id, *children_of(self._node.devices()).get(device.id, ())}
        relatives |= {device.parent} if device.parent is not None else set()
        others = [entry for entry in self._entries.values() if entry.ref.uid != ref.uid]
        held = [(e.ref, one) for e in others for one in e.devices if one.device in relatives]
        held += [(ref, one) for one in mine if one.device in relatives]
        beside = check_beside(ref, wanted, held, (device, self._node.shared(device)))
        holder = other_holder(self._ledger.usage.value, relatives, beside)
        if holder is not None:
            raise in_use(ref, wanted, holder)

    async def _let_go_of_dead(self, ref: ClaimRef, results: Iterable[Result]) -> None:
        """A holder whose claim is gone was deleted without an Unprepare: it is undone first."""
        wanted = {result.device for result in results if not result.admin}
        for entry in list(self._entries.values()):
            others = entry.ref.uid != ref.uid and wanted & {one.name for one in entry.devices}
            if others and await self._is_gone(entry):
                await self._unprepare(entry.ref.uid)

    async def _is_gone(self, entry: Entry) -> bool:
        """Whether there is no such claim; where nobody can say, it is taken to be there."""
        if not entry.ref.name:
            return False
        try:
            document = await self._node.read_claim(entry.ref)
        except ClaimError:
            return False
        return document is None or not is_that_claim(document, entry.ref)

    async def _unprepare(self, uid: str) -> None:
        known = self._entries.get(uid)
        try:
            await asyncio.to_thread(self._files.remove, uid)
        except OSError as error:  # a runtime that finds it gives nothing by it
            log.warning("dra_file_not_removed", uid=uid, reason=str(error))
        try:
            await asyncio.to_thread(self._journal.remove, uid)
        except DevicePluginError as error:
            raise ClaimError(f"claim of uid {uid}: {error}") from error
        if known is not None:
            self._tombstones.lay(uid, known.pods, self._node.now())
            del self._entries[uid]
            self.hold()
            self._node.tell("released", known.ref, [one.device for one in known.devices])
            log.info("dra_unprepared", claim=known.ref.text, uid=uid)

    async def _write_file(self, entry: Entry) -> None:
        edits = {one.key: await self._edits(entry, one) for one in entry.devices}
        check_variables(entry.ref, edits.values())
        try:
            own = await self._node.limited(entry.ref.uid, share_edits(self._parts(entry)))
            await asyncio.to_thread(self._files.write, entry.ref.uid, edits, own)
        except OSError as error:
            text = f"claim {entry.ref.text}: {error.filename}: {error.strerror}"
            raise ClaimError(text) from error

    def _parts(self, entry: Entry) -> Iterator[tuple[Device, Shares, Counters]]:
        devices = self._node.devices()
        for one in entry.devices:
            shares = self._node.shared(devices[one.device]) if one.device in devices else None
            if one.share_id is not None and shares is not None:
                yield devices[one.device], shares, one.consumed

    async def _edits(self, entry: Entry, one: Prepared) -> DeviceEdits:
        device = self._node.devices().get(one.device)
        if device is None:
            raise ClaimError(f"claim {entry.ref.text}: device {one.device} is gone")
        try:
            own, common = await self._node.edits(device)
        except DevicePluginError as error:
            raise ClaimError(f"claim {entry.ref.text}: {error}") from error
        if not own.device_nodes and not own.mounts:
            text = f"device {one.device} has no device nodes to give"
            action = f"set {device.vendor}.device_list_strategy to cdi-cri"
            raise ClaimError(f"claim {entry.ref.text}: {text}: {action}")
        return DeviceEdits(own, common)

    def _answer(self, entry: Entry) -> tuple[PreparedDevice, ...]:
        return tuple(
            PreparedDevice(
                request=one.request,
                pool=one.pool,
                name=one.name,
                cdi_id=self._files.cdi_id(entry.ref.uid, one.key),
                share_id=one.share_id,
            )
            for one in entry.devices
        )
