"""What the audit log is made with."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from deviceplugin.model import Inventory
from deviceplugin.resources.entries import LedgerEntry
from deviceplugin.resources.usage import Key
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Sectioned


class OfNode(Sectioned, Protocol):
    """A configuration with what the log needs of it."""

    @property
    def node_name(self) -> str:
        """In Kubernetes."""

    @property
    def state_dir(self) -> Path:
        """Ours."""


OfNodeT = TypeVar("OfNodeT", bound=OfNode)
Document = Mapping[str, Any]


class Around(Struct, Generic[OfNodeT], frozen=True, kw_only=True):
    """`entries` are what is in use now, `describe` gives a configuration as one document,
    `differences` what changed from one document to another. `now` gives Unix seconds."""

    now: Callable[[], float]
    inventory: Latest[Inventory]
    entries: Callable[[], Mapping[Key, LedgerEntry]]
    describe: Callable[[OfNodeT], Document]
    differences: Callable[[Document, Document], Sequence[Document]]
