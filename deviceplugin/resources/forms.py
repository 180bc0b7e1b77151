"""Who may take a device in which form: the check and the reservation of an allocation, in one
step."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import AdvertisedDevice, Device, DeviceID, Resource, ResourceName
from deviceplugin.resources.allocation import check_request
from deviceplugin.resources.ledger import Ledger, LedgerEntry, UsageSource
from deviceplugin.resources.pairs import Pairs
from deviceplugin.resources.shares import form_text, noun_text
from deviceplugin.resources.usage import Key, children_of, in_use_as

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
        self.ledger, self.source, self.pairs = ledger, source, pairs
        self._choices, self._devices = choices, devices
        self._parts: Parts = ({}, {})

    def reserving(self, resource: Resource, entries: Sequence[AdvertisedDevice]) -> "Reserving":
        """The entries are in use while it is open and, unless what is done there fails, from
        then on.

        To open it raises AllocationError for more than a container may have, for a device that is
        in use in another form, where nobody can say whether it is, and for a half of a joined pair
        that does not fit the other.
        """
        return Reserving(self, resource, entries)

    async def reserve(
        self, resource: Resource, entries: Sequence[AdvertisedDevice], keys: Sequence[Key]
    ) -> Mapping[Key, LedgerEntry]:
        """Check and reserve; what the ledger needs to give the ids back."""
        if self.pairs is not None:
            self.pairs.check(resource, entries)
        check_request(resource, entries)
        if not self.ledger.answered:
            await self._know(resource, entries)
        self._check_forms(resource, entries)
        return self.ledger.reserve(keys)

    async def _know(self, resource: Resource, entries: Sequence[AdvertisedDevice]) -> None:
        """Without a ledger only the first form can be handed out: it is the same one always."""
        choices = self._choices()
        contested = [entry.device for entry in entries if entry.device in choices]
        if not contested:
            return
        await self.source.ask()
        if self.ledger.answered:
            return
        first = all(choices.get(device) == resource.name for device in contested)
        if not (first and self.source.absent):
            text = "the kubelet's PodResources API does not tell which form of a device is in use"
            raise AllocationError(Refusal.LEDGER, f"{resource.name}: {text}")

    def _check_forms(self, resource: Resource, entries: Sequence[AdvertisedDevice]) -> None:
        devices, usage = self._devices(), self.ledger.usage.value
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


class Reserving(AbstractAsyncContextManager[None]):
    """A reservation that is open. It is written out by hand, as every Allocate goes through it:
    nested generators take several times as long."""

    __slots__ = ("_before", "_entries", "_guard", "_handing_out", "_keys", "_resource")

    def __init__(
        self, guard: FormGuard, resource: Resource, entries: Sequence[AdvertisedDevice]
    ) -> None:
        self._guard, self._resource, self._entries = guard, resource, entries
        self._keys: list[Key] = [(resource.name, entry.id) for entry in entries]
        self._before: Mapping[Key, LedgerEntry] = {}
        self._handing_out = guard.source.allocating()

    async def __aenter__(self) -> None:
        guard = self._guard
        guard.ledger.begin_naming(self._keys)
        try:
            self._before = await guard.reserve(self._resource, self._entries, self._keys)
        except BaseException:
            self._refused()
            raise
        self._handing_out.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        guard, pairs = self._guard, self._guard.pairs
        self._handing_out.__exit__(None, None, None)
        if kind is not None:
            guard.ledger.give_back(self._keys, self._before)
            self._refused()
            return
        guard.ledger.end_naming(self._keys)
        if pairs is not None:
            pairs.given(self._resource, self._entries)

    def _refused(self) -> None:
        self._guard.ledger.end_naming(self._keys)
        if self._guard.pairs is not None:
            self._guard.pairs.refused(self._resource)
