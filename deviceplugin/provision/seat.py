"""Where claims find what makes partitions for them: nothing while no layout wants that."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID

if TYPE_CHECKING:  # for those who want it
    from deviceplugin.provision.on_demand import Claims, Fitted, OnDemand
    from deviceplugin.vendor.partitions import PartitionedGpu

_NONE: "Mapping[DeviceID, PartitionedGpu]" = MappingProxyType({})


class NobodyCutsError(DevicePluginError):
    """No partitions are made on this node."""


class Seat:
    """Taken by what makes partitions, when there is such a thing; used on the loop."""

    def __init__(self) -> None:
        self._taken: OnDemand | None = None
        self._claims: Claims | None = None
        self._changed: Callable[[], object] = lambda: None

    def take(self, on_demand: "OnDemand") -> None:
        """From now on it makes them."""
        self._taken = on_demand
        on_demand.follow(self._claims, self._changed)

    def follow(self, claims: "Claims | None", changed: Callable[[], object]) -> None:
        """As `OnDemand.follow`, whenever there is one."""
        self._claims, self._changed = claims, changed
        if self._taken is not None:
            self._taken.follow(claims, changed)

    def gpus(self) -> "Mapping[DeviceID, PartitionedGpu]":
        """Those of which claims can have partitions made."""
        return _NONE if self._taken is None else self._taken.gpus

    def is_ours(self, device: Device) -> bool:
        """Whether it was made for a claim."""
        return self._taken is not None and self._taken.is_ours(device)

    def is_left(self, gpu: DeviceID) -> bool:
        """As `OnDemand.is_left`; all are where no layout has on_demand."""
        return self._taken is None or self._taken.is_left(gpu)

    async def fit(self, gpu: DeviceID) -> "Fitted":
        """As `OnDemand.fit`; raises DevicePluginError."""
        if self._taken is None:
            raise NobodyCutsError("no layout has on_demand: true")
        return await self._taken.fit(gpu)
