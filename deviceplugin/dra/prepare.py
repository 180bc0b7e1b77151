"""Prepare and Unprepare of one driver's claims: the last line against giving a device twice.

The order is the contract: hold, write the journal, write the CDI file, answer; and the other way
round. What the process dies between is done again by the next call for that claim.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import structlog
from msgspec.structs import replace

from deviceplugin.dra.checking import Checks
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
from deviceplugin.dra.files import ClaimFiles
from deviceplugin.dra.holders import (
    check_ref,
    holder_text,
    memory_held,
)
from deviceplugin.dra.journal import Entry, Journal, Prepared
from deviceplugin.dra.making import Making
from deviceplugin.dra.parameters import check_parameters
from deviceplugin.dra.surroundings import Node, PreparedDevice
from deviceplugin.dra.tombstones import Tombstones
from deviceplugin.dra.written import Written
from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.usage import RESERVED

log = structlog.get_logger()


class Claims:
    """The prepared claims of one driver; made and called on the loop.

    One call after the other: between the check of a device and its entry in the ledger nothing
    waits, so that of a claim and a pod which race for it the second always finds the first.
    """

    def __init__(self, node: Node, ledger: Ledger, journal: Journal, files: ClaimFiles) -> None:
        self._node, self._ledger, self._journal, self._files = node, ledger, journal, files
        self._written, self._making = Written(node, files), Making(node)
        self._checks = Checks(node, ledger)
        self._going: set[str] = set()  # claims that are given back now
        self._entries: dict[str, Entry] = {}
        self._lock, self._tombstones = asyncio.Lock(), Tombstones()
        self.reserves: Callable[[Device], bool] = lambda _: False  # while none has it

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The prepared claims by uid."""
        return self._entries

    @property
    def standing(self) -> Collection[Entry]:
        """Those that are not given back now."""
        return [entry for uid, entry in self._entries.items() if uid not in self._going]

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
        for entry in self.standing:
            for one in entry.devices:
                device_id = one.device or (names[one.name].id if one.name in names else None)
                if device_id is not None and not one.admin:
                    held[device_id] = (*held.get(device_id, ()), holder_text(entry.ref))
        parts = [(entry.ref, self._written.parts(entry)) for entry in self._entries.values()]
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
            if entry is not None and entry.devices and self._making.is_there(entry):
                await self._written.write(entry)
                return self._written.answer(entry)
            return self._written.answer(await self._prepare_new(ref))

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
                    await self._take_back(entry.ref, None)

    async def _prepare_new(self, ref: ClaimRef) -> Entry:
        document = await self._node.read_claim(ref)
        if document is None:
            raise ClaimError(f"claim {ref.text} does not exist")
        results = results_of(document, ref, self._node.driver)
        pods = pods_of(document)
        self._check_not_ended(ref, pods)
        configs = configs_of(document, ref, self._node.driver)
        check_parameters(ref, configs, self._given(results))
        await self._let_go_of_dead(ref, results)
        await self._node.know_holders()
        before = self._entries.get(ref.uid)
        held = replace(self._take(ref, results), pods=pods)
        try:
            entry = await self._kept(held)
        except ClaimError:
            await self._take_back(ref, before)
            raise
        except DevicePluginError as error:
            await self._take_back(ref, before)
            raise ClaimError(f"claim {ref.text}: {error}") from error
        self._entries[ref.uid] = entry
        self._node.tell("prepared", ref, [one.device for one in entry.devices])
        names = [one.name for one in entry.devices]
        log.info("dra_prepared", claim=ref.text, uid=ref.uid, devices=names)
        return entry

    def _check_not_ended(self, ref: ClaimRef, pods: Collection[str]) -> None:
        if self._tombstones.keeps(ref.uid, pods, self._node.now()):
            raise ClaimError(f"claim {ref.text} was given back just now: it is asked for again")

    def _given(self, results: Iterable[Result]) -> Iterator[tuple[Result, Device]]:
        """The devices; what has to be made, as those that there would be."""
        names, places, devices = self._node.names(), self._node.places(), self._node.devices()
        for result in results:
            place = places.get(result.device)
            if result.device in names:
                yield result, names[result.device]
                continue
            gpu = devices.get(place.gpu) if place is not None else None
            if place is not None and gpu is not None:
                yield result, replace(gpu, parent=gpu.id, profile=place.profile)

    async def _kept(self, held: Entry) -> Entry:
        """On disk, and made, where it is to be made: then what it is stands there too; then its
        file."""
        entry = await asyncio.to_thread(self._journal.write, held)
        made = await self._making.make(entry)
        if made != entry:
            self._entries[entry.ref.uid] = made
            self.hold()
            made = await asyncio.to_thread(self._journal.write, made)
        await self._written.write(made)
        return made

    def _take(self, ref: ClaimRef, results: Iterable[Result]) -> Entry:
        """Check and hold, in one step on the loop. What a damaged entry of the claim itself holds
        is in nobody's way."""
        before = self._entries.pop(ref.uid, None)
        self.hold()
        try:
            devices: tuple[Prepared, ...] = ()
            for result in results:
                devices = (
                    *devices,
                    self._checks.checked(ref, result, devices, self._entries.values()),
                )
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

    async def _let_go_of_dead(self, ref: ClaimRef, results: Iterable[Result]) -> None:
        """A holder whose claim is gone was deleted without an Unprepare: it is undone first."""
        wanted = {result.device for result in results if not result.admin}
        places = self._node.places()
        gpus = {places[name].gpu for name in wanted if name in places}
        for entry in list(self._entries.values()):
            names = {one.name for one in entry.devices}
            near = wanted & names or gpus & {one.place.gpu for one in entry.devices if one.place}
            if entry.ref.uid != ref.uid and near and await self._is_gone(entry):
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
        if known is not None:
            await self._undo(known)
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

    async def _undo(self, entry: Entry) -> None:
        """What was made for it goes; raises ClaimError, and then it has all of it as before."""
        if not any(one.place for one in entry.devices):
            return
        self._going.add(entry.ref.uid)
        self.hold()
        try:
            await self._making.unmake(entry)
        finally:
            self._going.discard(entry.ref.uid)
            self.hold()
