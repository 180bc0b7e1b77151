"""A device that several claims have at once, each a part of its capacity; pure."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.dra.limits import Counters, Policy, SliceDevice
from deviceplugin.model import ContainerEdits, Device, DeviceID, Isolation, frozen
from deviceplugin.resources.grants import ISOLATION, amounts_env
from deviceplugin.resources.section import Offer
from deviceplugin.resources.shares import MIB, share_of

MIN_SHARES = 2  # one has no step to the next, and is nobody's share
SHARES = "shares"
MEMORY = "memory"
ONE = Policy(default=1, least=1, step=1)


class Shares(Struct, frozen=True, kw_only=True):
    """How a device is shared: `count` replicas (None: any number), and `memory_bytes` in units of
    `unit_bytes` (None: memory is not counted)."""

    count: int | None = None
    unit_bytes: int | None = None
    memory_bytes: int | None = None


def shares_of(device: Device, forms: Iterable[Offer]) -> Shares | None:
    """How the rules share a device among claims, None where they do not: those forms are for it
    that need no program beside."""
    count = unit = memory = None
    for offer in forms:
        share = share_of(device, offer) if device.shareable and offer.method is None else None
        if share is None or share.count < MIN_SHARES:
            continue
        if share.unit_bytes is None:
            count = share.count
        else:
            unit, memory = share.unit_bytes, share.count * share.unit_bytes
    if count is None and unit is None:
        return None
    return Shares(count=count, unit_bytes=unit, memory_bytes=memory)


def shared(device: SliceDevice, shares: Shares) -> SliceDevice:
    """The device for several claims. One that asks for no amount has one replica, or where there
    are none all of the memory, as of a device that is not shared."""
    capacity = dict(device.capacity)
    policies = dict.fromkeys(capacity, Policy(default=0))
    if shares.count is not None:
        capacity[SHARES], policies[SHARES] = shares.count, ONE
    if shares.unit_bytes is not None and shares.memory_bytes is not None:
        capacity[MEMORY], counted = shares.memory_bytes, shares.count is not None
        policies[MEMORY] = _memory(shares.memory_bytes, shares.unit_bytes, counted=counted)
    elif MEMORY in capacity and capacity[MEMORY] >= MIB:
        policies[MEMORY] = Policy(default=0, least=0, step=MIB)
    return replace(device, capacity=capacity, policies=policies)


def _memory(whole: int, unit: int, *, counted: bool) -> Policy:
    if counted:
        return Policy(default=0, least=0, step=unit)
    return Policy(default=whole, least=unit, step=unit)


def totals(device: Device, shares: Shares) -> Counters:
    """What all claims together can have of a device."""
    memory = device.memory_bytes if shares.memory_bytes is None else shares.memory_bytes
    found = {MEMORY: memory, SHARES: shares.count}
    return {key: amount for key, amount in found.items() if amount is not None}


def consumed_of(shares: Shares | None, told: Counters) -> Counters:
    """What a claim takes; where it is not told, what one takes that asks for no amount."""
    if shares is None:
        return told
    known = {SHARES: None if shares.count is None else ONE.default}
    if shares.unit_bytes is not None and shares.memory_bytes is not None:
        counted = shares.count is not None
        policy = _memory(shares.memory_bytes, shares.unit_bytes, counted=counted)
        known[MEMORY] = policy.default
    return {**{key: n for key, n in known.items() if n is not None}, **told}


def share_edits(parts: Iterable[tuple[Device, Shares, Counters]]) -> ContainerEdits:
    """What the containers of a claim are told of the parts of devices that it has."""
    parts = tuple(parts)
    env = {ISOLATION: str(Isolation.NONE)} if parts else {}
    return ContainerEdits(env=frozen(env | amounts_env(amounts_of(parts).items())))


def amounts_of(parts: Iterable[tuple[Device, Shares, Counters]]) -> dict[DeviceID, int]:
    """The memory of each device that the parts stand for, where it is known."""
    amounts: dict[DeviceID, int] = {}
    for device, shares, consumed in parts:
        if size := _bytes(device, shares, consumed):
            amounts[device.id] = amounts.get(device.id, 0) + size
    return amounts


def _bytes(device: Device, shares: Shares, consumed: Counters) -> int | None:
    """The memory that was asked for, or that of so many equal parts."""
    if consumed.get(MEMORY):
        return consumed[MEMORY]
    if shares.count is None or device.memory_bytes is None:
        return None
    return device.memory_bytes // shares.count * consumed.get(SHARES, 0)
