"""What a person should know of a configuration that is in force: said in the log and by `check`."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from deviceplugin.config.config import Config
from deviceplugin.schema import Section


def notices(config: Config) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The events of the log, with their fields."""
    for note in config.notes:
        yield "setting_without_effect", {"setting": note}
    for text in config.renamed:
        yield "setting_renamed", {"setting": text}
    for text in config.conflicts:
        yield "setting_replaced", {"setting": text}
    for text in config.unsupported:
        yield "setting_unsupported", {"setting": text}
    for text in config.beside:
        yield "document_without_configuration", {"document": text}
    for text in config.unread:
        yield "configuration_file_not_read", {"reason": text}
    for line in config.ignored:
        yield "vendor_ignored", {"reason": line}


def notice_lines(config: Config) -> Iterator[str]:
    """The same for a terminal, and which configuration of several this node has."""
    if config.chosen:
        yield f"configuration of this node: {config.chosen}"
    yield from (f"without effect: {note}" for note in config.notes)
    yield from (f"renamed: {text}" for text in config.renamed)
    yield from (f"replaced: {text}" for text in config.conflicts)
    yield from (f"unsupported: {text}" for text in config.unsupported)
    yield from (f"no configuration: {text}" for text in config.beside)
    yield from (f"not read: {text}" for text in config.unread)
    for line in (*(status.error for status in config.skipped), *config.ignored):
        yield f"deviceplugin: {line}"


def without_effect(raw: Mapping[str, Any], sections: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that a document gives and that change nothing, each with the reason."""
    found = (line for name in sections for line in _idle(raw.get(name), sections[name], name))
    return tuple(dict.fromkeys(found))


def _idle(raw: object, value: object, path: str) -> Iterator[str]:
    if isinstance(raw, Mapping) and isinstance(value, msgspec.Struct):
        keys = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        idle = value.without_effect() if isinstance(value, Section) else {}
        for key, field in keys:
            if raw.get(key) is None:
                continue
            if key in idle:
                yield f"{path}.{key}: {idle[key]}"
            yield from _idle(raw[key], getattr(value, field), f"{path}.{key}")
    elif isinstance(raw, list) and isinstance(value, tuple):
        for one, item in zip(raw, value, strict=False):
            yield from _idle(one, item, f"{path}[]")
