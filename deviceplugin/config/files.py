"""The configuration files: their names, their content, and a fingerprint of both."""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from deviceplugin.config.schema import Raw, Refusals
from deviceplugin.errors import ConfigError
from deviceplugin.files.below import MAX_LINKS
from deviceplugin.files.reading import IrregularFileError, read_regular
from deviceplugin.per_node.labels import NAME as LABELS

if TYPE_CHECKING:  # it loads PyYAML, which a daemon without files does not need
    from deviceplugin.config.pieces import Piece

FILE_SUFFIXES = (".yaml", ".yml", ".json")
# Of all files together; what is read takes many times its size, and the time of all allocations.
# A real configuration has less than 4 KiB.
MAX_BYTES = 64 * 1024
MAX_FILES = 100
MAX_KEPT_BYTES = 4 << 20  # of the daemon's own copy, in which every default is spelled out
_MEANT = "a file *.yaml, *.yml or *.json in it (an empty one stands for the defaults)"
# Of all manifests together, where a file of them is larger than what a configuration may be.
MAX_MANIFEST_BYTES = 1 << 20
_MANIFEST = re.compile(rb"(?m)^(kind|apiVersion) *:")
_TOO_MANY = f"at most {MAX_MANIFEST_BYTES} bytes of manifests in all files together"
_TOGETHER = f"at most {MAX_BYTES} bytes in all files together"
State = tuple[tuple[str, ...], ...]


class Source(Struct, frozen=True):
    """The path as given, and the fingerprint of its files just before they were read."""

    path: Path
    state: State


def config_files(path: Path) -> Sequence[Path]:
    """The file itself, or those of a directory in the order of their names; raises OSError.

    Names that begin with a dot belong to the mount of a ConfigMap and are skipped.
    """
    if not path.is_dir():
        return (path,)
    names = (f for f in path.iterdir() if f.suffix in FILE_SUFFIXES and f.name[0] != ".")
    return sorted(names)


def read_state(path: Path) -> State:
    """A fingerprint of the configuration files: it differs if any of them may have changed.

    Never raises."""
    try:
        labels = [path / LABELS] if (path / LABELS).exists() else []
        return tuple(_state_of(file) for file in (*config_files(path), *labels))
    except OSError as error:
        return ((str(path), _name_of(error)),)


def _state_of(file: Path) -> tuple[str, ...]:
    try:
        status = os.stat(file)
    except OSError as error:
        return (str(file), _name_of(error))
    # The change time too: a file that becomes readable has no other.
    numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return (str(file), *map(str, numbers))


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def read_directories(path: Path) -> Sequence[Path]:
    """The directories to watch: every change of the configuration is an event in one of them.

    A file or the directory may be a link to another place: a ConfigMap's mount changes by a new
    target of its link `..data`.
    """
    found = dict.fromkeys(_parents(path))
    if path.is_dir():
        found[path] = None
    try:
        for file in config_files(path):
            found |= dict.fromkeys(_parents(file))
    except OSError:  # it has just gone: an event of its parent says when it is back
        return tuple(found)
    return tuple(found)


def _parents(path: Path) -> Iterator[Path]:
    for _ in range(MAX_LINKS):
        yield path.parent
        try:
            path = path.parent / os.readlink(path)
        except OSError:  # no link
            return


class Gathered(Struct, frozen=True):
    """What files say as one configuration; `conflicts` name both places of a value that a later
    one replaces, `beside` the documents that are no configuration."""

    raw: Raw
    conflicts: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def read_config_files(path: Path) -> Gathered:
    """The content of a file, or of all files of a directory; raises ConfigError."""
    from deviceplugin.config.pieces import beside, merged  # noqa: PLC0415  # PyYAML, for files alone

    pieces = read_pieces(path)
    found = merged(pieces)
    return Gathered(found.raw, found.conflicts, beside(pieces))


def read_pieces(path: Path) -> Sequence["Piece"]:
    """The documents of a file, or of all files of a directory in the order of their names.

    Raises ConfigError for a directory without files, and for files that cannot be read, are not
    mappings, have a key twice or are another program's.
    """
    from deviceplugin.config.pieces import MAX_DOCUMENTS, pieces_of  # noqa: PLC0415

    pieces: list[Piece] = []
    refusals, budget = Refusals(), _Budget()
    for file in _listed(path):
        with refusals.collect():
            text = budget.read(file)
            pieces += pieces_of(str(file), text)
    if len(pieces) > MAX_DOCUMENTS:
        limit = f"at most {MAX_DOCUMENTS} documents in all files together"
        refusals.errors.append(ConfigError("--config", str(path), limit))
    refusals.check()
    return pieces


class _Budget:
    """What is left of each bound."""

    def __init__(self) -> None:
        self._native, self._manifests = MAX_BYTES, MAX_MANIFEST_BYTES

    def read(self, file: Path) -> bytes:
        text = _read_bytes(file, max(self._native, self._manifests))
        if len(text) <= self._native:
            self._native -= len(text)
        elif not _MANIFEST.search(text):
            raise ConfigError("--config", str(file), _TOGETHER)
        else:
            self._manifests -= len(text)
            if self._manifests < 0:
                raise ConfigError("--config", str(file), _TOO_MANY)
        return text


def read_kept(path: Path) -> Gathered:
    """The daemon's own copy, which is JSON; raises ConfigError."""
    text = _read_bytes(path, MAX_KEPT_BYTES, f"at most {MAX_KEPT_BYTES} bytes")
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError("--config", str(path), f"JSON ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError("--config", str(path), "a mapping of keys to values")
    return Gathered(content)


def unread_entries(path: Path) -> tuple[str, ...]:
    """Names in a directory of configuration that are passed over because of their ending, sorted.

    Never raises."""
    try:
        if not path.is_dir():
            return ()
        names = {e.name for e in path.iterdir() if e.name[0] != "." and not e.is_dir()}
        return tuple(sorted(n for n in names - {LABELS} if not n.endswith(FILE_SUFFIXES)))
    except OSError:
        return ()


def _listed(path: Path) -> Sequence[Path]:
    try:
        files = config_files(path)
    except OSError as error:
        text = f"a readable directory ({error.strerror})"
        raise ConfigError("--config", str(path), text) from error
    if len(files) > MAX_FILES:
        raise ConfigError("--config", str(path), f"a directory of at most {MAX_FILES} files")
    if files:
        return files
    text = _MEANT
    if others := unread_entries(path):
        text += f"; not read because of their names: {', '.join(others)} (name one as"
        text += f" {others[0]}.yaml, or give the file itself: --config {path}/{others[0]})"
    raise ConfigError("--config", str(path), text)


def _read_bytes(path: Path, size: int, meant: str = _TOGETHER) -> bytes:
    try:
        text = read_regular(path, size + 1)
    except IrregularFileError as error:
        raise ConfigError("--config", str(path), f"a regular file: this is {error.kind}") from error
    except OSError as error:
        raise ConfigError("--config", str(path), f"a readable file ({error.strerror})") from error
    if len(text) > size:
        raise ConfigError("--config", str(path), meant)
    return text
