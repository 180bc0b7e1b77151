"""Sections decoded by their schemas; each error names the key, the value and what was expected."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from deviceplugin.errors import ConfigError
from deviceplugin.vendor import Sections

Raw = dict[str, Any]  # a YAML value that no schema has checked yet


def decode_sections(raw: Raw, schemas: Mapping[str, Any]) -> Sections:
    """Each known section, decoded; with its defaults if it is not given.

    A schema is a Struct whose fields all have defaults, or a type that accepts None.
    """
    return MappingProxyType(
        {
            name: decode(_given(raw.get(name), schemas[name]), schemas[name], name)
            for name in sorted(schemas)
        }
    )


def _given(value: object, schema: Any) -> object:
    """An empty section means its defaults."""
    return {} if value is None and isinstance(schema, type) else value


def check_keys(raw: Raw, known: Iterable[str]) -> None:
    """Raise ConfigError for a top-level key that no section has."""
    known = sorted(known)
    for key, value in raw.items():
        if key not in known:
            raise ConfigError(key, value, _known_keys(key, known))


def decode(raw: object, schema: Any, name: str) -> Any:
    """`raw` as the schema's value; raises ConfigError with the path below `name`."""
    try:
        return msgspec.convert(raw, schema)
    except msgspec.ValidationError as error:
        raise _config_error(str(error), raw, schema, name) from error


def _config_error(text: str, raw: object, schema: Any, name: str) -> ConfigError:
    """msgspec's message, "Expected … - at `$.a[0].b`", with the key, the value and the choice."""
    match = re.fullmatch(r"(?s)(.*?)(?: - at `(?:key in )?\$(.*)`)?", text)
    problem, steps = match.groups() if match else (text, "")
    path = re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", steps or "")
    value, info = _walk(raw, msgspec.inspect.type_info(schema), path)
    field, expected = _problem(problem, _field_names(info))
    if field is None:
        return ConfigError(f"{name}{steps or ''}", value, _choices(info) or expected)
    found = value.get(field) if isinstance(value, dict) else value
    return ConfigError(f"{name}{steps or ''}.{field}", found, expected)


def _problem(problem: str, known: list[str]) -> tuple[str | None, str]:
    """The field of the record that the message names, if any, and what was expected of it.

    A section's own check raises `field: what it must be`.
    """
    if match := re.fullmatch(r"(?s)Object contains unknown field `(.*)`", problem):
        return match[1], _known_keys(match[1], known)
    if match := re.fullmatch(r"Object missing required field `(.*)`", problem):
        return match[1], "a value: this key is required"
    if match := re.fullmatch(r"Expected (.*?)(?:, got .*)?", problem):
        return None, match[1].replace("`", "")
    field, _, expected = problem.partition(": ")
    return (field, expected) if field in known else (None, problem)


def _walk(raw: Any, info: Any, path: Iterable[tuple[str, str]]) -> tuple[Any, Any]:
    """The value and the schema at a path, as far as the path can be followed."""
    for name, index in path:
        info = _child(_without_none(info), name)
        try:
            raw = raw[int(index)] if index else raw[name]
        except (KeyError, IndexError, TypeError):
            return raw, info
    return raw, _without_none(info)


def _child(info: Any, name: str) -> Any:
    fields = {f.encode_name: f.type for f in getattr(info, "fields", ())}
    return fields.get(name, getattr(info, "item_type", info))


def _without_none(info: Any) -> Any:
    members = [m for m in getattr(info, "types", ()) if not isinstance(m, msgspec.inspect.NoneType)]
    return members[0] if len(members) == 1 else info


def _field_names(info: Any) -> list[str]:
    return [f.encode_name for f in getattr(info, "fields", ())]


def _choices(info: Any) -> str:
    values = getattr(info, "values", ())
    return "one of " + ", ".join(str(value) for value in values) if values else ""


def _known_keys(key: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415  # not a part of a `run` that works

    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"a known key: {hint}known here are {', '.join(sorted(known))}"
