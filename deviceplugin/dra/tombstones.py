"""Claims that were given back a moment ago: a Prepare that was under way comes too late; pure."""

from collections.abc import Collection

from msgspec import Struct

KEPT_S = 30.0  # longer than a late call, shorter than the kubelet's next try
MOST = 1000


class Tombstone(Struct, frozen=True):
    """The pods that a claim was reserved for when it was prepared, and until when (seconds)."""

    pods: frozenset[str]
    until_s: float


class Tombstones:
    """Bounded in time and number: a pod that is new to the claim has it at once, one that shares
    it with a pod that has ended a little later."""

    def __init__(self) -> None:
        self._known: dict[str, Tombstone] = {}

    def lay(self, uid: str, pods: Collection[str], now_s: float) -> None:
        """The claim has been given back."""
        self._known.pop(uid, None)
        self._known[uid] = Tombstone(frozenset(pods), now_s + KEPT_S)
        while len(self._known) > MOST or next(iter(self._known.values())).until_s <= now_s:
            del self._known[next(iter(self._known))]

    def keeps(self, uid: str, pods: Collection[str], now_s: float) -> bool:
        """Whether it must not be prepared now for these pods, all of which had it before."""
        found = self._known.get(uid)
        return found is not None and now_s < found.until_s and set(pods) <= found.pods
