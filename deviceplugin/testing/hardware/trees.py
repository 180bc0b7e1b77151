"""The files that were read of a host, as the text of a tree (`deviceplugin.testing.tree`)."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.host.host import MAX_FILE_BYTES

MAX_NAMES = 4096
_TEXTS = ("/sys/", "/proc/", "/etc/ld.so")  # of other files only that they are there is kept
_MAX_LINKS = 40


class RecordingHost(Host):
    """A host that notes each path that is looked at, and each directory that is listed: by the
    five methods that read, and where a path leaves for a driver."""

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__(root)
        self.seen: set[str] = set()
        self.listed: set[str] = set()

    def read_bytes(self, host_path: str, size: int = MAX_FILE_BYTES) -> bytes | None:
        """As Host's."""
        self._note(host_path)
        return super().read_bytes(host_path, size)

    def read_names(self, host_path: str) -> tuple[str, ...]:
        """As Host's."""
        self.listed.add(self._note(host_path))
        return super().read_names(host_path)

    def read_link(self, host_path: str) -> str | None:
        """As Host's."""
        self._note(host_path)
        return super().read_link(host_path)

    def exists(self, host_path: str) -> bool:
        """As Host's."""
        self._note(host_path)
        return super().exists(host_path)

    def untrusted(self, host_path: str) -> str | None:
        """As Host's."""
        self._note(host_path)
        return super().untrusted(host_path)

    def path(self, host_path: str) -> str:
        """As Host's."""
        self._note(host_path)
        return super().path(host_path)

    def _note(self, host_path: str) -> str:
        normal = os.path.normpath(host_path)
        self.seen.add(normal)
        return normal


def tree_text(host: Host, paths: Iterable[str], listed: Iterable[str] = ()) -> str:
    """Files, links, directories and device nodes at `paths` and on the way there, one a line, and
    the names in the directories `listed`.

    What is absent has no line. What cannot be written in a tree has a comment: a file that cannot
    be read, and bytes that are not text.
    """
    tree = _Tree(host)
    for path in sorted({*paths, *listed}):
        tree.add(path)
    for path in sorted(set(listed)):
        tree.add_names(path)
    return "".join(f"{line}\n" for _, line in sorted(tree.lines.items()))


class _Tree:
    def __init__(self, host: Host) -> None:
        self._host = host
        self.lines: dict[str, str] = {}

    def add(self, path: str) -> None:
        """The entry at `path`, and the links that lead to it."""
        real = self._walk(path)
        if real is not None:
            self.lines[real] = self._line(real)

    def add_names(self, path: str) -> None:
        """What is in the directory at `path`, by name and kind."""
        if (real := self._walk(path)) is not None:
            for name in self._names(real):
                self._add_name(f"{real}/{name}")

    def _walk(self, path: str) -> str | None:
        """`path` without links, each of which gets a line; None where nothing is."""
        left, real, followed = path.strip("/").split("/"), "", 0
        while left:
            step = os.path.normpath(f"{real}/{left.pop(0)}")
            try:
                target = os.readlink(self._host.path(step))
            except OSError:
                real = "" if step == "/" else step
                continue
            if (followed := followed + 1) > _MAX_LINKS:
                return None
            self.lines[step] = f"{step} -> {target}"
            joined = os.path.normpath(os.path.join(real or "/", target))
            left, real = [*joined.strip("/").split("/"), *left], ""
        return real if real and os.path.lexists(self._host.path(real)) else None

    def _add_name(self, path: str) -> None:
        """A name in a directory: what it is, without what is in it."""
        if path in self.lines:
            return
        real = self._host.path(path)
        if Path(real).is_symlink():
            self.lines[path] = f"{path} -> {os.readlink(real)}"
        elif Path(real).is_dir():
            self.lines[path] = f"{path}/"
        else:
            self.lines[path] = self._node(path) or f"{path} ="

    def _line(self, path: str) -> str:
        if Path(self._host.path(path)).is_dir():
            return f"{path}/"
        if node := self._node(path):
            return node
        if not path.startswith(_TEXTS):
            return f"{path} = (not kept)"
        try:
            text = self._host.read_text(path) or ""
        except VendorError as error:
            return f"# {error}"
        if "\0" in text or "�" in text or " -> " in text:
            return f"# {path}: not text"
        return f"{path} = {text}".replace("\n", "\\n").rstrip()

    def _node(self, path: str) -> str:
        try:
            found = os.lstat(self._host.path(path))
        except OSError:
            return ""
        if not stat.S_ISCHR(found.st_mode):
            return ""
        return f"{path} c {os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"

    def _names(self, path: str) -> tuple[str, ...]:
        try:
            return self._host.read_names(path)[:MAX_NAMES]
        except VendorError:
            return ()
