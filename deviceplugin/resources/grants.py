"""Which shares of devices a container gets, and the variables that say so; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.edits import merge_edits
from deviceplugin.model import (
    AdvertisedDevice,
    ContainerEdits,
    Device,
    DeviceID,
    Resource,
    Share,
    frozen,
)
from deviceplugin.resources.section import SharingSection
from deviceplugin.resources.shares import MIB, share_bytes
from deviceplugin.vendor import Grant

# Ours, whoever enforces: `<device id>=<amount>` with commas between.
MEMORY_BYTES, MEMORY_MIB, ISOLATION = (
    "GPU_SHARE_MEMORY_BYTES",
    "GPU_SHARE_MEMORY_MIB",
    "GPU_SHARE_ISOLATION",
)
COMPUTE_PERCENT = "GPU_SHARE_COMPUTE_PERCENT"


class Granted(Struct, frozen=True, kw_only=True):
    """The shares of one container, and the edits that they bring whatever the vendor is.

    Both are empty for a container that has its devices whole.
    """

    edits: ContainerEdits = field(default_factory=ContainerEdits)
    grants: tuple[Grant, ...] = ()


NOTHING_GRANTED = Granted()


def granted(
    resource: Resource,
    entries: Sequence[AdvertisedDevice],
    devices: Mapping[DeviceID, Device],
    section: SharingSection,
) -> Granted:
    """The shares that `entries` of a resource are; `devices` are those behind them.

    Raises VendorError where a vendor's sharing method fails.
    """
    if not any(entry.share for entry in entries):
        return NOTHING_GRANTED
    counts = Counter((entry.device, entry.share) for entry in entries)
    if all(share is not None and _amount_is_partners(share) for _, share in counts):
        return Granted(edits=ContainerEdits(env=frozen({ISOLATION: str(resource.isolation)})))
    grants = sorted(
        (_grant(devices[d], share, n) for (d, share), n in counts.items() if share is not None),
        key=_pci_order,
    )
    grants = [_with_numbers(grant, entries) for grant in grants]
    known = [(g.device.id, g.memory_bytes) for g in grants if g.memory_bytes is not None]
    env = {ISOLATION: str(resource.isolation)} | amounts_env(known) | _compute_env(grants)
    edits = [ContainerEdits(env=frozen(env))]
    for name in dict.fromkeys(grant.share.method for grant in grants):
        if name is not None and name in section.METHODS:
            settings = getattr(section, name)
            edits.append(section.METHODS[name].edits(resource.name, settings))
    return Granted(edits=merge_edits(edits), grants=tuple(grants))


def _amount_is_partners(share: Share) -> bool:
    """How much of the device a container has is said with the memory that it is joined with: the
    kubelet keeps one value of a variable, either one."""
    return share.partner is not None and share.unit_bytes is None


def _grant(device: Device, share: Share, count: int) -> Grant:
    each = share_bytes(device, share)
    return Grant(
        device=device,
        share=share,
        count=count,
        memory_bytes=None if each is None else each * count,
        percent=_percent(device, share, count),
    )


def _with_numbers(grant: Grant, entries: Iterable[AdvertisedDevice]) -> Grant:
    """Which shares they are, where it matters: units of compute are given to one container each."""
    if grant.share.compute_percent is None:
        return grant
    numbers = [e.replica for e in entries if e.device == grant.device.id and e.replica is not None]
    return replace(grant, numbers=tuple(sorted(numbers)))


def _compute_env(grants: Iterable[Grant]) -> dict[str, str]:
    known = [f"{g.device.id}={g.percent}" for g in grants if g.share.compute_percent is not None]
    return {COMPUTE_PERCENT: ",".join(known)} if known else {}


def _percent(device: Device, share: Share, count: int) -> int | None:
    """The part of the device, in percent, rounded down as memory is."""
    if share.compute_percent is not None:
        return share.compute_percent * count
    if share.unit_bytes is None:
        return 100 * count // share.count
    memory = device.memory_bytes
    return None if not memory else 100 * share.unit_bytes * count // memory


def _pci_order(grant: Grant) -> tuple[str, str]:
    """Equal GPUs are numbered in a container by their PCI address."""
    return (grant.device.pci_address or "", grant.device.id)


def amounts_env(amounts: Iterable[tuple[DeviceID, int]]) -> dict[str, str]:
    """The variables that say how much memory of each device a container has, in bytes; none where
    no amount is known."""
    known = list(amounts)
    if not known:
        return {}
    return {
        MEMORY_BYTES: ",".join(f"{device}={size}" for device, size in known),
        MEMORY_MIB: ",".join(f"{device}={size // MIB}" for device, size in known),
    }
