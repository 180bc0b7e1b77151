"""Sections decoded by their schemas; each error names the key, the value and what was expected."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from deviceplugin.errors import MANY, ConfigError
from deviceplugin.vendor import Sections

Raw = dict[str, Any]  # a YAML value that no schema has checked yet


class Refusals:
    """Collects what is wrong, so that a person is shown all of it at once."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []
        self._more = False

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Keep a ConfigError of the block instead of raising it."""
        try:
            yield
        except ConfigError as error:
            self.errors += error.errors
            self._more |= error.more

    def check(self) -> None:
        """Raise what was collected, as one ConfigError."""
        if self.errors:
            raise ConfigError.of_several(self.errors, more=self._more)


def decode_sections(raw: Raw, schemas: Mapping[str, Any]) -> Sections:
    """Each known section, decoded; with its defaults if it is not given.

    A schema is a Struct whose fields all have defaults, or a type that accepts None. Raises
    ConfigError with everything that is wrong.
    """
    refusals = Refusals()
    sections: dict[str, Any] = {}
    for name in sorted(schemas):
        with refusals.collect():
            given = _given(raw.get(name), schemas[name])
            sections[name] = decode(given, schemas[name], name, schemas)
    refusals.check()
    return MappingProxyType(sections)


def _given(value: object, schema: Any) -> object:
    """An empty section means its defaults."""
    return {} if value is None and isinstance(schema, type) else value


def check_keys(raw: Raw, known: Iterable[str], schemas: Mapping[str, Any]) -> None:
    """Raise ConfigError for the top-level keys that no section has."""
    known = set(known)
    unknown = [key for key in raw if key not in known][: MANY + 1]
    if unknown:
        from deviceplugin.config.problems import unknown_key  # noqa: PLC0415  # not of a `run`

        refusals = Refusals()
        refusals.errors = [unknown_key(key, raw[key], known, "", schemas) for key in unknown]
        refusals.check()


def decode(raw: object, schema: Any, name: str, schemas: Mapping[str, Any] | None = None) -> Any:
    """`raw` as the schema's value; raises ConfigError with each path below `name`.

    `schemas` are those of all sections, where a key that is misplaced may belong.
    """
    try:
        return msgspec.convert(raw, schema)
    except msgspec.ValidationError as error:
        from deviceplugin.config.problems import problems_of  # noqa: PLC0415  # not of a `run`

        refusals = Refusals()
        refusals.errors = problems_of(raw, schema, name, schemas or {name: schema})
        refusals.check()
        raise ConfigError(name, raw, "", reason=str(error)) from error
