"""The memory of faults and cordons as a file: JSON, written whole, a damaged one set aside."""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import structlog

from deviceplugin.health.records import Cordon, Key, Memory, Remembered
from deviceplugin.model import DeviceID, Fault, FaultClass
from deviceplugin.runtime.files import write_atomically
from deviceplugin.schema import Section

log = structlog.get_logger()

FILE = "health.json"
VERSION = 1
MAX_BYTES = 4 << 20


class _SavedFault(Section, frozen=True):
    device: str
    source: str
    code: str
    reason: str
    kind: FaultClass
    action: str
    since: float | None
    boot: str | None
    mark: int | None
    times: tuple[float, ...]


class _SavedBoots(Section, frozen=True):
    device: str
    source: str
    code: str
    boots: tuple[tuple[str, float], ...]


class _SavedCordon(Section, frozen=True):
    device: str
    reason: str
    since: float


class _File(Section, frozen=True):
    version: int
    faults: tuple[_SavedFault, ...] = ()
    boots: tuple[_SavedBoots, ...] = ()
    cordons: tuple[_SavedCordon, ...] = ()


def read_memory(state_dir: Path) -> Memory:
    """What was saved; nothing where there is no file. A damaged file is renamed and told.

    Raises OSError where the file is there and cannot be read.
    """
    path = state_dir / FILE
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Memory()
    try:
        return _memory(_decoded(content))
    except (msgspec.MsgspecError, ValueError) as error:
        _set_aside(path, str(error))
        return Memory()


def write_memory(state_dir: Path, content: bytes) -> None:
    """Replace the file; raises OSError."""
    write_atomically(state_dir / FILE, content, 0o600)


def saved(memory: Memory) -> bytes:
    """The file's content: what takes a device away, sorted; what merely was told is not kept."""
    faults = [_saved_fault(r) for r in memory.faults.values() if r.fault.kind.withdraws]
    document = {
        "version": VERSION,
        "faults": sorted(faults, key=lambda f: (f["device"], f["source"], f["code"])),
        "boots": [
            {"device": key[0], "source": key[1], "code": key[2], "boots": boots}
            for key, boots in sorted(memory.boots.items())
        ],
        "cordons": [
            {"device": device, **asdict(cordon)}
            for device, cordon in sorted(memory.cordons.items())
        ],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _saved_fault(entry: Remembered) -> dict[str, Any]:
    fault = {field.name: getattr(entry.fault, field.name) for field in fields(Fault)}
    return {**fault, "boot": entry.boot, "mark": entry.mark, "times": entry.times}


def _decoded(content: bytes) -> _File:
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    file = msgspec.json.decode(content, type=_File)
    if file.version != VERSION:
        raise ValueError(f"version {file.version}, known is {VERSION}")
    return file


def _memory(file: _File) -> Memory:
    entries = dict(map(_entry, file.faults))
    cordons = {DeviceID(c.device): Cordon(reason=c.reason, since=c.since) for c in file.cordons}
    boots = {(DeviceID(b.device), b.source, b.code): b.boots for b in file.boots}
    return Memory(
        faults=MappingProxyType(entries),
        boots=MappingProxyType(boots),
        cordons=MappingProxyType(cordons),
        marks=_marks(entries),
    )


def _marks(entries: Mapping[Key, Remembered]) -> Mapping[DeviceID, int]:
    """The highest reading known of each device: one below it was taken after a reset."""
    marks: dict[DeviceID, int] = {}
    for (device, _, _), entry in entries.items():
        if entry.mark is not None:
            marks[device] = max(entry.mark, marks.get(device, 0))
    return MappingProxyType(marks)


def _entry(one: _SavedFault) -> tuple[Key, Remembered]:
    fault = Fault(
        device=DeviceID(one.device),
        source=one.source,
        code=one.code,
        reason=one.reason,
        kind=one.kind,
        action=one.action,
        since=one.since,
    )
    if not one.times:
        raise ValueError(f"{one.source}/{one.code}: a fault without a time")
    entry = Remembered(fault=fault, boot=one.boot, mark=one.mark, times=one.times)
    return fault.key, entry


def _set_aside(path: Path, problem: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(OSError):  # what cannot be renamed is overwritten by the next save
        os.replace(path, aside)
    log.error(
        "state_file_damaged",
        path=str(path),
        problem=problem,
        kept_as=str(aside),
        action="faults of before are not known: check the devices, cordon what must not be used",
    )
