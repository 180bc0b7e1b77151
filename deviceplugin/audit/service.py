"""The audit log as a part of the daemon; off, it imports nothing and keeps nothing."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from deviceplugin.audit.around import Around, Document, OfNode
from deviceplugin.audit.section import audit_section
from deviceplugin.errors import AllocationError
from deviceplugin.model import Inventory
from deviceplugin.resources.allocation import Allocation, Request
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
        self._writer: Writer | None = None
        self._counts: Counts | None = None
        self._hash, self._document = "", dict[str, Any]()
        self._devices, self._holders = Inventory(), dict[Any, Any]()
        self._entries: object = None

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
        if self._writer is None:
            self._follow_section("audit.started")
            return
        before = self._document
        self._take_hash()
        if self._document != before:
            changes = self._around.differences(before, self._document)
            data = {"changes": list(changes), "document": self._document}
            self._put("configuration.changed", self._hash, data)
        if self._section.enabled:
            self._writer.keep(self._section.retention_s)
        else:
            await self._end("audit.stopped")

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing while it is off."""
        return {"audit": _Collector(self)}

    @property
    def writer(self) -> "Writer | None":
        """While it is on."""
        return self._writer

    def remark(self) -> str:
        """That nothing is recorded, or less than happened."""
        writer = self._writer
        if writer is None:
            return ""
        if writer.failing:
            return f"the audit log cannot be written: {writer.failing}"
        lost = writer.counts.lost
        return f"the audit log lacks {lost} records (see its gaps)" if lost else ""

    # What happens

    def allocated(self, allocation: Allocation) -> None:
        """A listener of the allocator."""
        if (writer := self._writer) is not None:
            from deviceplugin.audit.events import granted  # noqa: PLC0415  # where it is on

            writer.put(partial(granted, self._moment(), allocation))

    def refused(self, request: Request, error: AllocationError) -> None:
        """A listener of the allocator."""
        if (writer := self._writer) is not None:
            from deviceplugin.audit.events import refused  # noqa: PLC0415  # as above

            writer.put(partial(refused, self._moment(), request, error))

    def claimed(self, what: str, who: Mapping[str, str], devices: Sequence[str]) -> None:
        """A claim of DRA was prepared, refused or released."""
        if (writer := self._writer) is not None:
            from deviceplugin.audit.events import claim  # noqa: PLC0415  # as above

            writer.put(partial(claim, self._moment(), what, who, devices))

    async def _watch_devices(self) -> None:
        async for inventory in self._around.inventory.changes():
            self._compare_devices(inventory)

    def _compare_devices(self, inventory: Inventory) -> None:
        if self._writer is None:
            return
        from deviceplugin.audit.events import devices  # noqa: PLC0415  # as above

        before, self._devices = self._devices, inventory
        for event in devices(self._moment(), before, inventory):
            self._writer.put(_always(event))

    async def _watch_holders(self) -> None:
        while True:
            self._changed.clear()
            if self._writer is None:
                await self._changed.wait()
            else:
                self._compare_holders(self._writer)
                await asyncio.sleep(self._look_s)

    def _compare_holders(self, writer: "Writer") -> None:
        """Where the kubelet has answered since: only then these are others."""
        entries = self._around.entries()
        if entries is self._entries:
            return
        from deviceplugin.audit.events import holdings  # noqa: PLC0415  # as above

        self._entries = entries
        before: Holders = self._holders
        self._holders = {key: entry.holder for key, entry in entries.items()}
        for event in holdings(self._moment(), before, self._holders):
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
        self._counts = self._counts or Counts()
        self._writer = Writer(chain, self._around.now, self._counts)
        self._writer.keep(self._section.retention_s)
        self._take_hash()
        self._put(kind, self._hash, {"document": self._document})
        self._writer.start()
        self._devices, self._holders, self._entries = Inventory(), {}, None
        self._compare_devices(self._around.inventory.value)
        self._changed.set()

    async def _end(self, kind: str) -> None:
        if self._writer is not None:
            self._put(kind, self._hash, {})
            writer, self._writer = self._writer, None
            await asyncio.to_thread(writer.close)

    def _take_hash(self) -> None:
        self._document = dict(self._around.describe(self._config))
        self._hash = hash_of(self._document)

    def _put(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        if self._writer is not None:
            self._writer.put(_always(self._moment().event(kind, subject, data)))

    def _moment(self) -> "Moment":
        from deviceplugin.audit.events import Moment  # noqa: PLC0415  # as above

        return Moment(self._around.now(), self._hash)


def hash_of(document: Document) -> str:
    """Of a configuration, whatever the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


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
