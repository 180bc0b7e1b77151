"""Which devices pods hold, from the kubelet's PodResources API (v1 List and Get)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import AdvertisedID, ResourceName
from deviceplugin.resources.usage import Key, Usage, usage_of, with_keys
from deviceplugin.runtime.latest import Latest

# For each resource the ids that are held, with the NUMA node the kubelet has for them.
Holders = Mapping[ResourceName, Mapping[AdvertisedID, int | None]]


class HoldersUnknownError(DevicePluginError):
    """The API is not there or does not answer: nobody can say what pods hold."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Holder:
    """The container that holds a device."""

    namespace: str
    pod: str
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A device that a container holds; a device of several NUMA nodes has one for each."""

    resource: ResourceName
    id: AdvertisedID
    numa_node: int | None
    holder: Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All active pods (namespace, name), and what their containers hold."""

    pods: frozenset[tuple[str, str]]
    holdings: tuple[Holding, ...]


def by_resource(holdings: Iterable[Holding]) -> Holders:
    """The ids of holdings, by resource."""
    held: dict[ResourceName, dict[AdvertisedID, int | None]] = {}
    for holding in holdings:
        held.setdefault(holding.resource, {})[holding.id] = holding.numa_node
    return held


QUIET_S = 120.0


SETTLED_S = 1.0  # an admission takes milliseconds from its Allocate to its end


MISSING_ANSWERS = 2


Pods = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An id in use: since when (monotonic seconds), whether the kubelet has listed it since, by
    whom, and how many answers in a row spoke for its release.

    `pods` are those that were there before, None where that is unknown.
    """

    since_s: float
    listed: bool = False
    holder: Holder | None = None
    missing: int = 0
    pods: Pods | None = None


class Ledger:
    """The claims on all ids; `now` gives monotonic seconds. Changed on the loop only."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._claims: dict[Key, Claim] = {}
        self._pods: Pods | None = None
        self.usage: Latest[Usage] = Latest(usage_of(()))
        self.holders: Mapping[ResourceName, frozenset[AdvertisedID]] = {}

    @property
    def answered(self) -> bool:
        """Whether what pods held before our time is known."""
        return self._pods is not None

    @property
    def claims(self) -> Mapping[Key, Claim]:
        """Everything that is in use."""
        return self._claims

    def held(self) -> list[tuple[tuple[str, str, str], ResourceName, AdvertisedID]]:
        """Namespace, pod and container of each id whose holder is known; from any thread."""
        return [
            ((claim.holder.namespace, claim.holder.pod, claim.holder.container), name, advertised)
            for (name, advertised), claim in list(self._claims.items())
            if claim.holder
        ]

    @contextmanager
    def claiming(self, resource: ResourceName, ids: Iterable[AdvertisedID]) -> Iterator[None]:
        """The ids are in use from here on, unless what is done here fails."""
        keys = [(resource, advertised) for advertised in ids]
        before = {key: self._claims[key] for key in keys if key in self._claims}
        fresh = [key for key in keys if key not in before]
        self._claims |= {key: Claim(since_s=self._now(), pods=self._pods) for key in keys}
        if self.usage.set(with_keys(self.usage.value, fresh)):
            here = self.holders.get(resource, frozenset()).union(
                advertised for _, advertised in fresh
            )
            self.holders = {**self.holders, resource: here}
        try:
            yield
        except BaseException:
            for key in keys:
                self._claims.pop(key, None)
            self._claims |= before
            self._publish()
            raise

    def kubelet_restarted(self) -> None:
        """What was in use may be missing in the new kubelet's first answers."""
        fresh = Claim(since_s=self._now())
        self._claims = {
            key: replace(fresh, holder=claim.holder) for key, claim in self._claims.items()
        }

    def observe(self, answer: Answer, asked_s: float) -> None:
        """Take an answer to a question of `asked_s` (monotonic seconds) into account."""
        claims = {
            (held.resource, held.id): Claim(since_s=asked_s, listed=True, holder=held.holder)
            for held in answer.holdings
        }
        for key, claim in self._claims.items():
            if claim.since_s > asked_s:
                claims[key] = claim
            elif key not in claims:
                following = _missed(claim, answer.pods, asked_s)
                claims |= {key: following} if following else {}
        self._claims, self._pods = claims, answer.pods
        self._publish()

    def missing_pods(self) -> frozenset[tuple[str, str]]:
        """Namespace and name of pods whose devices were missing in the last answer."""
        return frozenset(
            (claim.holder.namespace, claim.holder.pod)
            for claim in self._claims.values()
            if claim.listed and claim.missing and claim.holder
        )

    def pod_gone(self, namespace: str, pod: str) -> None:
        """The kubelet confirms that it has no such pod: what was missing of it is free."""
        self._claims = {
            key: claim
            for key, claim in self._claims.items()
            if not (
                claim.listed
                and claim.missing
                and claim.holder
                and (claim.holder.namespace, claim.holder.pod) == (namespace, pod)
            )
        }
        self._publish()

    def _publish(self) -> None:
        if self.usage.set(usage_of(self._claims)):
            self.holders = _by_resource(self._claims)


def _missed(claim: Claim, pods: Pods, asked_s: float) -> Claim | None:
    """The claim after an answer without it, None where it is free."""
    age_s = asked_s - claim.since_s
    known = claim.pods is not None and pods <= claim.pods and age_s >= SETTLED_S
    missing = claim.missing + 1 if claim.listed or known else 0
    if missing >= MISSING_ANSWERS or (not claim.listed and age_s >= QUIET_S):
        return None
    return replace(claim, missing=missing)


def _by_resource(keys: Iterable[Key]) -> Mapping[ResourceName, frozenset[AdvertisedID]]:
    found: dict[ResourceName, set[AdvertisedID]] = {}
    for name, advertised in keys:
        found.setdefault(name, set()).add(advertised)
    return {name: frozenset(ids) for name, ids in found.items()}
