"""`deviceplugin check DOCUMENT`: what is told of every key of the documents."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from deviceplugin.config.effective import effective
from deviceplugin.config.files import read_pieces
from deviceplugin.config.load import CORE_SECTIONS, SETTINGS, load
from deviceplugin.config.pieces import NATIVE, Piece
from deviceplugin.documents.expect import is_held, of_other_nodes, outcome
from deviceplugin.documents.manifests import entries as manifest_entries
from deviceplugin.documents.native import telling_of
from deviceplugin.documents.section import SECTIONS
from deviceplugin.documents.told import Kind, applied, refused, reported
from deviceplugin.documents.walk import Entry, told
from deviceplugin.errors import ConfigError
from deviceplugin.resources.methods import sharing_schema
from deviceplugin.runtime.tables import table
from deviceplugin.vendor import VendorModule

Document = dict[str, Any]
_HELD = ("metrics_address", "log_level")  # settings that practices are held against
_SETTING = applied("it is a setting of the daemon")
_V1 = applied("read as NVIDIA's own plugin reads it, see docs/sharing.md")


def verdicts(
    flags: Mapping[str, str | None], path: str, report: Mapping[str, Any] | None = None
) -> Document:
    """The verdicts on all documents of a file or directory; `report` is that of `discover` on the
    node that expectations are held against. Raises ConfigError where it cannot be read."""
    pieces = read_pieces(Path(path))
    try:
        config, modules = load({**flags, "config": path, "allow_unsupported": "true"})
        wrong: Sequence[ConfigError] = ()
        known = config.node_name
        if report is not None:
            known_here = {key: effective(config)[key] for key in _HELD}
            report = {**report, **known_here}
    except ConfigError as error:
        wrong, known = error.errors, ""
        modules = load({"allow_unsupported": "true"})[1]
    schemas = _schemas(modules)
    documents = [
        {"document": piece.place, "kind": piece.kind, "keys": keys}
        for piece in pieces
        if (keys := [_shown(e, report) for e in _entries(piece, schemas, known)])
    ]
    if wrong:
        documents.append({"document": path, "kind": "errors", "keys": list(map(_wrong, wrong))})
    return {"documents": documents}


def _schemas(modules: Sequence[VendorModule]) -> Mapping[str, Any]:
    own = {name: schema for module in modules for name, schema in module.SECTIONS.items()}
    return {**own, **CORE_SECTIONS, "sharing": sharing_schema(modules), **SECTIONS}


def _entries(piece: Piece, schemas: Mapping[str, Any], node: str) -> Iterator[Entry]:
    if piece.kind == "ConfigMap":
        return
    if piece.kind != NATIVE:
        yield from manifest_entries(piece.kind, piece.content)
        return
    found = [entry for key in piece.content for entry in _native(key, piece.content, schemas)]
    others = {entry.key for entry in of_other_nodes(found, piece.content, node)}
    elsewhere = reported("it is about another node")
    for entry in found:
        yield Entry(entry.key, entry.value, elsewhere) if entry.key in others else entry


def _native(key: str, content: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Entry]:
    if "version" in content:
        yield Entry(key, "", _V1)
    elif key in SETTINGS:
        yield Entry(key, str(content[key]), _SETTING)
    elif key in schemas:
        for entry in told(content[key], schemas[key], key):
            yield replace(entry, telling=telling_of(entry.key, entry.telling))


def _wrong(error: ConfigError) -> Document:
    text = str(error).partition(" is not valid")[2].lstrip(":, ")
    return _row(Entry(error.key, str(error.value), refused(text or error.expected)))


def _row(entry: Entry) -> Document:
    telling = entry.telling
    return {
        "key": entry.key,
        "value": entry.value,
        "verdict": str(telling.kind),
        "text": telling.text,
    }


def _shown(entry: Entry, report: Mapping[str, Any] | None) -> Document:
    row = _row(entry)
    asked = entry.telling.kind is Kind.REFUSED and is_held(entry.key)
    if report is not None and (asked or entry.telling.kind is Kind.CHECKED):
        found = outcome(entry, report)
        row |= {"met": found.met, "measured": found.measured}
    return row


def refusals(document: Document) -> Sequence[Document]:
    """The keys that are refused."""
    keys = (key for one in document["documents"] for key in one["keys"])
    return [key for key in keys if key["verdict"] == Kind.REFUSED]


def only(document: Document, key: str) -> Document:
    """The verdicts on one key, or on those below it."""
    below = (f"{key}.", f"{key}[")
    return {
        "documents": [
            {**one, "keys": keys}
            for one in document["documents"]
            if (keys := [k for k in one["keys"] if k["key"] == key or k["key"].startswith(below)])
        ]
    }


def verdicts_text(document: Document) -> str:
    """One table a document."""
    return "\n\n".join(_tables(document)) + "\n"


def _tables(document: Document) -> Iterator[str]:
    for one in document["documents"]:
        rows = [(k["key"], k["value"], k["verdict"], _effect(k)) for k in one["keys"]]
        yield f"{one['document']} ({one['kind']})"
        yield table(("KEY", "VALUE", "VERDICT", "EFFECT"), rows)
    if not document["documents"]:
        yield "Nothing is said."


def _effect(key: Document) -> str:
    if "measured" not in key:
        return str(key["text"])
    if key["verdict"] == Kind.REFUSED:
        return f"{key['text']}; on this node: {key['measured']}"
    words = {True: "met", False: "not met", None: "unknown"}
    return f"{words[key['met']]}: {key['measured']}"
