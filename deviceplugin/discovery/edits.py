"""What containers get: the vendors' container edits, within a deadline, checked on the host."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from deviceplugin.edits import merge_edits
from deviceplugin.errors import AllocationError, DevicePluginError, Refusal, VendorError
from deviceplugin.host import Host
from deviceplugin.model import CdiSpec, ContainerEdits, Device, DeviceID, ResourceName
from deviceplugin.resources.grants import NOTHING_GRANTED, Granted
from deviceplugin.runtime.guard import plugin_function
from deviceplugin.runtime.threads import DriverThread
from deviceplugin.vendor import CdiSource, Grant, HoldingsFollower, ShareLimits, Vendor

ALLOCATE_S = 5.0
MAX_KEPT = 4096  # of single devices
MAX_KEPT_TOGETHER = 256  # of several, whose combinations have no end
Shares = tuple[tuple[DeviceID, int, tuple[int, ...]], ...]
Key = tuple[ResourceName | None, tuple[DeviceID, ...]]
_NONE = ContainerEdits()


class EditsCache:
    """Asks the vendors, each on a thread of its own, and keeps their edits.

    Container edits are a pure function of the devices: the same devices have the same edits until
    discovery finds one changed. So a vendor is asked for each single device when it is first
    offered, and for several when they are first given together; the edits are kept.
    """

    def __init__(self, host: Host, vendors: Mapping[str, Vendor]) -> None:
        self._host, self._vendors = host, vendors
        self._threads = {name: DriverThread(f"{name}-edits") for name in vendors}
        self._kept: dict[Key, Kept] = {}
        self._kept_together: dict[Key, Kept] = {}
        self._kept_shares: dict[Shares, tuple[Kept, Granted, Kept]] = {}

    async def edits(self, devices: Sequence[Device], shares: Granted) -> ContainerEdits:
        """What a container with these devices (of one vendor) and `shares` gets.

        Raises AllocationError where a node or mount is missing on the host or the vendor cannot
        limit the shares as its rule says, VendorError where the vendor fails, CallTimeoutError
        where it does not answer within ALLOCATE_S.
        """
        kept = await self._of_vendor(devices)
        if shares.grants:
            kept = await self._with_shares(kept, shares)
        # On the loop: a look into /dev is a look into memory, cheaper than another thread.
        for path in kept.paths:
            if not self._host.exists(path):
                raise AllocationError(Refusal.MISSING_NODE, f"{path} does not exist on the node")
        return kept.edits

    def close(self) -> None:
        """Answer the calls that run, and no later one."""
        for thread in self._threads.values():
            thread.close()

    def followed(self) -> Mapping[str, HoldingsFollower]:
        """The vendors that want to know what containers hold."""
        found = self._vendors.items()
        return {name: vendor for name, vendor in found if isinstance(vendor, HoldingsFollower)}

    async def held(self, containers: Iterable[Sequence[Device]]) -> None:
        """Tell those vendors what containers hold. Raises as `edits` does."""
        groups = list(containers)
        for name, vendor in self.followed().items():
            own = [[device for device in group if device.vendor == name] for group in groups]
            tell = plugin_function(f"{name}.held", vendor.held)
            kept = [group for group in own if group]
            await self._threads[name].call(partial(tell, kept), ALLOCATE_S)

    async def described(self, device: Device) -> tuple[ContainerEdits, ContainerEdits]:
        """What a CDI file says of one device, and of every device beside it: the vendor's own
        description where it has one, else what a container with this device alone gets.

        Raises as `edits` does.
        """
        vendor = self._vendors.get(device.vendor)
        found = None
        if isinstance(vendor, CdiSource):
            ask = partial(_described, device.vendor, partial(vendor.cdi_specs, [device]))
            found = await self._threads[device.vendor].call(ask, ALLOCATE_S)
        own, common = found or (await self.edits([device], NOTHING_GRANTED), _NONE)
        for path in (*_host_paths(own), *_host_paths(common)):
            if not self._host.exists(path):
                raise AllocationError(Refusal.MISSING_NODE, f"{path} does not exist on the node")
        return own, common

    async def prepare(self, devices: Iterable[Device]) -> None:
        """Ask for each of these that is not known as it is now.

        One call at a time, so that an allocation waits for one at most; the answer to a vendor
        that fails here is the failure of the allocation that asks again.
        """
        for device in devices:
            if device.vendor in self._vendors:  # not that of one that was just taken out
                with contextlib.suppress(DevicePluginError):
                    await self._of_vendor([device])

    async def _with_shares(self, whole: "Kept", shares: Granted) -> "Kept":
        """With the edits of shares too; so many slices of a GPU are like any others of it."""
        key = tuple([(grant.device.id, grant.count, grant.numbers) for grant in shares.grants])
        known = self._kept_shares.get(key)
        if known is not None and known[0] is whole and known[1] == shares:
            return known[2]
        limits = await self._of_shares(shares.grants)
        kept = whole.with_more([shares.edits, limits])
        if len(self._kept_shares) >= MAX_KEPT_TOGETHER:
            self._kept_shares.clear()
        self._kept_shares[key] = (whole, shares, kept)
        return kept

    async def _of_shares(self, grants: Sequence[Grant]) -> ContainerEdits:
        name = grants[0].device.vendor
        vendor = self._vendors[name]
        if not isinstance(vendor, ShareLimits):
            return _NONE
        ask = partial(_checked_edits, name, partial(vendor.share_edits, grants))
        return await self._threads[name].call(ask, ALLOCATE_S)

    async def _of_vendor(self, devices: Sequence[Device]) -> "Kept":
        first = devices[0]
        key = (first.resource, tuple([device.id for device in devices]))
        alone = len(devices) == 1
        known = self._kept if alone else self._kept_together
        kept = known.get(key)
        if kept is not None and kept.is_of(devices):
            return kept
        tell = partial(self._vendors[first.vendor].container_edits, devices)
        ask = partial(_checked_edits, first.vendor, tell)
        edits = await self._threads[first.vendor].call(ask, ALLOCATE_S)
        if len(known) >= (MAX_KEPT if alone else MAX_KEPT_TOGETHER):
            known.clear()
        known[key] = kept = Kept(tuple(devices), edits)
        return kept


class Kept:
    """The edits of devices, and the paths that they need on the host."""

    __slots__ = ("_devices", "edits", "paths")

    def __init__(self, devices: tuple[Device, ...], edits: ContainerEdits) -> None:
        self._devices, self.edits, self.paths = devices, edits, tuple(_host_paths(edits))

    def is_of(self, devices: Sequence[Device]) -> bool:
        """Whether they are of these devices as they are now; mostly they are the same objects."""
        return self._devices == tuple(devices)

    def with_more(self, edits: Sequence[ContainerEdits]) -> "Kept":
        """Of the same devices, with other edits too."""
        return Kept(self._devices, merge_edits([self.edits, *edits]))


def _checked_edits(vendor: str, ask: Callable[[], ContainerEdits]) -> ContainerEdits:
    """The vendor's edits, read once on its own thread: malformed ones fail there, not here."""
    return _checked(vendor, ask())


def _checked(vendor: str, answer: ContainerEdits) -> ContainerEdits:
    edits = merge_edits([answer])
    for path in _host_paths(edits):
        if not path.startswith("/"):
            raise VendorError(f"{vendor}: {path!r} is not a host path")
    return edits


def _described(
    vendor: str, ask: Callable[[], Sequence[CdiSpec]]
) -> tuple[ContainerEdits, ContainerEdits] | None:
    """Of the files for a single device, what is in the first that describes it."""
    for spec in ask():
        for own in spec.devices.values():
            return _checked(vendor, own), _checked(vendor, spec.common)
    return None


def _host_paths(edits: ContainerEdits) -> Sequence[str]:
    paths = [node.host_path for node in edits.device_nodes]
    return [*paths, *(mount.host_path for mount in edits.mounts)]
