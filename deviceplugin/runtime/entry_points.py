"""Entry points of what is installed, read from the files that installers write.

The standard library's reader is not used in the daemon for its memory: docs/decisions/0008. The
form is PyPA's: `<name>-<version>.dist-info/entry_points.txt` in a directory of sys.path.
"""

import os
import sys
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from msgspec import Struct

_FOLDERS = (".dist-info", ".egg-info")
FILE = "entry_points.txt"


class EntryPoint(Struct, frozen=True):
    """A name and what it stands for: `module` or `module:object`.

    `package` is the distribution that it belongs to, as its folder spells it, `version` that
    distribution's (None: its folder does not say).
    """

    name: str
    value: str
    package: str = ""
    version: str | None = None

    @property
    def origin(self) -> str:
        """The package and its version in words."""
        return " ".join(filter(None, (self.package, self.version)))

    def load(self) -> Any:  # whatever an installed package says
        """Import it; raises whatever the import raises."""
        module, _, path = self.value.partition("[")[0].strip().partition(":")
        return reduce(getattr, filter(None, path.split(".")), import_module(module.strip()))


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Those of a group, in the order of sys.path; of a package that is there twice the first's."""
    found: dict[str, Path] = {}
    for directory in sys.path:
        for folder in _distributions(directory or "."):
            found.setdefault(_package(folder.name), folder / FILE)
    return tuple(point for file in found.values() for point in _read(file, group))


def _distributions(directory: str) -> list[Path]:
    try:
        names = os.listdir(directory)
    except OSError:  # of sys.path much may be missing, or be a file
        return []
    return [Path(directory, name) for name in sorted(names) if name.endswith(_FOLDERS)]


def _package(folder: str) -> str:
    """The package's name as packages are compared."""
    return folder.rpartition(".")[0].partition("-")[0].lower().replace(".", "_")


def _read(file: Path, group: str) -> Iterator[EntryPoint]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:  # it has none
        return
    package, _, version = file.parent.name.rpartition(".")[0].partition("-")
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif section == group and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield EntryPoint(name.strip(), value.strip(), package, version or None)
