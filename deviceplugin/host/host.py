"""Reads below one root, so that a daemon in a container and a test read the same way.

Paths in arguments and results are host paths ("/sys/…"); the root never leaks into an answer.
"""

import errno
import os
from pathlib import Path

from deviceplugin.errors import DiscoveryError, ExhaustedError, VendorError
from deviceplugin.files.below import MAX_LINKS, open_below
from deviceplugin.files.reading import read_regular
from deviceplugin.files.trust import check_trusted
from deviceplugin.host.numbers import parse_integer
from deviceplugin.names import one_line

MAX_FILE_BYTES = 1 << 20
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO}


class Host:
    """Where we read: `root` is the directory under which the host's file tree is seen.

    Everything is read by five methods: `read_bytes`, `read_names`, `read_link`, `exists` and
    `untrusted`. All others call these, so that who overrides the five sees every read
    (`trace.TracingHost`). No read leaves the root, wherever links lead.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, host_path: str) -> str:
        """Where `host_path` is for this process; nothing is read."""
        return f"{self._prefix}/{host_path.lstrip('/')}"

    @property
    def _prefix(self) -> str:
        text = str(self.root)
        return "" if text == "/" else text

    def read_bytes(self, host_path: str, size: int = MAX_FILE_BYTES) -> bytes | None:
        """The first `size` bytes of a file, None where it is absent.

        Raises DiscoveryError, naming the file, for any other failure to read it; like every method
        here ExhaustedError where this process has no descriptor left.
        """
        try:
            attribute = host_path.startswith("/sys/")
            return read_regular(_absolute(host_path), size, self._prefix, attribute=attribute)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise _failure(host_path, error) from error

    def read_names(self, host_path: str) -> tuple[str, ...]:
        """The sorted names in a directory, none where it is absent; raises DiscoveryError."""
        try:
            return tuple(sorted(_names(self._prefix, host_path)))
        except OSError as error:
            if error.errno in _ABSENT:
                return ()
            raise _failure(host_path, error) from error

    def read_link(self, host_path: str) -> str | None:
        """A symbolic link's target as it is written, None where there is no link; raises
        DiscoveryError."""
        try:
            return _link(self._prefix, host_path)
        except OSError as error:
            if error.errno in _ABSENT | {errno.EINVAL}:
                return None
            raise _failure(host_path, error) from error

    def exists(self, host_path: str) -> bool:
        """Whether anything is at `host_path`, followed through links; without a descriptor left a
        look by name alone says it: what is there must not be gone for our own lack."""
        try:
            os.close(open_below(self._prefix, _absolute(host_path), os.O_PATH))
        except OSError as error:
            return error.errno in _EXHAUSTED and os.path.exists(f"{self._prefix}/{host_path}")
        return True

    def untrusted(self, host_path: str) -> str | None:
        """Why the program or library at `host_path` must not be run or loaded as root, None where
        root alone can have put it there."""
        try:
            check_trusted(self._prefix, _absolute(host_path))
        except OSError as error:
            return error.strerror or str(error)
        return None

    def read_text(self, host_path: str) -> str | None:
        """The stripped text of a small file, None where it is absent; raises DiscoveryError."""
        content = self.read_bytes(host_path)
        return None if content is None else content.decode("utf-8", "replace").strip()

    def read_line(self, host_path: str) -> str | None:
        """A name or a version in a file, as it can be shown; None where it is absent or empty.

        Raises DiscoveryError as `read_text`.
        """
        return one_line(self.read_text(host_path) or "") or None

    def read_int(self, host_path: str) -> int | None:
        """The integer (decimal, or hexadecimal with 0x) in a file, None where it is absent.

        Raises DiscoveryError for a file that holds anything else.
        """
        text = self.read_text(host_path)
        if text is None:
            return None
        number = parse_integer(text)
        if number is None:
            raise DiscoveryError(f"{host_path}: {text[:40]!r} is not an integer")
        return number

    def read_link_name(self, host_path: str) -> str | None:
        """The last part of a symbolic link's target, None where there is no link."""
        return os.path.basename(self.read_link(host_path) or "") or None

    def read_real_path(self, host_path: str, root: str = "") -> str | None:
        """Where `host_path` leads when every link in it is followed, None where nothing is.

        As for a process whose root is ours, or `root` (a host path) for a path below it: absolute
        targets are below the root, `..` stays there.
        """
        below = root.rstrip("/")
        inside = bool(below) and host_path.startswith(f"{below}/")
        base = self.read_real_path(below) if inside else ""
        if base is None:
            return None
        found, left, links = base, host_path.removeprefix(below * inside).split("/")[::-1], 0
        while left:
            part = left.pop()
            if part == "..":
                found = base if found == base else found.rpartition("/")[0]
            elif part not in ("", "."):
                target = self._target(f"{found}/{part}")
                if target is None:
                    found = f"{found}/{part}"
                    continue
                links += 1
                if links > MAX_LINKS:
                    return None
                found = base if target.startswith("/") else found
                left += target.split("/")[::-1]
        return found if self.exists(found) else None

    def resolve(self, host_path: str) -> str:
        """The host path behind the links at `host_path`; absolute targets stay below the root."""
        for _ in range(MAX_LINKS):
            target = self._target(host_path)
            if target is None:
                return host_path
            host_path = os.path.normpath(os.path.join(os.path.dirname(host_path), target))
        return host_path

    def _target(self, host_path: str) -> str | None:
        """Of a link on the way; one that cannot be read leads nowhere."""
        try:
            return self.read_link(host_path)
        except DiscoveryError:
            return None


def _absolute(host_path: str) -> str:
    return f"/{host_path.lstrip('/')}"


def _names(root: str, host_path: str) -> list[str]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
    descriptor = open_below(root, _absolute(host_path), flags)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def _link(root: str, host_path: str) -> str:
    descriptor = open_below(root, _absolute(host_path), os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink("", dir_fd=descriptor)  # of the descriptor itself: man 2 readlink
    finally:
        os.close(descriptor)


def _failure(host_path: str, error: OSError) -> VendorError:
    """What we lack ourselves says nothing about the file."""
    kind = ExhaustedError if error.errno in _EXHAUSTED else DiscoveryError
    return kind(f"{host_path}: {error.strerror}")
