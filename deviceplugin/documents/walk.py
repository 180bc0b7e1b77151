"""Every key that a document gives, with what is told of it; pure."""

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import Struct, field
from msgspec.structs import fields, replace

from deviceplugin.documents.told import Kind, Telling, Told, applied, reported

_OFF = reported("the section is switched off: `enabled` is false")
_ACTS = applied("it is a setting of the daemon")
_MAX_TEXT = 60


class Entry(Struct, frozen=True):
    """A key of a document with its value as text, what is told of it, and the keys beside it."""

    key: str
    value: str
    telling: Telling
    beside: Mapping[str, Any] = field(default_factory=dict)


def told(raw: object, schema: Any, path: str, own: Telling = _ACTS) -> Iterator[Entry]:
    """The entries of a section, one for each key whose value is no structure."""
    kind = structure(schema)
    if kind is not None and isinstance(raw, Mapping):
        off = raw.get("enabled") is False
        for one in fields(kind):
            if one.encode_name in raw:
                inner = f"{path}.{one.encode_name}"
                telling = telling_in(kind, one.encode_name, one.name)
                if off and one.encode_name != "enabled":
                    telling = _OFF
                for entry in told(raw[one.encode_name], one.type, inner, telling):
                    yield entry if entry.beside else replace(entry, beside=raw)
    elif kind is not None and isinstance(raw, list) and raw:
        for number, item in enumerate(raw):
            yield from told(item, kind, f"{path}[{number}]", own)
    else:
        yield Entry(path, _text(raw), _asked(own, raw))


def _asked(telling: Telling, raw: object) -> Telling:
    """What asks for nothing is refused nothing."""
    if telling.kind is Kind.REFUSED and not raw:
        return reported("it asks for nothing")
    return telling


def telling_in(kind: type[Struct], key: str, name: str) -> Telling:
    """What is told of a key of a section, `name` that of its field."""
    if issubclass(kind, Told):
        found = kind.TOLD.get(key, kind.OTHERS)
    else:
        idle: Mapping[str, str] = getattr(kind, "WITHOUT_EFFECT", {})
        found = reported(f"no effect: {idle[name]}") if name in idle else _ACTS
    return found


def structure(schema: Any) -> type[Struct] | None:
    """The structure that a type is, is a list of, or may be."""
    if isinstance(schema, type) and issubclass(schema, Struct):
        return schema
    if get_origin(schema) in (Annotated, Union, types.UnionType, tuple, list):
        inside = (structure(part) for part in get_args(schema))
        return next((found for found in inside if found is not None), None)
    return None


def _text(raw: object) -> str:
    plain = raw if isinstance(raw, str) else msgspec.json.encode(raw).decode()
    return plain if len(plain) <= _MAX_TEXT else f"{plain[: _MAX_TEXT - 3]}..."
