"""An Allocate from its ids to its answer, the same for every front end: select, reserve, the edits
of the shares and of the vendor, the answer, the record."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from msgspec import Struct

from deviceplugin.errors import AllocationError, CallTimeoutError, DevicePluginError, Refusal
from deviceplugin.model import (
    AdvertisedDevice,
    ContainerEdits,
    Device,
    DeviceID,
    Resource,
)
from deviceplugin.resources.allocation import Allocation, Request, devices_of, select
from deviceplugin.resources.grants import Granted
from deviceplugin.runtime.guard import guarded
from deviceplugin.runtime.logs import write_info

T = TypeVar("T")
Entries = Sequence[AdvertisedDevice]
Devices = Sequence[Device]
Reserving = Callable[[Resource, Entries], AbstractAsyncContextManager[None]]
Listener = Callable[[Allocation], object]
RefusalListener = Callable[[Request, AllocationError], object]


class Sources(Struct, frozen=True, kw_only=True):
    """What an answer is made from: the devices, and the edits of shares and vendors by the
    configuration that is in force; `finished` may add to both of them."""

    devices: Mapping[DeviceID, Device]
    granted: Callable[[Resource, Entries, Devices], Granted]
    vendor_edits: Callable[[Devices, Granted], Awaitable[ContainerEdits]]
    finished: Callable[[Resource, Entries, ContainerEdits], Awaitable[ContainerEdits]] | None = None


class Allocator:
    """Answers allocations and records each; made on the loop.

    `sources` gives what is in force now: an allocation ends by the configuration by which it began.
    `reserving` has the entries in use while it is open and, if nothing in it fails, from then on.
    Each listener is given every allocation, on the loop; one that raises costs itself.
    """

    def __init__(self, sources: Callable[[], Sources], reserving: Reserving) -> None:
        self._sources, self._reserving = sources, reserving
        self._listeners: list[Listener] = []
        self._refusal_listeners: list[RefusalListener] = []

    def listen(self, name: str, listener: Listener) -> None:
        """Give every allocation from here on to `listener`, by `name` in the log if it fails."""
        self._listeners.append(guarded(f"allocation listener {name}", listener, _nothing))

    def listen_to_refusals(self, name: str, listener: RefusalListener) -> None:
        """Give every refusal from here on to `listener`, by `name` in the log if it fails."""
        called = f"refusal listener {name}"
        self._refusal_listeners.append(guarded(called, listener, _nothing_refused))

    async def allocate(self, request: Request, encode: Callable[[ContainerEdits], T]) -> T:
        """What `encode` makes of the edits of a container that gets the ids of `request`.

        Raises AllocationError, also in place of whatever a vendor or `encode` raises as one of our
        errors; then the ids are as free as they were.
        """
        try:
            return await self._allocate(request, encode)
        except AllocationError as error:
            for listener in self._refusal_listeners:
                listener(request, error)
            raise

    async def _allocate(self, request: Request, encode: Callable[[ContainerEdits], T]) -> T:
        name, sources = request.resource.name, self._sources()
        entries = select(name, request.entries, request.ids)
        try:
            devices = devices_of(name, entries, sources.devices)
            async with self._reserving(request.resource, entries):
                shares = sources.granted(request.resource, entries, devices)
                edits = await sources.vendor_edits(devices, shares)
                if sources.finished is not None:
                    edits = await sources.finished(request.resource, entries, edits)
                answer = encode(edits)
        except CallTimeoutError as error:
            raise AllocationError(Refusal.DEADLINE, f"{name}: {error}") from error
        except AllocationError:
            raise
        except DevicePluginError as error:
            raise AllocationError(Refusal.FAILED, f"{name}: {error}") from error
        self._record(Allocation(request.resource, entries, devices, edits))
        return answer

    def _record(self, allocation: Allocation) -> None:
        for listener in self._listeners:
            listener(allocation)


def log_allocation(allocation: Allocation) -> None:
    """The log's line of an allocation, written while the answer is on its way."""
    fields = {"resource": allocation.resource.name, "devices": allocation.ids}
    asyncio.get_running_loop().call_soon(write_info, "allocated", fields)


def _nothing(_: Allocation) -> None:
    """Instead of a listener that raised."""


def _nothing_refused(_: Request, __: AllocationError) -> None:
    """As above."""
