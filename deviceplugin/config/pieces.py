"""The documents of a file: configurations, also those inside ConfigMaps, and manifests beside them;
pure."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from deviceplugin.config.hints import foreign_file
from deviceplugin.config.yaml import parse_documents
from deviceplugin.errors import ConfigError

Raw = dict[str, Any]
NATIVE = "configuration"
# Data keys of a ConfigMap that are another program's, by their endings.
_FOREIGN = {".toml": "containerd", ".conf": "CRI-O"}
MAX_DOCUMENTS = 200  # of all files together; the values of each have a bound of their own
_DEEP = 4  # a List in a List in …


class Piece(Struct, frozen=True):
    """A document: `place` is where it stands (`a.yaml`, `a.yaml#2`, `a.yaml: config.yaml`), `kind`
    NATIVE, that of a manifest, or the program that it configures."""

    place: str
    kind: str
    content: Raw


def pieces_of(place: str, text: bytes) -> Sequence[Piece]:
    """The documents of a file, in their order; raises ConfigError."""
    try:
        documents = parse_documents(text)
    except ValueError as error:
        raise ConfigError("--config", place, f"YAML ({error})") from error
    several = len([one for one in documents if one is not None]) > 1
    found: list[Piece] = []
    for number, content in enumerate(documents, 1):
        if content is not None:
            found += _document(f"{place}#{number}" if several else place, content, 0)
    return found


def _document(place: str, content: object, depth: int) -> Iterator[Piece]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError("--config", place, "a mapping of keys to values")
    kind = str(content.get("kind"))
    if _is_config_map(content):
        _check_words(place, "ConfigMap", content)
        yield Piece(place, "ConfigMap", {key: content[key] for key in content if key != "data"})
        yield from _unwrapped(place, content.get("data"))
    elif {"kind", "apiVersion"} & content.keys():
        items = content.get("items")
        if kind.endswith("List") and isinstance(items, list) and depth < _DEEP:
            for number, item in enumerate(items):
                yield from _document(f"{place}: items[{number}]", item, depth + 1)
        else:
            _check_words(place, kind, content)
            yield Piece(place, kind, content)
    elif foreign := foreign_file(content):
        raise ConfigError("--config", place, foreign)
    else:
        yield Piece(place, NATIVE, content)


def _check_words(place: str, kind: str, content: Raw) -> None:
    """Raise ConfigError for misspelt keys: what stands below one would be lost without a word."""
    from deviceplugin.documents.words import misspelt  # noqa: PLC0415  # for manifests alone

    errors = [
        ConfigError(
            f"{place}: {path}", path.rpartition(".")[2], f"a known key: did you mean {near!r}?"
        )
        for path, near in misspelt(kind, content)
    ]
    if errors:
        raise ConfigError.of_several(errors)


def _is_config_map(content: Raw) -> bool:
    if content.get("kind") == "ConfigMap":
        return True
    data = content.get("data")
    return isinstance(data, Mapping) and set(content) <= {"data", "metadata", "binaryData"}


def _unwrapped(place: str, data: object) -> Iterator[Piece]:
    if data is None:
        return
    if not isinstance(data, Mapping):
        raise ConfigError("--config", place, "a ConfigMap with keys and texts below `data`")
    for key, text in data.items():
        where = f"{place}: {key}"
        if not isinstance(text, str):
            raise ConfigError("--config", where, "text below the ConfigMap's key: write `|` after")
        program = _FOREIGN.get(str(key)[str(key).rfind(".") :])
        if program:
            content = _toml(where, text)
            _check_words(where, program, content)
            yield Piece(where, program, content)
        else:
            yield from pieces_of(where, text.encode("utf-8", "replace"))


def _toml(place: str, text: str) -> Raw:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError("--config", place, f"TOML ({' '.join(str(error).split())})") from error


def beside(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """A line for each document that is no configuration: its place and its kind."""
    others = [piece for piece in pieces if piece.kind not in (NATIVE, "ConfigMap")]
    return tuple(f"{piece.place}: {piece.kind}" for piece in others)


class Merged(Struct, frozen=True):
    """All configurations as one; `conflicts` name both places of a value that a later one
    replaces by another."""

    raw: Raw
    conflicts: tuple[str, ...] = ()


def merged(pieces: Sequence[Piece]) -> Merged:
    """The configurations merged key by key; a later value replaces an earlier one, with a line.

    Raises ConfigError for two files of NVIDIA's plugin: each is a whole configuration.
    """
    native = [piece for piece in pieces if piece.kind == NATIVE]
    v1 = [piece.place.rpartition("/")[2] for piece in native if "version" in piece.content]
    if len(v1) > 1:
        meant = f"one file with `version` in it: {' and '.join(v1)} have one, each is complete"
        raise ConfigError("--config", v1[-1], meant)
    raw: Raw = {}
    conflicts: list[str] = []
    places: dict[str, str] = {}
    for piece in native:
        raw = merge(raw, piece.content)
        conflicts += _conflicts(piece.content, piece.place, places)
    return Merged(raw, tuple(conflicts))


def merge(base: Raw, over: Raw) -> Raw:
    """Key by key; any other value of `over` replaces that of `base`."""
    both = {
        key: merge(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | over | both


def _conflicts(content: Raw, place: str, places: dict[str, str], path: str = "") -> Iterator[str]:
    """A line for each leaf that another place gave with another value; `places` learns them."""
    for key, value in content.items():
        full = f"{path}{key}"
        if isinstance(value, dict) and value:
            yield from _conflicts(value, place, places, f"{full}.")
            continue
        told = f"{value!r} of {place}"
        before = places.get(full)
        if before is not None and not before.startswith(f"{value!r} of "):
            yield f"{full}: {before} is replaced by {told}"
        places[full] = told
