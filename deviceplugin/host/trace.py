"""What a discovery read of the host, so that reading it again shows whether anything changed."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from deviceplugin.errors import VendorError
from deviceplugin.host.host import MAX_FILE_BYTES, Host
from deviceplugin.host.numbers import parse_integer

# What a PCI function is, burnt in: another one at its address comes with uevents of its own.
_IDENTITY = frozenset({"vendor", "device", "class", "numa_node"})
_Read = tuple[Callable[..., object], tuple[object, ...]]  # a method of the host, its arguments
T = TypeVar("T")


class TracingHost(Host):
    """A host that notes each read of `host` with its outcome, constant paths that can be read
    aside. The five methods here are those by which a Host reads."""

    def __init__(self, *, root: Path, host: Host, is_constant: Callable[[str], bool]) -> None:
        super().__init__(root)
        self.host, self.is_constant = host, is_constant
        self.seen: dict[_Read, object] = {}

    def holds(self) -> bool:
        """Whether every noted read has the same outcome now."""
        return all(_outcome(read) == outcome for read, outcome in self.seen.items())

    def read_bytes(self, host_path: str, size: int = MAX_FILE_BYTES) -> bytes | None:
        return self._noted(self.host.read_bytes, host_path, size)

    def read_names(self, host_path: str) -> tuple[str, ...]:
        return self._noted(self.host.read_names, host_path)

    def read_link(self, host_path: str) -> str | None:
        return self._noted(self.host.read_link, host_path)

    def exists(self, host_path: str) -> bool:
        return self._noted(self.host.exists, host_path)

    def untrusted(self, host_path: str) -> str | None:
        return self._noted(self.host.untrusted, host_path)

    def _noted(self, method: Callable[..., T], path: str, *more: object) -> T:
        read = (method, (path, *more))
        try:
            outcome = method(path, *more)
        except VendorError as error:
            self._note(read, str(error))
            raise
        if outcome is None or not (self.is_constant(path) or _is_identity(path, outcome)):
            self._note(read, outcome)
        return outcome

    def _note(self, read: _Read, outcome: object) -> None:
        """A read that came out in two ways was in the middle of a change: it never holds."""
        if self.seen.setdefault(read, outcome) != outcome:
            self.seen[read] = object()


def traced(host: Host, is_constant: Callable[[str], bool] = lambda _: False) -> TracingHost:
    """`host` for one discovery, whose reads are noted."""
    return TracingHost(root=host.root, host=host, is_constant=is_constant)


def _is_identity(path: str, content: object) -> bool:
    """Whether a read number cannot be another while the function is there."""
    if path.rpartition("/")[2] not in _IDENTITY or not isinstance(content, bytes):
        return False
    return parse_integer(content.decode("ascii", "replace").strip()) is not None


def _outcome(read: _Read) -> object:
    method, arguments = read
    try:
        return method(*arguments)
    except VendorError as error:
        return str(error)
