"""Makes and removes device nodes; for `deviceplugin provision` alone, the daemon only reads."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from msgspec import Struct

from deviceplugin.files.below import open_below
from deviceplugin.host.host import Host

_FOLDER_MODE = 0o755


class Node(Struct, frozen=True, kw_only=True):
    """What a character device is: its numbers, and who may open it."""

    major: int
    minor: int
    mode: int


class DeviceNodes:
    """Below the root of a host; paths are host paths, no link is followed at their end."""

    def __init__(self, host: Host) -> None:
        self._root = str(host.root)

    def read(self, path: str) -> Node | None:
        """The node, None where nothing is or something else; raises OSError."""
        try:
            descriptor = open_below(self._root, path, os.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISCHR(found.st_mode):
            return None
        mode = stat.S_IMODE(found.st_mode)
        return Node(major=os.major(found.st_rdev), minor=os.minor(found.st_rdev), mode=mode)

    def make(self, path: str, node: Node) -> None:
        """Make it, with its folder where that is not there; raises OSError, also where something
        has its name."""
        folder, _, name = path.rpartition("/")
        above, _, own = folder.rpartition("/")
        with self._opened(above) as descriptor, suppress(FileExistsError):
            os.mkdir(own, _FOLDER_MODE, dir_fd=descriptor)
        device = os.makedev(node.major, node.minor)
        with self._opened(folder) as descriptor:
            os.mknod(name, stat.S_IFCHR | node.mode, device, dir_fd=descriptor)
            os.chmod(name, node.mode, dir_fd=descriptor)  # whatever the umask took away

    def remove(self, path: str) -> None:
        """Remove it; raises OSError."""
        folder, _, name = path.rpartition("/")
        with self._opened(folder) as descriptor:
            os.unlink(name, dir_fd=descriptor)

    @contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        descriptor = open_below(self._root, folder, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
