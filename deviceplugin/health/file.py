"""The fault records and cordons as a file: JSON, written whole, a damaged one set aside.

A later version of the daemon may write keys that this one does not know: they are ignored, and
written back as they were. So neither an update nor a rollback loses a fault or a cordon.
"""

import contextlib
import json
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import structlog
from msgspec.structs import asdict

from deviceplugin.files.reading import ForeignFileError, IrregularFileError, read_own
from deviceplugin.health.records import Cordon, FaultRecords, Key, Record
from deviceplugin.model import DeviceID, Fault, FaultClass
from deviceplugin.runtime.files import write_atomically

log = structlog.get_logger()

FILE = "health.json"
VERSION = 1
MAX_BYTES = 4 << 20
Document = Mapping[str, Any]  # Any: JSON
NO_DOCUMENT: Document = MappingProxyType({})


class _SavedFault(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    source: str
    code: str
    reason: str
    kind: str
    times: tuple[float, ...]
    action: str = ""
    since: float | None = None
    boot: str | None = None
    mark: int | None = None


class _SavedBoots(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    source: str
    code: str
    boots: tuple[tuple[str, float], ...]


class _SavedCordon(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    reason: str
    since: float


class _File(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    faults: tuple[_SavedFault, ...] = ()
    boots: tuple[_SavedBoots, ...] = ()
    cordons: tuple[_SavedCordon, ...] = ()


class SavedState(msgspec.Struct, frozen=True, kw_only=True):
    """What the file held: the records, and the document with what else stood in it."""

    records: FaultRecords = msgspec.field(default_factory=FaultRecords)
    document: Document = msgspec.field(default_factory=lambda: NO_DOCUMENT)


def read_state(state_dir: Path) -> SavedState:
    """What was saved; nothing where there is no file. A damaged file, or what others can have
    written, is renamed and logged.

    Raises OSError where the file is there and cannot be read.
    """
    path = state_dir / FILE
    try:
        content = read_own(path, MAX_BYTES + 1)
    except FileNotFoundError:
        return SavedState()
    except (IrregularFileError, ForeignFileError) as error:
        _set_aside(path, error.strerror or str(error))
        return SavedState()
    try:
        return SavedState(
            records=_records(_decoded(content)), document=msgspec.json.decode(content)
        )
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        _set_aside(path, str(error))
        return SavedState()


def write_state(state_dir: Path, content: bytes) -> None:
    """Replace the file; raises OSError."""
    write_atomically(state_dir / FILE, content, 0o600)


def saved(records: FaultRecords, before: Document = NO_DOCUMENT) -> bytes:
    """The file's content, sorted: the cordons and the faults that make a device Unhealthy.

    The keys of `before` that this version does not know are kept, at the top and in each entry
    that still stands.
    """
    faults = [_saved_fault(r) for r in records.faults.values() if r.fault.kind.withdraws]
    known: dict[str, list[dict[str, Any]]] = {
        "faults": sorted(faults, key=_fault_key),
        "boots": [
            {"device": key[0], "source": key[1], "code": key[2], "boots": boots}
            for key, boots in sorted(records.boots.items())
        ],
        "cordons": [
            {"device": device, **asdict(cordon)}
            for device, cordon in sorted(records.cordons.items())
        ],
    }
    document = {**before, "version": VERSION}
    for name, entries in known.items():
        document[name] = list(_with_unknown(entries, before.get(name, ()), _KEYS[name]))
    return json.dumps(document, indent=1).encode() + b"\n"


def _fault_key(entry: Document) -> tuple[str, str, str]:
    return entry["device"], entry["source"], entry["code"]


def _standing_key(entry: Document) -> Hashable:
    """A fault or a cordon of another time is another one."""
    return entry["device"], entry.get("source"), entry.get("code"), entry.get("since")


_KEYS: Mapping[str, Callable[[Document], Hashable]] = {
    "faults": _standing_key,
    "boots": _fault_key,
    "cordons": _standing_key,
}


def _with_unknown(
    entries: Iterable[Document], before: Iterable[Document], key: Callable[[Document], Hashable]
) -> Iterable[Document]:
    known = {key(entry): entry for entry in before}
    for entry in entries:
        yield {**entry, **{k: v for k, v in known.get(key(entry), {}).items() if k not in entry}}


def _saved_fault(entry: Record) -> dict[str, Any]:
    fault = asdict(entry.fault)
    return {**fault, "boot": entry.boot, "mark": entry.reset_counter, "times": entry.times}


def _decoded(content: bytes) -> _File:
    """Of any version: a later one is read as far as it is known."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    file = msgspec.json.decode(content, type=_File)
    if file.version < VERSION:
        raise ValueError(f"version {file.version}, the first was {VERSION}")
    return file


def _records(file: _File) -> FaultRecords:
    entries = dict(_entry(one, file.version) for one in file.faults)
    cordons = {DeviceID(c.device): Cordon(reason=c.reason, since=c.since) for c in file.cordons}
    boots = {(DeviceID(b.device), b.source, b.code): b.boots for b in file.boots}
    return FaultRecords(
        faults=MappingProxyType(entries),
        boots=MappingProxyType(boots),
        cordons=MappingProxyType(cordons),
        reset_counters=_reset_counters(entries),
    )


def _reset_counters(entries: Mapping[Key, Record]) -> Mapping[DeviceID, int]:
    """The highest reading known of each device: one below it was taken after a reset."""
    readings: dict[DeviceID, int] = {}
    for (device, _, _), entry in entries.items():
        if entry.reset_counter is not None:
            readings[device] = max(entry.reset_counter, readings.get(device, 0))
    return MappingProxyType(readings)


def _entry(one: _SavedFault, version: int) -> tuple[Key, Record]:
    fault = Fault(
        device=DeviceID(one.device),
        source=one.source,
        code=one.code,
        reason=one.reason,
        kind=_kind(one.kind, version),
        action=one.action,
        since=one.since,
    )
    if not one.times:
        raise ValueError(f"{one.source}/{one.code}: a fault without a time")
    return fault.key, Record(fault=fault, boot=one.boot, reset_counter=one.mark, times=one.times)


def _kind(text: str, version: int) -> FaultClass:
    """The class; one that only a later version knows is taken for the most serious."""
    if text in set(FaultClass):
        return FaultClass(text)
    if version > VERSION:
        return FaultClass.HARDWARE
    raise ValueError(f"{text[:20]!r} is not a class of faults")


def _set_aside(path: Path, problem: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(OSError):  # what cannot be renamed is overwritten by the next save
        os.replace(path, aside)
    log.error(
        "state_file_damaged",
        path=str(path),
        problem=problem,
        kept_as=str(aside),
        action="earlier faults are unknown: check the devices, cordon what must not be used",
    )
