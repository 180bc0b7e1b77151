"""Where a configuration is read: which files, and whether they are still the same ones.

Content is read by config.py alone.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FILE_SUFFIXES = (".yaml", ".yml", ".json")
MAX_LINKS = 40  # as many as the kernel follows

State = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The path as it was given, and the state of its files just before they were read."""

    path: Path
    state: State


def config_files(path: Path) -> Sequence[Path]:
    """The file itself, or those of a directory in the order of their names; raises OSError.

    Names with a dot in front are a ConfigMap mount's own business.
    """
    if not path.is_dir():
        return (path,)
    names = (f for f in path.iterdir() if f.suffix in FILE_SUFFIXES and f.name[0] != ".")
    return sorted(names)


def read_state(path: Path) -> State:
    """What is another value whenever a file came, went, or may have other content; never raises."""
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
    """The directories in which something happens when the configuration changes.

    A file may be a link to another place, and the whole directory too: a ConfigMap's mount changes
    by a new target of its link `..data`.
    """
    found = dict.fromkeys(_parents(path))
    if path.is_dir():
        found[path] = None
    try:
        for file in config_files(path):
            found |= dict.fromkeys(_parents(file))
    except OSError:  # it has just gone: its parent tells when it is back
        return tuple(found)
    return tuple(found)


def _parents(path: Path) -> Iterator[Path]:
    for _ in range(MAX_LINKS):
        yield path.parent
        try:
            path = path.parent / os.readlink(path)
        except OSError:  # no link
            return
