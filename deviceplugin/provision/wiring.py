"""What declared partitions work with: values and callables of the daemon."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from msgspec import Struct

from deviceplugin.inventory.store import InventoryStore
from deviceplugin.provision.protocol import Answer, Request, ask_helper
from deviceplugin.provision.section import Layout, PartitioningSection
from deviceplugin.provision.standing import Standing
from deviceplugin.resources.ledger import Ledger, UsageSource

Changing = Callable[[str, bool], AbstractAsyncContextManager[None]]
Ask = Callable[[Path, Request, float], Answer]


class Layouts(Struct, frozen=True, kw_only=True):
    """The layouts of a file that hold now, and what is wrong with it."""

    layouts: tuple[Layout, ...] = ()
    problem: str = ""


Sourced = Callable[[PartitioningSection], Awaitable[Layouts]]


class Wiring(Struct, frozen=True, kw_only=True):
    """What it works with; `changing(vendor, released)` is around a change of the hardware,
    `source` tells what pods hold, `sourced` gives the layouts of a file, and `answered` is told
    how all of them stand."""

    socket: Path
    store: InventoryStore
    ledger: Ledger
    source: UsageSource
    changing: Changing
    sourced: Sourced
    answered: Callable[[Sequence[Standing]], Awaitable[None]]
    monotonic: Callable[[], float]
    ask: Ask = ask_helper
