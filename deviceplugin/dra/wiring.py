"""What the drivers of a node work with."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from deviceplugin.dra.claims import ClaimError, Told, nobody
from deviceplugin.dra.names import is_for_machines, published
from deviceplugin.dra.publisher import Requests
from deviceplugin.dra.section import DraSection
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import ContainerEdits, Device, DeviceID, Inventory
from deviceplugin.provision.on_demand import Claims, Fitted
from deviceplugin.resources.ledger import Ledger, UsageSource
from deviceplugin.resources.section import DRA, Offer
from deviceplugin.runtime.keep import Keeper
from deviceplugin.vendor.partitions import PartitionedGpu

_NONE: Mapping[DeviceID, PartitionedGpu] = MappingProxyType({})
# The forms in which the rules offer each device, none for one that they hide.
Forms = Mapping[DeviceID, Sequence[Offer]]


# The edits of a claim, by driver and uid, with what holds its containers to its memory.
Limited = Callable[[str, str, ContainerEdits], Awaitable[ContainerEdits]]


async def _nobody_fits(gpu: DeviceID) -> Fitted:
    raise ClaimError(f"no partitions are made of {gpu} here")


def _nobody_follows(_: Claims | None, __: Callable[[], None]) -> None:
    """Where no partitions are made for claims."""


async def unlimited(_: str, __: str, edits: ContainerEdits) -> ContainerEdits:
    """Nothing holds anybody."""
    return edits


class Wiring(Struct, frozen=True, kw_only=True):
    """What the drivers work with; `described` gives a device's edits, own and common, `source`
    is asked what pods have by the device plugin, `forms` are those of the rules,
    `apis` the APIs by which they offer a device where they say so.

    `partitionable` are the GPUs that can be cut when a claim wants a part, `ours` says of a
    partition that is there whether we have made it. `fit` has a GPU cut as claims ask, as `claims`
    is told at the start (None at the end) that they do; a GPU that is `left` nobody cuts for them.
    `wake` is called when other GPUs can be.
    """

    store: InventoryStore
    ledger: Ledger
    source: UsageSource
    described: Callable[[Device], Awaitable[tuple[Any, Any]]]
    keeper: Keeper
    api: Requests
    forms: Callable[[Inventory], Forms]
    apis: Callable[[Inventory], Mapping[DeviceID, Collection[str]]] = lambda _: {}
    partitionable: Callable[[], Mapping[DeviceID, PartitionedGpu]] = lambda: _NONE
    now: Callable[[], float] = time.monotonic
    ours: Callable[[Device], bool] = lambda _: False
    fit: Callable[[DeviceID], Awaitable[Fitted]] = _nobody_fits
    left: Callable[[DeviceID], bool] = lambda _: True
    claims: Callable[[Claims | None, Callable[[], None]], None] = _nobody_follows
    told: Told = nobody
    limited: Limited = unlimited

    def published(self, inventory: Inventory, section: DraSection) -> tuple[Device, ...]:
        """The devices that claims may have: what the rules hide nobody has."""
        return published(self._shown(inventory), section, self.partitionable())

    def for_machines(self, inventory: Inventory, section: DraSection) -> tuple[Device, ...]:
        """The devices that claims would have, could containers use them."""
        shown = self._shown(inventory)
        wanted = (d for d in shown if not section.vendors or d.vendor in section.vendors)
        return tuple(device for device in wanted if device.resource and is_for_machines(device))

    def _shown(self, inventory: Inventory) -> Sequence[Device]:
        forms, cuttable, apis = self.forms(inventory), self.partitionable(), self.apis(inventory)
        return [
            device
            for device in inventory.devices.values()
            if (device.id in forms or device.id in cuttable) and DRA in apis.get(device.id, {DRA})
        ]
