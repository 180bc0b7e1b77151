"""Who holds a device, and what is checked of a claim's devices together; pure."""

from collections.abc import Iterable, Sequence

from deviceplugin.dra.claims import UID, ClaimError, ClaimRef
from deviceplugin.dra.files import DeviceEdits
from deviceplugin.dra.journal import Prepared
from deviceplugin.dra.limits import Counters
from deviceplugin.dra.shares import Shares, amounts_of, totals
from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.resources.entries import ClaimMemory
from deviceplugin.resources.usage import CLAIM, RESERVED, Usage, claim_name

UNKNOWN = "an unknown claim"


def other_holder(
    usage: Usage, devices: Iterable[DeviceID], beside: Iterable[ResourceName]
) -> ResourceName | None:
    """Who holds one of the devices beside those claims and what is kept for claims; None for
    nobody."""
    forms = {form for device in devices for form in usage.of(device)}
    forms -= {(name, CLAIM) for name in (RESERVED, *beside)}
    return min(forms)[0] if forms else None


def in_use(ref: ClaimRef, wanted: Prepared, holder: ResourceName) -> ClaimError:
    """The refusal of a device that somebody else has."""
    text = f"device {wanted.name} ({wanted.device}) is in use as {holder}"
    return ClaimError(f"claim {ref.text}: {text}: it is asked for again when that is free")


def check_beside(
    ref: ClaimRef,
    wanted: Prepared,
    held: Iterable[tuple[ClaimRef, Prepared]],
    of: tuple[Device, Shares | None],
) -> frozenset[ResourceName]:
    """The claims beside which `ref` can have what is wanted of a device; raises ClaimError where
    one is in its way. `held` are what claims have of the device and its relatives."""
    device, shares = of
    beside = {holder_text(ref)}
    parts = []
    for holder, one in held:
        if one.admin:
            continue
        if shares is None or not _are_shares(one, wanted):
            raise in_use(ref, wanted, holder_text(holder))
        beside.add(holder_text(holder))
        parts.append(one.consumed)
    if wanted.share_id is not None:
        _check_room(ref, wanted, totals(device, shares) if shares else None, parts)
    return frozenset(beside)


def _are_shares(one: Prepared, other: Prepared) -> bool:
    """Whether both are parts of one device, each its own."""
    same = one.device == other.device and one.share_id != other.share_id
    return same and one.share_id is not None and other.share_id is not None


def _check_room(
    ref: ClaimRef, wanted: Prepared, most: Counters | None, taken: Sequence[Counters]
) -> None:
    """Raises ClaimError for a part of a device that nobody shares here, or that is too large
    beside the parts that others have."""
    if most is None:
        text = f"device {wanted.name} is not shared on this node: give it a rule with replicas"
        raise ClaimError(f"claim {ref.text}: {text} or memory, or ask for it whole")
    for name, amount in most.items():
        asked = wanted.consumed.get(name, 0)
        free = amount - sum(part.get(name, 0) for part in taken)
        if asked > free:
            text = f"device {wanted.name} has {free} of {amount} {name} left, {asked} are asked for"
            raise ClaimError(f"claim {ref.text}: {text}")


def holder_text(ref: ClaimRef) -> ResourceName:
    return claim_name(ref.namespace, ref.name) if ref.name else ResourceName(UNKNOWN)


def check_ref(ref: ClaimRef) -> None:
    if not UID.fullmatch(ref.uid):
        raise ClaimError(f"claim {ref.text}: its uid is not letters, digits and '-'")


def check_variables(ref: ClaimRef, edits: Iterable[DeviceEdits]) -> None:
    """A runtime keeps one value of a variable: a container would lose all devices but one."""
    values: dict[str, str] = {}
    for name, value in (pair for one in edits for pair in one.own.env.items()):
        if values.setdefault(name, value) != value:
            text = f"its devices would set {name} to different values"
            action = "set device_list_strategy of their vendor to cdi-cri"
            raise ClaimError(f"claim {ref.text}: {text}: {action}")


def memory_held(
    driver: str, claims: Iterable[tuple[ClaimRef, Iterable[tuple[Device, Shares, Counters]]]]
) -> Sequence[ClaimMemory]:
    """What the ledger is told of the memory that claims have of devices which they share."""
    return [
        ClaimMemory(source=driver, uid=ref.uid, name=holder_text(ref), memory=amounts_of(parts))
        for ref, parts in claims
    ]
