"""Who holds which id: one ledger for every front end that hands devices out.

A front end reserves what it gives, and its source of usage (for the device plugin the kubelet's
PodResources API) tells what containers hold. Nothing here knows a front end.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import AdvertisedID, DeviceID, ResourceName
from deviceplugin.resources.entries import (
    MISSING_ANSWERS,
    QUIET_S,
    SETTLED_S,
    ClaimMemory,
    Holder,
    LedgerEntry,
    Pods,
    missed,
    restarted,
)
from deviceplugin.resources.ids import Ids
from deviceplugin.resources.shares import Meaning
from deviceplugin.resources.usage import Claims, Key, Usage, usage_of, with_claims, with_keys
from deviceplugin.runtime.latest import Latest

__all__ = [
    "MISSING_ANSWERS",
    "QUIET_S",
    "SETTLED_S",
    "Holder",
    "HoldersUnknownError",
    "Holding",
    "Ledger",
    "LedgerEntry",
    "PodResourcesReply",
    "Pods",
    "UsageSource",
]


class HoldersUnknownError(DevicePluginError):
    """The API is not there or does not answer: nobody can say what pods hold."""


class UsageSource(Protocol):
    """Where a ledger learns what containers hold."""

    @property
    def absent(self) -> bool:
        """Whether there is no source on this node, so that asking it is of no use."""
        ...

    async def ask(self) -> None:
        """Put one question to the source; the ledger has its reply afterwards, if it gave one."""
        ...

    def allocating(self) -> AbstractContextManager[None]:
        """Something is handed out meanwhile: a reply would not have it yet."""
        ...


class Holding(Struct, frozen=True, kw_only=True, gc=False):
    """A device that a container holds; a device of several NUMA nodes has one for each."""

    resource: ResourceName
    id: AdvertisedID
    numa_node: int | None
    holder: Holder


class PodResourcesReply(Struct, frozen=True, kw_only=True):
    """All active pods (namespace, name), what their containers hold, and the claims that they
    use."""

    pods: Pods
    holdings: tuple[Holding, ...]
    claims: tuple[tuple[ResourceName, Holder], ...] = ()


class Ledger:
    """The entries of all ids in use; `now` gives monotonic seconds. Changed on the loop only.

    `usage` has what is in use of each device.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._entries: dict[Key, LedgerEntry] = {}
        self._pods: Pods | None = None
        self._ids = Ids()
        self._meanings: dict[Key, tuple[Meaning, ...]] = {}
        self._naming: dict[Key, int] = {}
        self._named_s: dict[Key, float] = {}
        self.usage: Latest[Usage] = Latest(usage_of({}))
        self._holders: Mapping[ResourceName, frozenset[AdvertisedID]] = {}
        self._reserved: list[Key] = []  # and not among the holders yet
        self._claims: dict[str, Claims] = {}
        self.claim_memory: dict[str, tuple[ClaimMemory, ...]] = {}
        self.claimants: tuple[tuple[ResourceName, Holder], ...] = ()

    @property
    def answered(self) -> bool:
        """Whether what containers held before our time is known."""
        return self._pods is not None

    @property
    def entries(self) -> Mapping[Key, LedgerEntry]:
        """Everything that is in use."""
        return self._entries

    @property
    def holders(self) -> Mapping[ResourceName, frozenset[AdvertisedID]]:
        """The ids in use of each resource; the same object until they change. They are put together
        when somebody asks, and not by each allocation: there may be tens of thousands."""
        if self._reserved:
            more, self._reserved = _by_resource(self._reserved), []
            known = self._holders
            merged = {name: known.get(name, frozenset()) | ids for name, ids in more.items()}
            self._holders = {**known, **merged}
        return self._holders

    def is_held(self, key: Key, quiet_s: float = 0.0) -> bool:
        """Whether the id is in use, or about to be: a request names it, or did within the last
        `quiet_s` seconds, of which no more than QUIET_S are remembered."""
        if key in self._entries or key in self._naming:
            return True
        named_s = self._named_s.get(key)
        return named_s is not None and self._now() - named_s < quiet_s

    def held(self) -> list[tuple[tuple[str, str, str], ResourceName, DeviceID]]:
        """Namespace, pod and container of each id or claim whose holder is known, the resource or
        the claim, and the device behind it; from any thread."""
        meanings, claims = self._meanings, list(self._claims.values())
        found = [
            (entry.holder, key[0], meanings[key][0][0] if key in meanings else DeviceID(key[1]))
            for key, entry in list(self._entries.items())
            if entry.holder
        ]
        for name, holder in self.claimants:
            found += [(holder, name, d) for held in claims for d in held if name in held[d]]
        return [((who.namespace, who.pod, who.container), name, d) for who, name, d in found]

    def look_up(self, ids: Ids) -> None:
        """Take held ids to mean what `ids` says from now on."""
        if ids != self._ids:
            self._ids = ids
            self._mean({key: ids.meanings(key) for key in self._entries})

    @contextmanager
    def naming(self, resource: ResourceName, ids: Iterable[AdvertisedID]) -> Iterator[None]:
        """A request names the ids, whether it will get them or not."""
        keys = [(resource, advertised) for advertised in ids]
        self.begin_naming(keys)
        try:
            yield
        finally:
            self.end_naming(keys)

    def begin_naming(self, keys: Iterable[Key]) -> None:
        """A request names these ids, until `end_naming`. They are remembered oldest first, and none
        that is past asking for."""
        now_s, named_s = self._now(), self._named_s
        for key in keys:
            self._naming[key] = self._naming.get(key, 0) + 1
            named_s.pop(key, None)
            named_s[key] = now_s
        while named_s and now_s - named_s[oldest := next(iter(named_s))] >= QUIET_S:
            del named_s[oldest]

    def end_naming(self, keys: Iterable[Key]) -> None:
        """The request that named these ids has its answer."""
        for key in keys:
            self._naming[key] -= 1
            if not self._naming[key]:
                del self._naming[key]

    @contextmanager
    def reserving(self, resource: ResourceName, ids: Iterable[AdvertisedID]) -> Iterator[None]:
        """The ids are in use from here on, unless what is done here fails."""
        keys = [(resource, advertised) for advertised in ids]
        before = self.reserve(keys)
        self.begin_naming(keys)
        try:
            yield
        except BaseException:
            self.give_back(keys, before)
            raise
        finally:
            self.end_naming(keys)

    def reserve(self, keys: Sequence[Key]) -> Mapping[Key, LedgerEntry]:
        """These ids are in use from here on; what `give_back` needs."""
        entries = self._entries
        before = {key: entries[key] for key in keys if key in entries}
        fresh = {key: self._ids.meanings(key) for key in keys if key not in before}
        entries |= dict.fromkeys(keys, LedgerEntry(since_s=self._now(), pods=self._pods))
        self._meanings |= fresh
        usage = self.usage.value
        if fresh or not usage.unlisted.issuperset(keys):
            self.usage.set(with_keys(usage, fresh, usage.unlisted.union(keys)))
        if fresh:
            self._reserved += fresh
        return before

    def give_back(self, keys: Iterable[Key], before: Mapping[Key, LedgerEntry]) -> None:
        """These ids are in use as they were before they were reserved."""
        for key in keys:
            self._entries.pop(key, None)
        self._entries |= before
        self._publish()

    def claim(self, source: str, claims: Claims, memory: Iterable[ClaimMemory] = ()) -> None:
        """These devices are held, not by ids of a resource but by what `claims` call it, in place
        of those that `source` named before, memory of some. No reply of the kubelet frees them."""
        self._claims[source], self.claim_memory[source] = claims, tuple(memory)
        self._mean(self._meanings)

    @property
    def claimed(self) -> bool:
        """Whether any device is, or was, held by something else than ids of resources."""
        return bool(self._claims)

    def source_restarted(self) -> None:
        """What was in use may be missing in the first replies of a source that has restarted."""
        now_s = self._now()
        self._entries = {key: restarted(entry, now_s) for key, entry in self._entries.items()}

    def observe(self, reply: PodResourcesReply, asked_s: float) -> None:
        """Take the reply to a question of `asked_s` (monotonic seconds) into account."""
        entries = {
            (held.resource, held.id): LedgerEntry(
                since_s=asked_s, listed=True, holder=held.holder, numa_node=held.numa_node
            )
            for held in reply.holdings
        }
        for key, entry in self._entries.items():
            if entry.since_s > asked_s:
                entries[key] = entry
            elif key not in entries:
                following = missed(entry, reply.pods, asked_s)
                entries |= {key: following} if following else {}
        self._entries, self._pods, self.claimants = entries, reply.pods, reply.claims
        self._publish()

    def missing_pods(self) -> Pods:
        """Namespace and name of pods whose devices were missing in the last reply."""
        return frozenset(
            (entry.holder.namespace, entry.holder.pod)
            for entry in self._entries.values()
            if entry.listed and entry.missing and entry.holder
        )

    def pod_gone(self, namespace: str, pod: str) -> None:
        """It is confirmed that there is no such pod: what was missing of it is free."""
        self._entries = {
            key: entry
            for key, entry in self._entries.items()
            if not (
                entry.listed
                and entry.missing
                and entry.holder
                and (entry.holder.namespace, entry.holder.pod) == (namespace, pod)
            )
        }
        self._publish()

    def _unlisted(self) -> frozenset[Key]:
        return frozenset(key for key, entry in self._entries.items() if not entry.holder)

    def _publish(self) -> None:
        if self._entries.keys() == self._meanings.keys():
            self.usage.set(replace(self.usage.value, unlisted=self._unlisted()))
            return
        known = self._meanings
        self._mean({key: known.get(key) or self._ids.meanings(key) for key in self._entries})

    def _mean(self, meanings: dict[Key, tuple[Meaning, ...]]) -> None:
        """Replaced whole: `held` may be read meanwhile."""
        self._meanings = meanings
        usage = with_claims(usage_of(meanings, self._unlisted()), self._claims.values())
        if self.usage.set(usage):
            self._holders, self._reserved = _by_resource(self._entries), []


def _by_resource(keys: Iterable[Key]) -> Mapping[ResourceName, frozenset[AdvertisedID]]:
    found: dict[ResourceName, set[AdvertisedID]] = {}
    for name, advertised in keys:
        found.setdefault(name, set()).add(advertised)
    return {name: frozenset(ids) for name, ids in found.items()}
