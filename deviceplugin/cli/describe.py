"""The sections as a JSON Schema and as a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import fields

from deviceplugin.config.config import LOG_FORMATS, LOG_LEVELS
from deviceplugin.config.load import CORE_SECTIONS, FILE_SETTINGS
from deviceplugin.documents.section import SECTIONS
from deviceplugin.documents.walk import structure, telling_in
from deviceplugin.resources.methods import sharing_schema
from deviceplugin.schema import one_lined
from deviceplugin.vendor import VendorModule

_TEXT = {"type": "string"}
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "vendors": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
    "log_level": {"enum": list(LOG_LEVELS)},
    "log_format": {"enum": list(LOG_FORMATS)},
    "allow_unsupported": {"type": "boolean"},
}


def schema_document(modules: Sequence[VendorModule]) -> dict[str, Any]:
    """The JSON Schema of a configuration, with the sections of `modules`."""
    sections = {name: schema for module in modules for name, schema in module.SECTIONS.items()}
    sections |= {**CORE_SECTIONS, "sharing": sharing_schema(modules), **SECTIONS}
    names = sorted(sections)
    shapes, parts = msgspec.json.schema_components(
        [sections[name] for name in names], ref_template="#/$defs/{name}"
    )
    settings = {name: _KINDS.get(name, _TEXT) for name in FILE_SETTINGS}
    optional = {n: {"anyOf": [s, {"type": "null"}]} for n, s in zip(names, shapes, strict=True)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of deviceplugin",
        "type": "object",
        "properties": dict(sorted({**settings, **optional}.items())),
        "additionalProperties": False,
        "$defs": one_lined(dict(sorted(parts.items()))),
    }


def keys_table() -> str:
    """The keys of users' documents with their verdicts, in Markdown."""
    rows = [row for name in sorted(SECTIONS) for row in _rows(SECTIONS[name], name)]
    return "\n".join(("| Key | Verdict | What happens |", "|---|---|---|", *rows)) + "\n"


def _rows(kind: type[msgspec.Struct], path: str) -> Iterator[str]:
    for field in fields(kind):
        full = f"{path}.{field.encode_name}"
        inner = structure(field.type)
        if inner is None or "Literal" in repr(field.type):
            telling = telling_in(kind, field.encode_name, field.name)
            yield f"| `{full}` | {telling.kind} | {telling.text} |"
        if inner is not None:
            is_list = "tuple" in repr(field.type)
            yield from _rows(inner, f"{full}[]" if is_list else full)
