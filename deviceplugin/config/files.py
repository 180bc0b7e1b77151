"""The configuration files: their names, their content, and a fingerprint of both."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from deviceplugin.config.hints import foreign_file
from deviceplugin.config.schema import Raw, Refusals
from deviceplugin.errors import ConfigError
from deviceplugin.files.below import MAX_LINKS
from deviceplugin.files.reading import IrregularFileError, read_regular

FILE_SUFFIXES = (".yaml", ".yml", ".json")
# Of all files together; what is read takes many times its size, and the time of all allocations.
# A real configuration has less than 4 KiB.
MAX_BYTES = 64 * 1024
MAX_FILES = 100
MAX_KEPT_BYTES = 4 << 20  # of the daemon's own copy, in which every default is spelled out
_MEANT = "a file *.yaml, *.yml or *.json in it (an empty one stands for the defaults)"
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
        return tuple(_state_of(file) for file in config_files(path))
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


def read_config_files(path: Path) -> Raw:
    """The content of a file, or of all files of a directory; a later name overrides earlier ones.

    Raises ConfigError for a directory without files, and for files that cannot be read, are not
    a mapping, have a key twice, are another program's, or are two of NVIDIA's plugin.
    """
    merged: Raw = {}
    refusals, v1, left = Refusals(), [], MAX_BYTES
    for file in _listed(path):
        with refusals.collect():
            text = _read_bytes(file, left)
            left -= len(text)
            content = _parse_file(file, text)
            merged = _merge(merged, content)
            v1 += [file.name] if "version" in content else []
    if len(v1) > 1:
        meant = f"one file with `version` in it: {' and '.join(v1)} have one, each is complete"
        refusals.errors.append(ConfigError("--config", str(path), meant))
    refusals.check()
    return merged


def read_kept(path: Path) -> Raw:
    """The daemon's own copy, which is JSON; raises ConfigError."""
    text = _read_bytes(path, MAX_KEPT_BYTES, f"at most {MAX_KEPT_BYTES} bytes")
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError("--config", str(path), f"JSON ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError("--config", str(path), "a mapping of keys to values")
    return content


def unread_entries(path: Path) -> tuple[str, ...]:
    """Names in a directory of configuration that are passed over because of their ending, sorted.

    Never raises."""
    try:
        if not path.is_dir():
            return ()
        names = (e.name for e in path.iterdir() if e.name[0] != "." and not e.is_dir())
        return tuple(sorted(name for name in names if not name.endswith(FILE_SUFFIXES)))
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


def _parse_file(path: Path, text: bytes) -> Raw:
    from deviceplugin.config.yaml import parse_yaml  # noqa: PLC0415  # PyYAML, where there is a file

    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise ConfigError("--config", str(path), f"YAML ({error})") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError("--config", str(path), "a mapping of keys to values")
    if foreign := foreign_file(content):
        raise ConfigError("--config", str(path), foreign)
    return content


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


def _merge(base: Raw, over: Raw) -> Raw:
    both = {
        key: _merge(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | over | both
