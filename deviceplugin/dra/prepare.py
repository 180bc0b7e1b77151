"""Prepare and Unprepare of one driver's claims: the last line against giving a device twice.

The order is the contract: hold, write the journal, write the CDI file, answer; and the other way
round. What the process dies between is done again by the next call for that claim.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct

from deviceplugin.dra.claims import (
    UID,
    ClaimError,
    ClaimRef,
    Result,
    Told,
    is_that_claim,
    nobody,
    results_of,
)
from deviceplugin.dra.files import ClaimFiles, DeviceEdits
from deviceplugin.dra.holders import RESERVED, check_ref, check_variables, holder_text, other_holder
from deviceplugin.dra.journal import Entry, Journal, Prepared
from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.usage import children_of

log = structlog.get_logger()

# The claim's document, None where there is no such object; raises ClaimError where nobody says.
ReadClaim = Callable[[ClaimRef], Awaitable[Mapping[str, Any] | None]]


class Node(Struct, frozen=True, kw_only=True):
    """What claims are prepared with; `devices` are all of the node, `names` those of the driver.

    `know_holders` raises ClaimError while nobody can say what pods have by the device plugin.
    """

    driver: str
    pool: str
    devices: Callable[[], Mapping[DeviceID, Device]]
    names: Callable[[], Mapping[str, Device]]
    edits: Callable[[Device], Awaitable[tuple[Any, Any]]]
    read_claim: ReadClaim
    know_holders: Callable[[], Awaitable[None]]
    told: Told = nobody


class PreparedDevice(Struct, frozen=True, kw_only=True):
    """A device as the kubelet is told of it."""

    request: str
    pool: str
    name: str
    cdi_id: str
    share_id: str | None = None


class Claims:
    """The prepared claims of one driver; made and called on the loop.

    One call after the other: between the check of a device and its entry in the ledger nothing
    waits, so that of a claim and a pod which race for it the second always finds the first.
    """

    def __init__(self, node: Node, ledger: Ledger, journal: Journal, files: ClaimFiles) -> None:
        self._node, self._ledger, self._journal, self._files = node, ledger, journal, files
        self._entries: dict[str, Entry] = {}
        self._lock = asyncio.Lock()
        self.reserves = False  # whether devices without a claim are held for claims, too

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
        for device in names.values() if self.reserves else ():
            held[device.id] = (RESERVED,)
        for entry in self._entries.values():
            for one in entry.devices:
                device_id = one.device or (names[one.name].id if one.name in names else None)
                if device_id is not None and not one.admin:
                    held[device_id] = (*held.get(device_id, ()), holder_text(entry.ref))
        self._ledger.claim(self._node.driver, held)

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
        self._tell("refused", ref, (), reason=reason)

    def _tell(self, what: str, ref: ClaimRef, devices: Sequence[str], **more: str) -> None:
        who = {"namespace": ref.namespace, "claim": ref.name, "uid": ref.uid, **more}
        self._node.told(what, who, devices)

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
        await self._let_go_of_dead(ref, results)
        await self._node.know_holders()
        before = self._entries.get(ref.uid)
        held = self._take(ref, results)
        try:
            entry = await asyncio.to_thread(self._journal.write, ref, held.devices)
            await self._write_file(entry)
        except DevicePluginError as error:
            await self._take_back(ref, before)
            raise ClaimError(f"claim {ref.text}: {error}") from error
        self._entries[ref.uid] = entry
        self._tell("prepared", ref, [one.device for one in held.devices])
        log.info(
            "dra_prepared", claim=ref.text, uid=ref.uid, devices=[d.name for d in held.devices]
        )
        return entry

    def _take(self, ref: ClaimRef, results: Iterable[Result]) -> Entry:
        """Check and hold, in one step on the loop. What a damaged entry of the claim itself holds
        is in nobody's way."""
        before = self._entries.pop(ref.uid, None)
        self.hold()
        try:
            devices = tuple(self._checked(ref, result) for result in results)
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

    def _checked(self, ref: ClaimRef, result: Result) -> Prepared:
        """The device of a result, which nobody else holds."""
        device = self._node.names().get(result.device)
        if device is None or result.pool != self._node.pool:
            where = f"pool {result.pool}, device {result.device}"
            raise ClaimError(f"claim {ref.text}: this node has nothing at {where}")
        holder = None if result.admin else self._other_holder(ref, device)
        if holder is not None:
            text = f"device {result.device} ({device.id}) is in use as {holder}"
            raise ClaimError(f"claim {ref.text}: {text}: it is asked for again when that is free")
        return Prepared(
            request=result.request,
            pool=result.pool,
            name=result.device,
            device=device.id,
            admin=result.admin,
            share_id=result.share_id,
        )

    def _other_holder(self, ref: ClaimRef, device: Device) -> ResourceName | None:
        """By uid among our own claims: one that was made again has the name of the last."""
        relatives = {device.id, *children_of(self._node.devices()).get(device.id, ())}
        relatives |= {device.parent} if device.parent is not None else set()
        for entry in self._entries.values():
            held = any(one.device in relatives and not one.admin for one in entry.devices)
            if held and entry.ref.uid != ref.uid:
                return holder_text(entry.ref)
        return other_holder(self._ledger.usage.value, relatives, holder_text(ref))

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
            del self._entries[uid]
            self.hold()
            self._tell("released", known.ref, [one.device for one in known.devices])
            log.info("dra_unprepared", claim=known.ref.text, uid=uid)

    async def _write_file(self, entry: Entry) -> None:
        edits = {one.name: await self._edits(entry, one) for one in entry.devices}
        check_variables(entry.ref, edits.values())
        try:
            await asyncio.to_thread(self._files.write, entry.ref.uid, edits)
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            raise ClaimError(f"claim {entry.ref.text}: {reason}") from error

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
                cdi_id=self._files.cdi_id(entry.ref.uid, one.name),
                share_id=one.share_id,
            )
            for one in entry.devices
        )
