"""The sections of users' documents where a file has them: their schemas, and what of them cannot be
done. Loaded by name alone, so a start without them costs nothing."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from deviceplugin.config.schema import Raw
from deviceplugin.documents.names import LISTS, NAMES
from deviceplugin.errors import ConfigError


def schemas_of(raw: Raw) -> Mapping[str, Any]:
    """The schemas of the documents' sections that are given."""
    given = raw.keys() & NAMES
    if not given:
        return {}
    from deviceplugin.documents.section import SECTIONS  # noqa: PLC0415  # where a file has one

    return {name: SECTIONS[name] for name in sorted(given)}


def own_keys(raw: Raw, node_name: str, known: Collection[str]) -> Raw:
    """The configuration with the daemon's own keys for what its documents ask; `known` are the
    sections that there are."""
    if raw.keys() & NAMES:
        from deviceplugin.documents.translate import translated  # noqa: PLC0415  # as above

        raw = translated(raw, node_name, known)
    if provisions({name: raw.get(name) for name in LISTS & {*known}}):
        from deviceplugin.documents.listed import with_listed  # noqa: PLC0415  # as above

        raw = with_listed(raw)
    return raw


def provisions(raw: Raw) -> bool:
    """Whether a section asks that what it lists is made."""
    sections = (raw.get(name) for name in LISTS)
    return any(isinstance(one, Mapping) and one.get("provision") is True for one in sections)


def claims(raw: Raw) -> Iterator[ConfigError]:
    """An error for each key that asks for what nothing here can do."""
    schemas = schemas_of(raw)
    if not schemas:
        return
    from deviceplugin.documents.told import Kind  # noqa: PLC0415  # where a file has one
    from deviceplugin.documents.walk import told  # noqa: PLC0415

    for name, schema in schemas.items():
        for entry in told(raw[name], schema, name):
            if entry.telling.kind is Kind.REFUSED:
                yield ConfigError(entry.key, entry.value, "", reason=entry.telling.text)
