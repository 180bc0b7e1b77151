"""ResourceSlices, ResourceClaims and DeviceClasses of the cluster as they are watched: which
devices a node has, what claims ask for, and what they have. It lives on the loop."""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from msgspec import structs

from deviceplugin.scheduler.asks import Ask, ClaimAsk
from deviceplugin.scheduler.claims import Claim, DeviceClass, asks_of
from deviceplugin.scheduler.demand import WHOLE
from deviceplugin.scheduler.devices import Devices, Got, Pool, Sliced
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.published import Kind, Slice
from deviceplugin.scheduler.selectors import Others, Selecting, not_known

Change = Literal["SET", "PUT", "DELETED"]


class Dynamic:
    """What is there; what changes gives the nodes that are others now."""

    def __init__(self, others: Others = not_known) -> None:
        self.selecting = Selecting(others)
        self._devices = Devices()
        self._slices: dict[str, Slice] = {}
        self._by_node: dict[str, dict[str, Slice]] = {}
        self._sliced: dict[str, Sliced] = {}
        self._node_of: dict[Pool, str] = {}
        self._claims: dict[str, Claim] = {}
        self._having: dict[Pool, dict[str, Claim]] = {}  # allocated claims, by pool and key
        self.allocated: set[str] = set()  # the claims that have their devices
        self._classes: dict[str, DeviceClass] = {}
        self._asks: dict[str, ClaimAsk] = {}
        self.version = 0  # of what selectors may take; claims are read anew when it changes

    # What is watched

    def put_slices(self, change: Change, found: Sequence[Slice]) -> set[str]:
        """Slices are new, changed or gone; with SET they are all there are."""
        gone = {one.name for one in found} if change == "DELETED" else set[str]()
        if change == "SET":
            gone = self._slices.keys() - {one.name for one in found}
        nodes = {self._remove(name) for name in gone}
        for one in found if change != "DELETED" else ():
            before = self._slices.get(one.name)
            if before != one:
                nodes |= {self._remove(one.name), one.node}
                if one.driver:
                    self._slices[one.name] = one
                    self._by_node.setdefault(one.node, {})[one.name] = one
        nodes.discard("")
        kinds = len(self._devices.milli)
        for node in nodes:
            self._join(node)
        self._renew(changed=kinds != len(self._devices.milli))
        return nodes

    def _remove(self, name: str) -> str:
        """Its node."""
        one = self._slices.pop(name, None)
        if one is None:
            return ""
        of_node = self._by_node[one.node]
        del of_node[name]
        if not of_node:
            del self._by_node[one.node]
        return one.node

    def _join(self, node: str) -> None:
        before = self._sliced.pop(node, None)
        for pool in before.pools if before else ():
            self._node_of.pop(pool, None)
        found = self._devices.of(tuple(self._by_node.get(node, {}).values()))
        if found is not None:
            self._sliced[node] = found
            self._node_of.update(dict.fromkeys(found.pools, node))

    def _renew(self, *, changed: bool) -> None:
        if changed:
            self._asks.clear()
            self.version += 1

    def put_claims(self, change: Change, found: Sequence[Claim]) -> set[str]:
        """Claims are new, changed or gone; with SET they are all there are."""
        keys = {one.key for one in found}
        gone = (
            self._claims.keys() - keys if change == "SET" else keys if change == "DELETED" else ()
        )
        nodes = {node for key in gone for node in self._forget(key)}
        for one in found if change != "DELETED" else ():
            if self._claims.get(one.key) != one:
                nodes |= self._forget(one.key) | self._keep(one)
        return nodes

    def _keep(self, claim: Claim) -> set[str]:
        self._claims[claim.key] = claim
        if claim.got is not None:
            self.allocated.add(claim.key)
        for pool in _pools(claim):
            self._having.setdefault(pool, {})[claim.key] = claim
        return self._nodes_of(claim)

    def _forget(self, key: str) -> set[str]:
        claim = self._claims.pop(key, None)
        self._asks.pop(key, None)
        self.allocated.discard(key)
        if claim is None:
            return set()
        for pool in _pools(claim):
            self._having[pool].pop(key, None)
            if not self._having[pool]:
                del self._having[pool]
        return self._nodes_of(claim)

    def _nodes_of(self, claim: Claim) -> set[str]:
        return {self._node_of[pool] for pool in _pools(claim) if pool in self._node_of}

    def put_classes(self, change: Change, found: Sequence[DeviceClass]) -> set[str]:
        """Classes are new, changed or gone; all nodes with devices may be served by them."""
        before = dict(self._classes)
        if change == "SET":
            self._classes.clear()
        for one in found:
            self._classes.pop(one.metadata.name, None)
            if change != "DELETED":
                self._classes[one.metadata.name] = one
        changed = before != self._classes
        self._renew(changed=changed)
        return set(self._sliced) if changed else set()

    # What others ask

    @property
    def nodes(self) -> Collection[str]:
        """The nodes that have devices."""
        return self._sliced.keys()

    def sliced(self, node: str) -> Sliced | None:
        """The node's devices; None if there are none."""
        return self._sliced.get(node)

    def had(self, sliced: Sliced) -> tuple[Got, ...]:
        """The devices of a node that claims have."""
        return tuple(
            Got(at, given.consumed)
            for pool, position in sliced.pools.items()
            for _, claim in sorted(self._having.get(pool, {}).items())
            for given in claim.got or ()
            if (given.driver, given.pool) == pool
            and (at := sliced.devices.at.get((position, given.device))) is not None
        )

    def asked(self, pod: Pod, *, allocated: bool) -> tuple[tuple[str, ClaimAsk], ...]:
        """The claims of a pod that ask for GPUs, and what for; without those that have them
        unless `allocated`."""
        found = ((key, self._ask(key)) for key in pod.claims)
        return tuple(
            (key, ask)
            for key, ask in found
            if ask.requests and (allocated or key not in self.allocated)
        )

    def _ask(self, key: str) -> ClaimAsk:
        claim = self._claims.get(key)
        if claim is None:
            return ClaimAsk()
        if key not in self._asks:
            self._asks[key] = self._of_gpus(asks_of(claim, self._classes))
        return self._asks[key]

    def _of_gpus(self, ask: ClaimAsk) -> ClaimAsk:
        """Without requests that no GPU of the cluster can be given for; with its size."""
        requests, sizes = list[tuple[Ask, ...]](), list[tuple[int, int]]()
        for alternatives in ask.requests:
            sized = [(one, self._milli(one)) for one in alternatives]
            kept = tuple(one for one, milli in sized if milli is not None)
            requests.append(kept)
            sizes += [(max(1, one.count), milli) for one, milli in sized if milli is not None][:1]
        if not sizes:
            return ClaimAsk()
        (gpus, milli), total = sizes[0], sum(count * milli for count, milli in sizes)
        if len(sizes) > 1:
            same = len({milli for _, milli in sizes}) == 1
            gpus = sum(count for count, _ in sizes) if same else -(-total // WHOLE)
            milli = milli if same else WHOLE
        return structs.replace(ask, requests=tuple(requests), gpus=gpus, milli=milli)

    def _milli(self, ask: Ask) -> int | None:
        """Thousandths of a GPU that one of its devices is; None where it takes none."""
        takes = self.selecting.takes
        found = (
            m for kind, m in self._devices.milli.items() if takes(ask.selectors, kind) is not False
        )
        return next(found, None)

    def is_said(self, asks: Iterable[ClaimAsk], node: str) -> bool:
        """Whether it can be said which of the node's devices the selectors take."""
        sliced = self._sliced.get(node)
        kinds = {one.device.kind for one in sliced.devices.devices} if sliced else set[Kind]()
        return bool(kinds) and all(
            self.selecting.takes(one.selectors, kind) is not None
            for ask in asks
            for alternatives in ask.requests
            for one in alternatives
            for kind in kinds
        )

    def served(self, resource: str) -> tuple[str, ...] | None:
        """The selectors of the class by which claims serve a resource; None if there is none."""
        found = [
            one for one in self._classes.values() if one.spec.extended_resource_name == resource
        ]
        newest = max((one.metadata.creation_timestamp or "" for one in found), default="")
        names = [one for one in found if (one.metadata.creation_timestamp or "") == newest]
        return min(names, key=lambda one: one.metadata.name).selectors if names else None


def _pools(claim: Claim) -> set[Pool]:
    return {(one.driver, one.pool) for one in claim.got or ()}
