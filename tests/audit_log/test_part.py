"""The audit log as a part of the daemon: on, off, and through a reload."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, field

from deviceplugin.audit.around import Around
from deviceplugin.audit.record import hash_of
from deviceplugin.audit.section import AuditSection
from deviceplugin.audit.segments import DIRECTORY
from deviceplugin.audit.service import AuditPart
from deviceplugin.audit.verify import verify_log
from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import AdvertisedID, ContainerEdits, Device, DeviceID, ResourceName
from deviceplugin.resources.allocation import Allocation, Request
from deviceplugin.resources.entries import Holder, LedgerEntry
from tests.audit_log.logs import kinds, records
from tests.audit_log.test_events import DEVICE, ENTRY, RESOURCE

NOW = 1_700_000_000.0
GIVEN = Allocation(RESOURCE, (ENTRY,), (DEVICE,), ContainerEdits())
KEY = (ResourceName("nvidia.com/gpu"), AdvertisedID("a"))


class Settings(Struct, frozen=True):
    """Of a node."""

    state_dir: Path
    sections: Mapping[str, Any] = field(default_factory=dict)
    node_name: str = "node-1"


class Node:
    """What the part is about."""

    def __init__(self, state_dir: Path) -> None:
        self.log = state_dir / DIRECTORY
        self.store = InventoryStore(lambda: NOW)
        self.entries: Mapping[Any, LedgerEntry] = {}
        self.state_dir = state_dir
        around = Around[Any](
            now=lambda: NOW,
            inventory=self.store.latest,
            entries=lambda: self.entries,
            describe=lambda config: {"audit": str(config.sections.get("audit"))},
            differences=lambda before, after: [{"before": before, "after": after}],
        )
        self.part: AuditPart = AuditPart(self.settings(), around, look_s=0.001)

    def settings(self, **keys: Any) -> Settings:
        return Settings(self.state_dir, {"audit": AuditSection(**{"enabled": True, **keys})})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[AuditPart]:
        async with self.part.serving():
            tasks = [asyncio.ensure_future(once()) for once in self.part.tasks().values()]
            try:
                yield self.part
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def has(self, *wanted: str) -> None:
        async with asyncio.timeout(30):
            while not (self.log.exists() and set(wanted) <= {*kinds(self.log)}):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_what_happens_is_recorded_from_start_to_end(tmp_path: Path) -> None:
    node = Node(tmp_path)
    async with node.serving() as part:
        node.store.set_devices(
            "nvidia", [Device(id=DeviceID("a"), vendor="nvidia", resource=KEY[0])]
        )
        part.allocated(GIVEN)
        error = AllocationError(Refusal.UNKNOWN, "no")
        part.refused(Request(RESOURCE, {}, ["b"]), error)
        part.claimed("prepared", {"namespace": "x", "claim": "y", "uid": "z"}, ["a"])
        node.entries = {
            KEY: LedgerEntry(since_s=0.0, holder=Holder(namespace="x", pod="pod", container="main"))
        }
        await node.has("allocation.held", "device.found")
        node.entries = {}
        await node.has("allocation.released")
    assert {*kinds(node.log)} == {
        *("daemon.started", "device.found", "allocation.granted", "allocation.refused"),
        *("claim.prepared", "allocation.held", "allocation.released", "daemon.stopped"),
    }
    first = records(node.log)[0]
    assert first.configuration == hash_of(first.data["document"])
    assert {record.configuration for record in records(node.log)} == {first.configuration}
    assert verify_log(node.log).problems == []


async def test_off_it_has_no_file_and_no_series(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.part.use(node.settings(enabled=False))
    async with node.serving() as part:
        part.allocated(GIVEN)
        assert part.writer is None
        assert list(part.collectors()["audit"].collect()) == []
    assert not node.log.exists()


async def test_a_reload_is_a_record_with_what_changed(tmp_path: Path) -> None:
    node = Node(tmp_path)
    async with node.serving() as part:
        await part.use(node.settings())
        await part.use(node.settings(retention="7y"))
        part.allocated(GIVEN)
    started, changed, given, _ = records(node.log)
    assert [started.kind, changed.kind] == ["daemon.started", "configuration.changed"]
    assert changed.data["changes"][0]["before"] == started.data["document"]
    assert changed.subject == changed.configuration == given.configuration
    assert changed.configuration != started.configuration


async def test_it_is_switched_off_and_on_by_a_reload(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.store.set_devices("nvidia", [Device(id=DeviceID("a"), vendor="nvidia", resource=KEY[0])])
    async with node.serving() as part:
        await part.use(node.settings(enabled=False))
        part.allocated(GIVEN)
        await part.use(node.settings())
    assert kinds(node.log) == [
        *("daemon.started", "device.found", "configuration.changed", "audit.stopped"),
        *("audit.started", "device.found", "daemon.stopped"),
    ]


async def test_series_and_the_remark_say_what_is_missing(tmp_path: Path) -> None:
    node = Node(tmp_path)
    async with node.serving() as part:
        await node.has("daemon.started")
        assert part.remark() == ""
        writer = part.writer
        assert writer is not None
        writer.counts.lost = 3
        values = {
            line.split()[0]: float(line.split()[1])
            for series in part.collectors()["audit"].collect()
            for line in series.lines()
            if not line.startswith("#")
        }
        assert values["deviceplugin_audit_lost_total"] == 3
        assert values["deviceplugin_audit_failing"] == 0
        assert values["deviceplugin_audit_records_total"] >= 1
        assert part.remark() == "the audit log lacks 3 records (see its gaps)"


async def test_a_directory_that_is_no_directory_is_told_and_keeps_nothing_up(
    tmp_path: Path,
) -> None:
    (tmp_path / DIRECTORY).write_text("")
    node = Node(tmp_path)
    async with node.serving() as part:
        part.allocated(GIVEN)
        async with asyncio.timeout(30):
            while not part.remark():  # noqa: ASYNC110  # of a thread
                await asyncio.sleep(0.01)
        assert "cannot be written" in part.remark()


@pytest.mark.parametrize(
    ("text", "days"), [("24h", 1), ("90d", 90), ("7y", 2555), ("1 d", 1), ("100y", 36500)]
)
def test_retention_is_a_time(text: str, days: int) -> None:
    assert AuditSection(retention=text).retention_s == days * 86400


def test_a_retention_of_more_than_a_century_is_refused() -> None:
    with pytest.raises(ValueError, match="retention: at most 100y"):
        AuditSection(retention="101y")
