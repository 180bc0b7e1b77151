"""One id in use: who has it, and what speaks for its release; pure."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.model import DeviceID, ResourceName

QUIET_S = 120.0  # until then a container that was given an id may be missing in every reply
SETTLED_S = 1.0  # an admission takes milliseconds from its Allocate to its end
MISSING_ANSWERS = 2  # replies in a row without an id that speak for its release

Pods = frozenset[tuple[str, str]]


class Holder(Struct, frozen=True, kw_only=True, gc=False, order=True):
    """The container that holds a device."""

    namespace: str
    pod: str
    container: str


class ClaimMemory(Struct, frozen=True, kw_only=True):
    """What a claim has of the memory of devices that it shares with others: `source` is who says
    so, `name` what the claim is called where a resource's name stands."""

    source: str
    uid: str
    name: ResourceName
    memory: Mapping[DeviceID, int]


class LedgerEntry(Struct, frozen=True, kw_only=True, gc=False):
    """An id in use: since when (monotonic seconds), whether a reply has had it since, by whom,
    on which NUMA node, and how many replies in a row spoke for its release.

    `pods` are those that were there before, None where that is unknown. Of an id that no reply
    has had, `suspects` are the pods one of which may hold it all the same, in an init container:
    a pod is listed before its admission, so they are among those that the first reply has and
    that were not there before. None until then.
    """

    since_s: float
    listed: bool = False
    holder: Holder | None = None
    numa_node: int | None = None
    missing: int = 0
    pods: Pods | None = None
    suspects: Pods | None = None


def missed(entry: LedgerEntry, pods: Pods, asked_s: float) -> LedgerEntry | None:
    """The entry after a reply without it, None where it is free."""
    age_s = asked_s - entry.since_s
    suspects = _suspects(entry, pods)
    nobody = suspects is not None and not suspects and age_s >= SETTLED_S
    missing = entry.missing + 1 if entry.listed or nobody else 0
    if missing >= MISSING_ANSWERS or (not entry.listed and age_s >= QUIET_S):
        return None
    return replace(entry, missing=missing, suspects=suspects)


def _suspects(entry: LedgerEntry, pods: Pods) -> Pods | None:
    """Never more than after the first reply: whoever comes later was admitted later."""
    if entry.suspects is not None:
        return entry.suspects & pods
    return None if entry.pods is None else pods - entry.pods


def restarted(entry: LedgerEntry, now_s: float) -> LedgerEntry:
    """Its holder may not be listed yet; that there is none stays true."""
    free = entry.suspects is not None and not entry.suspects and not entry.listed
    return LedgerEntry(
        since_s=now_s,
        holder=entry.holder,
        numa_node=entry.numa_node,
        missing=entry.missing if free else 0,
        suspects=entry.suspects if free else None,
    )
