"""What a look at the host read, so that reading the same again tells whether it would differ."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deviceplugin.errors import VendorError
from deviceplugin.host.host import Host

# What a PCI function is, burnt in: another one at its address comes with uevents of its own.
_IDENTITY = frozenset({"vendor", "device", "class", "numa_node"})
_Read = tuple[str, tuple[Any, ...]]  # a method of Host and its arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingHost(Host):
    """A host that notes each read of `host` with its outcome, constant paths that can be read
    aside."""

    host: Host
    is_constant: Callable[[str], bool]
    seen: dict[_Read, object] = field(default_factory=dict)

    def holds(self) -> bool:
        """Whether every noted read has the same outcome now."""
        return all(_outcome(self.host, read) == outcome for read, outcome in self.seen.items())

    def exists(self, host_path: str) -> bool:
        return bool(self._noted("exists", host_path))

    def read_text(self, host_path: str) -> str | None:
        return self._noted("read_text", host_path)  # type: ignore[no-any-return]  # as Host's

    def read_line(self, host_path: str) -> str | None:
        return self._noted("read_line", host_path)  # type: ignore[no-any-return]  # as Host's

    def read_int(self, host_path: str) -> int | None:
        return self._noted("read_int", host_path)  # type: ignore[no-any-return]  # as Host's

    def read_names(self, host_path: str) -> tuple[str, ...]:
        return self._noted("read_names", host_path)  # type: ignore[no-any-return]  # as Host's

    def read_real_path(self, host_path: str) -> str | None:
        return self._noted("read_real_path", host_path)  # type: ignore[no-any-return]  # as Host's

    def read_link(self, host_path: str) -> str | None:
        return self._noted("read_link", host_path)  # type: ignore[no-any-return]  # as Host's

    def read_link_name(self, host_path: str) -> str | None:
        return self._noted("read_link_name", host_path)  # type: ignore[no-any-return]  # as Host's

    def resolve(self, host_path: str) -> str:
        return self._noted("resolve", host_path)  # type: ignore[no-any-return]  # as Host's

    def read_start(self, host_path: str, size: int) -> bytes | None:
        return self._noted("read_start", host_path, size)  # type: ignore[no-any-return]

    def _noted(self, name: str, host_path: str, *more: object) -> Any:
        read = (name, (host_path, *more))
        try:
            outcome = getattr(self.host, name)(host_path, *more)
        except VendorError as error:
            self._note(read, str(error))
            raise
        if outcome is None or not self._is_identity(host_path):
            self._note(read, outcome)
        return outcome

    def _is_identity(self, path: str) -> bool:
        return path.rpartition("/")[2] in _IDENTITY or self.is_constant(path)

    def _note(self, read: _Read, outcome: object) -> None:
        """A read that came out in two ways was in the middle of a change: it never holds."""
        if self.seen.setdefault(read, outcome) != outcome:
            self.seen[read] = object()


def traced(host: Host, is_constant: Callable[[str], bool] = lambda _: False) -> TracingHost:
    """`host` for one look, whose reads are noted."""
    return TracingHost(root=host.root, host=host, is_constant=is_constant)


def _outcome(host: Host, read: _Read) -> object:
    name, arguments = read
    try:
        return getattr(host, name)(*arguments)
    except VendorError as error:
        return str(error)
