"""What is wrong with a section that its schema refuses: every place of it, in a person's words.

Loaded only when there is something to say.
"""

import difflib
import enum
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta
from msgspec.structs import fields

from deviceplugin.config.hints import hint_of
from deviceplugin.errors import MANY, ConfigError

_OF_STEPS = re.compile(r"(?s)(.*?)(?: - at `(?:key in )?\$.*`)?")
MAX_PLACES, MAX_ITEM = 3, 24


def problems_of(
    raw: object, schema: Any, name: str, schemas: Mapping[str, Any]
) -> list[ConfigError]:
    """The places of `raw` that the schema refuses, with their paths from `name` on; so many that
    it is seen whether there are more than are shown."""
    return list(islice(_Search(schemas).problems(raw, schema, name), MANY + 1))


def unknown_key(
    key: str, value: object, known: Iterable[str], path: str, schemas: Mapping[str, Any]
) -> ConfigError:
    """An error that says where the key belongs, or what it was meant to be."""
    full = f"{path}.{key}" if path else key
    if not path and (hint := hint_of(key)):
        return ConfigError(full, value, hint, reason=f"there is no such key: {hint}")
    return ConfigError(full, value, _instead(key, sorted(known), path, schemas))


def _instead(key: str, known: list[str], path: str, schemas: Mapping[str, Any]) -> str:
    places = sorted({place for place in _places(schemas, key) if place != path})
    listed = ", ".join(known)
    if 0 < len(places) <= MAX_PLACES:
        return f"a known key: {key!r} belongs under {' or '.join(places)}"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"a known key: {hint}known here are {listed}"


def _places(schemas: Mapping[str, Any], key: str) -> Iterator[str]:
    """The sections, and the sections in sections, that have a key of this name."""
    for name, schema in sorted(schemas.items()):
        yield from _places_below(name, schema, key)


def _places_below(path: str, schema: Any, key: str) -> Iterator[str]:
    for kind in _members(_bare(schema)[0]):
        if not _is_struct(kind):
            continue
        for field in fields(kind):
            if field.encode_name == key:
                yield path
            yield from _places_below(f"{path}.{field.encode_name}", field.type, key)


class _Search:
    """A walk through a value and its schema side by side."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas

    def problems(self, value: object, kind: Any, path: str) -> Iterator[ConfigError]:
        bare, notes = _bare(kind)
        inner = _fitting(value, bare)
        if inner is not bare:
            yield from self.problems(value, inner, path)
        elif _is_struct(bare) and isinstance(value, Mapping):
            yield from self._of_struct(value, bare, path)
        elif get_origin(bare) in (tuple, list) and isinstance(value, list):
            yield from self._of_list(value, bare, notes, path)
        elif get_origin(bare) is dict and isinstance(value, Mapping):
            yield from self._of_mapping(value, bare, path)
        elif not _converts(value, kind):
            yield ConfigError(path, value, expectation(kind, value))

    def _of_struct(self, value: Mapping[str, Any], kind: Any, path: str) -> Iterator[ConfigError]:
        known = {field.encode_name: field for field in fields(kind)}
        found = []
        if kind.__struct_config__.forbid_unknown_fields:
            unknown = [key for key in value if key not in known][: MANY + 1]
            found += [unknown_key(str(k), value[k], known, path, self._schemas) for k in unknown]
        for name, field in known.items():
            if name in value:
                found += self.problems(value[name], field.type, f"{path}.{name}")
            elif field.required:
                text = f"this key: it is required here, {expectation(field.type, None)}"
                found.append(ConfigError(f"{path}.{name}", None, text))
        yield from found or _own_check(value, kind, path)

    def _of_list(
        self, value: list[Any], kind: Any, notes: list[Meta], path: str
    ) -> Iterator[ConfigError]:
        item = next(iter(get_args(kind)), Any)
        every = (
            error
            for index, one in enumerate(value)
            for error in self.problems(one, item, f"{path}[{index}]")
        )
        found = list(islice(every, MANY + 1))
        least = max((note.min_length or 0 for note in notes), default=0)
        if len(value) < least:
            found.append(ConfigError(path, value, f"a list of at least {least}"))
        yield from found

    def _of_mapping(self, value: Mapping[Any, Any], kind: Any, path: str) -> Iterator[ConfigError]:
        key_kind, value_kind = get_args(kind)
        for key, one in value.items():
            if not _converts(key, key_kind):
                yield ConfigError(f"{path}.{key}", one, f"{expectation(key_kind, key)} as a key")
            yield from self.problems(one, value_kind, f"{path}.{key}")


def _own_check(value: Mapping[str, Any], kind: Any, path: str) -> Iterator[ConfigError]:
    """The check of the section itself: `key: what it must be`, or a sentence."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        match = _OF_STEPS.fullmatch(str(error))
        text = match[1] if match else str(error)
        field, _, expected = text.partition(": ")
        if expected and field in {f.encode_name for f in fields(kind)}:
            yield ConfigError(f"{path}.{field}", value.get(field), expected)
        else:
            yield ConfigError(path, value, text, reason=text)


