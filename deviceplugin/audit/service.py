"""The audit log as a part of the daemon; off, it imports nothing and keeps nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from deviceplugin.audit.around import Around, OfNode
from deviceplugin.audit.section import audit_section
from deviceplugin.errors import AllocationError
from deviceplugin.model import Inventory
from deviceplugin.resources.allocation import Allocation, Request
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Collector, Once, Part, Series

if TYPE_CHECKING:  # who keeps no log does not pay for it
    from deviceplugin.audit.events import Holders, Moment
    from deviceplugin.audit.writer import Counts, Writer

LOOK_S = 1.0


class AuditPart(Part[OfNode]):
    """Records what is done with devices while its section is on.

    It stands before what gives devices out: it starts before, and ends after.
    """

    def __init__(self, config: OfNode, around: "Around[Any]", look_s: float = LOOK_S) -> None:
        self._config, self._around, self._look_s = config, around, look_s
        self._section = audit_section(config.sections)
        self._changed = asyncio.Event()
        self._hash, self._document = "", dict[str, Any]()
        self._writing: Latest[Writer | None] = Latest(None)
        self._counts: Latest[Counts | None] = Latest(None)  # of the process, not of a writer
        self._devices = Latest(Inventory())
        self._holders: Latest[tuple[object, Holders]] = Latest((None, {}))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The thread that writes."""
        self._follow_section("daemon.started")
        try:
            yield
        finally:
            await self._end("daemon.stopped")

    def tasks(self) -> Mapping[str, Once]:
        """What is watched: devices, and who holds them."""
        return {"audit_devices": self._watch_devices, "audit_holders": self._watch_holders}

    async def use(self, config: OfNode) -> None:
        """Record that another configuration is in force, by its own section."""
        self._config, self._section = config, audit_section(config.sections)
        writer = self.writer
        if writer is None:
            self._follow_section("audit.started")
            return
        before = self._document
        self._take_hash()
        if self._document != before:
            changes = self._around.differences(before, self._document)
            data = {"changes": list(changes), "document": self._document}
            self._put("configuration.changed", self._hash, data)
        if self._section.enabled:
            writer.keep(self._section.retention_s)
        else:
            await self._end("audit.stopped")

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing while it is off."""
        return {"audit": _Collector(self)}

    @property
    def writer(self) -> "Writer | None":
        """While it is on."""
        return self._writing.value

    def remark(self) -> str:
        """That nothing is recorded, or less than happened."""
        writer = self.writer
        if writer is None:
            return ""
        if writer.failing:
            return f"the audit log cannot be written: {writer.failing}"
        lost = writer.counts.lost
        return f"the audit log lacks {lost} records (see its gaps)" if lost else ""

    # What happens

    def allocated(self, allocation: Allocation) -> None:
        """A listener of the allocator."""
        if (writer := self.writer) is not None:
            from deviceplugin.audit.events import granted  # noqa: PLC0415  # where it is on

            writer.put(partial(granted, self._moment(), allocation))

    def refused(self, request: Request, error: AllocationError) -> None:
        """A listener of the allocator."""
        if (writer := self.writer) is not None:
            from deviceplugin.audit.events import refused  # noqa: PLC0415  # as above

            writer.put(partial(refused, self._moment(), request, error))

    def claimed(self, what: str, who: Mapping[str, str], devices: Sequence[str]) -> None:
        """A claim of DRA was prepared, refused or released."""
        if (writer := self.writer) is not None:
            from deviceplugin.audit.events import claim  # noqa: PLC0415  # as above

            writer.put(partial(claim, self._moment(), what, who, devices))

    def record(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        """What another part found about a device."""
        self._put(kind, subject, data)

    async def _watch_devices(self) -> None:
        async for inventory in self._around.inventory.changes():
            self._compare_devices(inventory)

    def _compare_devices(self, inventory: Inventory) -> None:
        writer = self.writer
        if writer is None:
            return
        from deviceplugin.audit.events import devices  # noqa: PLC0415  # as above

        before = self._devices.value
        self._devices.set(inventory)
        for event in devices(self._moment(), before, inventory):
            writer.put(_always(event))

    async def _watch_holders(self) -> None:
        while True:
            self._changed.clear()
            if self.writer is None:
                await self._changed.wait()
            else:
                self._compare_holders(self.writer)
                await asyncio.sleep(self._look_s)

    def _compare_holders(self, writer: "Writer") -> None:
        """Where the kubelet has answered since: only then these are others."""
        entries = self._around.entries()
        seen, before = self._holders.value
        if entries is seen:
            return
        from deviceplugin.audit.events import holdings  # noqa: PLC0415  # as above

        after = {key: entry.holder for key, entry in entries.items()}
        self._holders.value = (entries, after)  # nobody waits for it
        for event in holdings(self._moment(), before, after):
            writer.put(_always(event))

    # Its own life

    def _follow_section(self, kind: str) -> None:
        if not self._section.enabled:
            return
        from deviceplugin.audit.chain import Chain  # noqa: PLC0415  # as above
        from deviceplugin.audit.segments import DIRECTORY  # noqa: PLC0415
        from deviceplugin.audit.writer import Counts, Writer  # noqa: PLC0415

        source = f"/deviceplugin/nodes/{self._config.node_name}"
        chain = Chain(self._config.state_dir / DIRECTORY, source)
        counts = self._counts.value or Counts()
        writer = Writer(chain, self._around.now, counts)
        writer.keep(self._section.retention_s)
        self._counts.set(counts)
        self._writing.set(writer)
        self._take_hash()
        self._put(kind, self._hash, {"document": self._document})
        writer.start()
        self._devices.set(Inventory())
        self._holders.value = (None, {})
        self._compare_devices(self._around.inventory.value)
        self._changed.set()

    async def _end(self, kind: str) -> None:
        writer = self.writer
        if writer is not None:
            self._put(kind, self._hash, {})
            self._writing.set(None)
            await asyncio.to_thread(writer.close)

    def _take_hash(self) -> None:
        from deviceplugin.audit.record import hash_of  # noqa: PLC0415  # as above

        self._document = dict(self._around.describe(self._config))
        self._hash = hash_of(self._document)

    def _put(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        if (writer := self.writer) is not None:
            writer.put(_always(self._moment().event(kind, subject, data)))

    def _moment(self) -> "Moment":
        from deviceplugin.audit.events import Moment  # noqa: PLC0415  # as above

        return Moment(self._around.now(), self._hash)


def _always(event: Any) -> Callable[[], Any]:
    return lambda: event


class _Collector:
    """Nothing while the log is off."""

    def __init__(self, part: AuditPart) -> None:
        self._part = part

    def collect(self) -> Iterable[Series]:
        writer = self._part.writer
        if writer is None:
            return ()
        from deviceplugin.audit.metrics import series_of  # noqa: PLC0415  # as above

        return series_of(writer)
