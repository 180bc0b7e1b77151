"""Who may take a device in which form: the check and the reservation of an allocation, in one
step."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import AdvertisedDevice, Device, DeviceID, Resource, ResourceName
from deviceplugin.resources.allocation import check_request
from deviceplugin.resources.ledger import Ledger, UsageSource
from deviceplugin.resources.pairs import Pairs
from deviceplugin.resources.shares import form_text, noun_text
from deviceplugin.resources.usage import children_of, in_use_as

# Devices, and the parts of each whole among them.
Parts = tuple[Mapping[DeviceID, Device], Mapping[DeviceID, tuple[DeviceID, ...]]]
Choices = Mapping[DeviceID, ResourceName | None]


class FormGuard:
    """Guards devices that are offered in several forms.

    `choices` are the plan's. Between the check and the reservation nothing waits, so that of two
    allocations that race for one GPU the second always finds the first.
    """

    def __init__(
        self,
        ledger: Ledger,
        source: UsageSource,
        choices: Callable[[], Choices],
        devices: Callable[[], Mapping[DeviceID, Device]],
        pairs: Pairs | None = None,
    ) -> None:
        self._ledger, self._source, self._pairs = ledger, source, pairs
        self._choices, self._devices = choices, devices
        self._parts: Parts = ({}, {})

    @asynccontextmanager
    async def reserving(
        self, resource: Resource, entries: Sequence[AdvertisedDevice]
    ) -> AsyncIterator[None]:
        """The entries are in use from here on, unless what is done here fails.

        Raises AllocationError for more than a container may have, for a device that is in use
        in another form, where nobody can say whether it is, and for a half of a joined pair that
        does not fit the other.
        """
        ids = [entry.id for entry in entries]
        with self._ledger.naming(resource.name, ids), self._paired(resource, entries):
            check_request(resource, entries)
            await self._know(resource, entries)
            self._check_forms(resource, entries)
            with self._source.allocating(), self._ledger.reserving(resource.name, ids):
                yield

    @contextmanager
    def _paired(self, resource: Resource, entries: Sequence[AdvertisedDevice]) -> Iterator[None]:
        if self._pairs is None:
            yield
            return
        try:
            self._pairs.check(resource, entries)
            yield
        except BaseException:
            self._pairs.refused(resource)
            raise
        self._pairs.given(resource, entries)

    async def _know(self, resource: Resource, entries: Sequence[AdvertisedDevice]) -> None:
        """Without a ledger only the first form can be handed out: it is the same one always."""
        choices = self._choices()
        contested = [entry.device for entry in entries if entry.device in choices]
        if not contested or self._ledger.answered:
            return
        await self._source.ask()
        if self._ledger.answered:
            return
        first = all(choices.get(device) == resource.name for device in contested)
        if not (first and self._source.absent):
            text = "the kubelet's PodResources API does not tell which form of a device is in use"
            raise AllocationError(Refusal.LEDGER, f"{resource.name}: {text}")

    def _check_forms(self, resource: Resource, entries: Sequence[AdvertisedDevice]) -> None:
        devices, usage = self._devices(), self._ledger.usage.value
        if self._parts[0] is not devices:
            self._parts = (devices, children_of(devices))
        children = self._parts[1]
        for entry in entries:
            device = devices.get(entry.device)
            if device is None:
                continue
            form = (resource.name, form_text(entry.share))
            partner = entry.share.partner if entry.share else None
            other = in_use_as(usage, device, form, children.get(device.id, ()), partner)
            if other is not None and entry.id not in usage.kept(device.id, form):
                noun = noun_text(device)
                text = f"{resource.name}: {noun} {device.id} is in use as {other}"
                raise AllocationError(Refusal.IN_USE, text)
