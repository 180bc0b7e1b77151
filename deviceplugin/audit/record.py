"""A record as a line: a CloudEvent with the hash of the line before it; pure."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

PREFIX = "deviceplugin."
FIRST = "0" * 64  # what stands before the first line
MAX_LINE = 1 << 18


class Event(Struct, frozen=True, kw_only=True):
    """What happened: `kind` is the type without PREFIX, `at` Unix seconds, `configuration` the hash
    of the one that was in force."""

    kind: str
    at: float
    subject: str = ""
    configuration: str = ""
    data: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Link(Struct, frozen=True):
    """A place in the chain: the number of a line, and its hash."""

    sequence: int = 0
    digest: str = FIRST


class Record(Struct, frozen=True, kw_only=True):
    """A line that was read."""

    id: str
    source: str
    type: str
    time: str
    sequence: str
    previoushash: str
    specversion: str = "1.0"
    subject: str = ""
    configuration: str = ""
    data: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The type as this program names it."""
        return self.type.removeprefix(PREFIX)


_decoder = msgspec.json.Decoder(Record)


def digest_of(line: bytes) -> str:
    """The hash of a line, without its end."""
    return hashlib.sha256(line).hexdigest()


def hash_of(document: Mapping[str, Any]) -> str:
    """Of a configuration, whatever the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return digest_of(text.encode(errors="backslashreplace"))


def line_of(event: Event, source: str, before: Link) -> bytes:
    """The line of an event behind `before`, without its end."""
    try:
        line = _encoded(event, source, before, event.data)
    except (TypeError, ValueError):  # a vendor's text may be no Unicode
        shown = {"unreadable": ascii(event.data)[: MAX_LINE // 2]}
        plain = replace(event, subject=ascii(event.subject)[1:-1])
        return _encoded(plain, source, before, shown)
    if len(line) <= MAX_LINE:
        return line
    whole = msgspec.json.encode(event.data)
    cut = {"cut_bytes": len(whole), "sha256": digest_of(whole)}
    return _encoded(event, source, before, cut)


def _encoded(event: Event, source: str, before: Link, data: Mapping[str, Any]) -> bytes:
    sequence = before.sequence + 1
    fields = {
        "specversion": "1.0",
        "id": f"{sequence}-{before.digest[:12]}",  # unique also where a log was begun anew
        "source": source,
        "type": PREFIX + event.kind,
        "time": time_text(event.at),
        **({"subject": event.subject} if event.subject else {}),
        "datacontenttype": "application/json",
        "sequence": f"{sequence:012d}",
        **({"configuration": event.configuration} if event.configuration else {}),
        "previoushash": before.digest,
        "data": data,
    }
    return msgspec.json.encode(fields)


def read_line(line: bytes) -> Record | None:
    """The record of a line, None for what is none."""
    try:
        record = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    plain = record.sequence.isascii() and record.sequence.isdecimal()
    return record if plain and len(record.sequence) <= 18 else None


def time_text(at: float) -> str:
    """Unix seconds as RFC 3339 has them."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def day_of(at: float) -> str:
    """The day of a time, in UTC."""
    return time_text(at)[:10]
