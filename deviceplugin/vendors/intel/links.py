"""Directories with the links of single GPUs, which containers get as their /dev/dri/by-path.

Neither the device plugin API nor CDI can express a link, and a mounted link is a device file, which
programs that read it cannot use (intel-device-plugins #2158). The host's own directory has the
links, and so the addresses, of all its GPUs. So each set of GPUs that is given together has a
directory of its own, named by its links. A container with GPUs of two resources is answered twice
and sees one of the two directories: each then gets the links of both.
"""

import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import get_ident

from deviceplugin.files.reading import ForeignFileError, foreign_problem, kind_of
from deviceplugin.host import Host
from deviceplugin.model import Device
from deviceplugin.names import short_digest
from deviceplugin.vendors.intel import naming as attributes

# Of the host, in memory: they are made again after a reboot.
FOLDER = "/var/run/deviceplugin/by-path"


def links_of(devices: Iterable[Device]) -> Mapping[str, str]:
    """udev's names of these GPUs, and where each leads in a container; pure."""
    found: dict[str, str] = {}
    for device in devices:
        for name in filter(None, device.attributes.get(attributes.BY_PATH, "").split(",")):
            node = device.attributes.get(name.rpartition("-")[2])
            if node in device.nodes and node is not None:
                found[name] = f"../{node.rpartition('/')[2]}"
    return dict(sorted(found.items()))


class OwnLinks:
    """Writes the directories; `problem` says why the last one could not be written."""

    def __init__(self, host: Host) -> None:
        self._folder = Path(host.path(FOLDER))
        self._given: dict[str, Mapping[str, str]] = {}
        self._shown: dict[str, Mapping[str, str]] = {}
        self.problem: str | None = None

    def folder(self, devices: Iterable[Device]) -> str | None:
        """The host's path of the directory with the links of these GPUs; None where they have none
        or it cannot be written: they are a convenience for programs, never worth a container."""
        links = links_of(devices)
        if not links:
            return None
        name = _name_of(links)
        if not self._written(name, links):
            return None
        self._given[name] = links
        return f"{FOLDER}/{name}"

    def renew(self) -> None:
        """Write again what somebody has removed: the answers of which it is a part are kept."""
        for name, links in list(self._given.items()):
            self._written(name, self._shown.get(name, links))

    def held(self, containers: Iterable[Sequence[Device]]) -> None:
        """Let each container see the links of all its GPUs.

        The kubelet asks for each resource of a container apart, and the container gets the
        directory of one answer. So each of these gets the links of the others, where all
        containers that have it may see them.
        """
        groups = [links for devices in containers if (links := links_of(devices))]
        for name, own in list(self._given.items()):
            around = [links for links in groups if own.keys() <= links.keys()]
            common = {k: v for k, v in (around or [own])[0].items() if all(k in o for o in around)}
            if self._shown.get(name) != common:
                self._show(name, common)

    def _show(self, name: str, links: Mapping[str, str]) -> None:
        """Change a directory that containers may have: link by link, none is missing meanwhile."""
        folder = self._folder / name
        try:
            _check_folder(self._folder)
            there = {path.name for path in folder.iterdir()}
            for link in sorted(links.keys() - there):
                (folder / link).symlink_to(links[link])
            for link in sorted(there - links.keys()):
                (folder / link).unlink()
        except OSError as error:
            self.problem = f"{FOLDER}: {error.strerror}"
        else:
            self._shown[name] = links

    def _written(self, name: str, links: Mapping[str, str]) -> bool:
        try:
            if not (self._folder / name).is_dir():
                _make(self._folder, name, links)
        except OSError as error:
            self.problem = f"{FOLDER}: {error.strerror}"
            return False
        self.problem = None
        return True


def _make(folder: Path, name: str, links: Mapping[str, str]) -> None:
    """All at once: a container may be given it. Raises OSError."""
    _check_folder(folder)
    new = folder / f".{name}.{get_ident()}"
    _remove(new)  # of a process that was killed
    try:
        new.mkdir()
        for link, target in links.items():
            (new / link).symlink_to(target)
        new.chmod(0o755)  # for every user of a container
        new.rename(folder / name)
    except OSError:
        if not (folder / name).is_dir():  # another thread was faster
            raise
    finally:
        _remove(new)


def _check_folder(folder: Path) -> None:
    """Ours and nobody else's to write: containers get what is in it. Raises OSError."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    status = folder.lstat()
    kind = None if stat.S_ISDIR(status.st_mode) else kind_of(status.st_mode)
    if problem := f"it is {kind}" if kind else foreign_problem(status):
        raise ForeignFileError(str(folder), problem)


def _remove(directory: Path) -> None:
    """A directory of links, if it is there; what cannot be removed stays."""
    with suppress(OSError):
        for link in directory.iterdir():
            link.unlink()
        directory.rmdir()


def _name_of(links: Mapping[str, str]) -> str:
    return short_digest(repr(links))
