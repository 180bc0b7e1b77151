"""Reads below one root, so that a daemon in a container and a test read the same way.

Paths in arguments and results are host paths ("/sys/…"); the root never leaks into an answer.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from deviceplugin.errors import DiscoveryError, ExhaustedError, VendorError
from deviceplugin.host.numbers import parse_integer
from deviceplugin.names import one_line

MAX_FILE_BYTES = 1 << 20
MAX_LINKS = 40  # the kernel's own limit
_PART_BYTES = 1 << 16
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO}


@dataclass(frozen=True, slots=True)
class Host:
    """Where we read: `root` is the directory under which the host's file tree is seen."""

    root: Path = Path("/")

    def path(self, host_path: str) -> str:
        """Where `host_path` is for this process."""
        return f"{self._prefix}/{host_path.lstrip('/')}"

    @property
    def _prefix(self) -> str:
        text = str(self.root)
        return "" if text == "/" else text

    def exists(self, host_path: str) -> bool:
        """Whether anything is at `host_path`, followed through links."""
        return os.path.exists(self.path(host_path))  # 3 × faster in Allocate

    def read_text(self, host_path: str) -> str | None:
        """The stripped text of a small file, None where it is absent.

        Raises DiscoveryError, naming the file, for any other failure to read it; like every method
        here ExhaustedError where this process has no descriptor left.
        """
        try:
            return self._read(host_path).decode("utf-8", "replace").strip()
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise _failure(host_path, error) from error

    def read_line(self, host_path: str) -> str | None:
        """A name or a version in a file, as it can be shown; None where it is absent or empty.

        Raises DiscoveryError as `read_text`.
        """
        return one_line(self.read_text(host_path) or "") or None

    def read_start(self, host_path: str, size: int) -> bytes | None:
        """The first `size` bytes of a file, None where it is absent; raises DiscoveryError."""
        try:
            with open(self.path(host_path), "rb", opener=_open) as file:
                return file.read(size)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise _failure(host_path, error) from error

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

    def read_names(self, host_path: str) -> tuple[str, ...]:
        """The sorted names in a directory, none where it is absent."""
        try:
            return tuple(sorted(os.listdir(self.path(host_path))))  # names only
        except OSError as error:
            if error.errno in _ABSENT:
                return ()
            raise _failure(host_path, error) from error

    def read_real_path(self, host_path: str) -> str | None:
        """Where `host_path` leads when every link is followed, None where nothing is.

        A link that leaves the root is nothing of this host.
        """
        root, real = os.path.realpath(self.root), os.path.realpath(self.path(host_path))
        below = real.removeprefix("" if root == "/" else root)
        if not os.path.exists(real) or (below == real and root != "/"):
            return None
        return below

    def read_link(self, host_path: str) -> str | None:
        """A symbolic link's target as it is written, None where there is no link."""
        try:
            return os.readlink(self.path(host_path))
        except OSError as error:
            if error.errno in _ABSENT | {errno.EINVAL}:
                return None
            raise _failure(host_path, error) from error

    def read_link_name(self, host_path: str) -> str | None:
        """The last part of a symbolic link's target, None where there is no link."""
        try:
            return os.path.basename(os.readlink(self.path(host_path))) or None
        except OSError as error:
            if error.errno in _ABSENT | {errno.EINVAL}:
                return None
            raise _failure(host_path, error) from error

    def resolve(self, host_path: str) -> str:
        """The host path behind the links at `host_path`; absolute targets stay below the root."""
        for _ in range(MAX_LINKS):
            try:
                target = os.readlink(self.path(host_path))
            except OSError:
                return host_path
            host_path = os.path.normpath(os.path.join(os.path.dirname(host_path), target))
        return host_path

    def _read(self, host_path: str) -> bytes:
        """The first MAX_FILE_BYTES; by descriptor, which takes half the time of a file object:
        a node of 63 partitions has 700 files at every look."""
        descriptor = _open(self.path(host_path), os.O_RDONLY)
        try:
            content = b""
            while len(content) < MAX_FILE_BYTES and (part := os.read(descriptor, _PART_BYTES)):
                content += part
            return content[:MAX_FILE_BYTES]
        finally:
            os.close(descriptor)


def _open(path: str, flags: int) -> int:
    """Without waiting for a peer: what is no regular file must not hold a vendor for ever."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _failure(host_path: str, error: OSError) -> VendorError:
    """What we lack ourselves says nothing about the file."""
    kind = ExhaustedError if error.errno in _EXHAUSTED else DiscoveryError
    return kind(f"{host_path}: {error.strerror}")