def _converts(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _bare(kind: Any) -> tuple[Any, list[Meta]]:
    """The type without its annotations, and these."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        return inner, [note for note in notes if isinstance(note, Meta)]
    return kind, []


def _members(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(member for member in get_args(kind) if member is not types.NoneType)
    return (kind,)


def _fitting(value: object, kind: Any) -> Any:
    """Of a choice of types the one that the value was meant for; else the type itself."""
    members = _members(kind)
    if value is None or members == (kind,):
        return kind
    if len(members) == 1:
        return members[0]
    for member in members:
        bare = _bare(member)[0]
        if isinstance(value, Mapping) and (_is_struct(bare) or get_origin(bare) is dict):
            return member
        if isinstance(value, list) and get_origin(bare) in (tuple, list):
            return member
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def expectation(kind: Any, value: object) -> str:
    """What to write where `value` stands."""
    bare, notes = _bare(kind)
    for note in notes:
        if note.description:
            return note.description
    members = _members(bare)
    if len(members) > 1:
        return _either(members, value)
    return _one(members[0], notes, value) if members != (bare,) else _one(bare, notes, value)


def _either(members: tuple[Any, ...], value: object) -> str:
    wanted = [m for m in members if not _is_struct(_bare(m)[0])] or list(members)
    return " or ".join(dict.fromkeys(expectation(member, value) for member in wanted))


def _one(kind: Any, notes: list[Meta], value: object) -> str:
    kind, inner = _bare(kind)
    notes = [*notes, *inner]
    described = next((note.description for note in notes if note.description), None)
    choices = _choices(kind)
    if described or choices:
        return described or _chosen(choices, value)
    return _of_type(kind, notes, value)


def _of_type(kind: Any, notes: list[Meta], value: object) -> str:
    if kind is bool:
        return "true or false, without quotes"
    if kind in (int, float):
        return _number(kind, notes, value)
    if kind is str:
        return _text(value)
    if get_origin(kind) in (tuple, list):
        return _list(kind, value)
    if not _is_struct(kind):
        return "keys and values"
    return f"keys and values, of {', '.join(f.encode_name for f in fields(kind))}"


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return sorted(map(str, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return sorted(str(member.value) for member in kind)
    return []


def _chosen(choices: list[str], value: object) -> str:
    near = difflib.get_close_matches(str(value).lower(), choices, n=1)
    hint = f": did you mean {near[0]!r}?" if near and len(choices) > 1 else ""
    return (f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]) + hint


def _number(kind: type, notes: list[Meta], value: object) -> str:
    text = "a whole number" if kind is int else "a number"
    for note in notes:
        if note.ge is not None:
            text += f" from {note.ge:.12g}"
        if note.gt is not None:
            text += f" above {note.gt:.12g}"
        if note.le is not None:
            text += f" to {note.le:.12g}" if note.ge is not None else f", at most {note.le:.12g}"
    return f"{text}, without quotes" if isinstance(value, str) and value.isdigit() else text


def _text(value: object) -> str:
    if isinstance(value, bool | int | float):
        return f'text: write it in quotes, "{str(value).lower()}"'
    return "one text" if isinstance(value, list | Mapping) else "text"


def _list(kind: Any, value: object) -> str:
    items = [part.strip() for part in str(value).split(",")] if isinstance(value, str) else [value]
    item = next(iter(get_args(kind)), Any)
    if len(str(value)) <= MAX_ITEM and all(_converts(one, item) for one in items):
        return f"a list: write [{', '.join(map(str, items))}]"
    if choices := _choices(_bare(item)[0]):
        return f"a list of {', '.join(choices)}"
    return "a list, each entry on a line that begins with '- '"
