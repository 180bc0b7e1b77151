"""An API server for tests of DRA, in this process: nodes, ResourceClaims and ResourceSlices, with
what a real one refuses, drops and forgets, and the scheduler beside it."""

import copy
import itertools
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from deviceplugin.kubernetes.api import ApiError
from deviceplugin.testing.drascheduler import Match, choose, overdrawn
from deviceplugin.testing.slicerules import BETA_SINCE, GATES, kept, problems

Document = dict[str, Any]
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
NOT_FOUND, CONFLICT, GONE, INVALID, UNAVAILABLE = 404, 409, 410, 422, 503
WATCH_S = 0.2  # how long a watch that hears nothing is kept


class ApiServer:
    """The cluster of one node at a minor release; `failures` are statuses of the next requests.

    `gates` are the feature gates that are on. Called on any thread, as `kubernetes.api.Api` is.
    """

    def __init__(self, node: str = "node-1", minor: int = 36) -> None:
        self.node, self.minor = node, minor
        self.gates: set[str] = set(GATES) if minor >= BETA_SINCE else set()
        self.slices: dict[str, Document] = {}
        self.claims: dict[tuple[str, str], Document] = {}
        self.failures: list[int] = []
        self.away = False  # every request fails
        self.conflicts = 0  # so many writes end with a conflict
        self.refusals: list[str] = []
        self.requests: list[str] = []
        self._versions, self._lock = itertools.count(1), threading.Lock()
        self._events: list[tuple[str, Document]] = []
        self._oldest = 0
        self._happened = threading.Condition(self._lock)
        self.watches = 0

    # What a test does

    def allocate(self, name: str, uid: str, devices: Iterable[str], **result: object) -> Document:
        """A claim of namespace default that has been given these devices of the only driver, for
        a pod, whoever else has them: schedulers have done that."""
        return self._allocated(name, uid, [{"device": device, **result} for device in devices])

    def schedule(
        self, name: str, uid: str, match: Match, asked: Mapping[str, str] | None = None
    ) -> Document:
        """As `allocate`, of the first device for which `match` says yes and that is free, with as
        much of its capacity as is `asked`; raises UnschedulableError."""
        chosen = choose(self._current(), list(self._results()), match, asked or {})
        return self._allocated(name, uid, [chosen])

    def overdrawn(self) -> list[str]:
        """What claims have too much of."""
        return list(overdrawn(self._current(), list(self._results())))

    def _results(self) -> Iterator[Document]:
        for claim in self.claims.values():
            yield from claim["status"]["allocation"]["devices"]["results"]

    def _allocated(self, name: str, uid: str, chosen: Iterable[Document]) -> Document:
        driver = next(iter(self.slices.values()))["spec"]["driver"]
        results = [{"request": "gpu", "driver": driver, "pool": self.node, **one} for one in chosen]
        claim: Document = {
            "metadata": {"name": name, "namespace": "default", "uid": uid},
            "status": {
                "allocation": {"devices": {"results": results}},
                "reservedFor": [{"resource": "pods", "name": "pod", "uid": f"pod-{uid}"}],
            },
        }
        self.claims["default", name] = claim
        return claim

    def wipe(self) -> None:
        """Delete all slices of the node, as its kubelet does when it starts."""
        with self._lock:
            for name in list(self.slices):
                self._note("DELETED", self.slices.pop(name))

    def delete(self, name: str) -> None:
        """As a person does it."""
        with self._lock:
            self._note("DELETED", self.slices.pop(name))

    def compact(self) -> None:
        """Forget what has happened so far: watches from before are told 410."""
        with self._lock:
            self._note("BOOKMARK", {"metadata": {}})
            self._oldest = len(self._events)

    @property
    def devices(self) -> dict[str, Document]:
        """The devices of the newest generation by name; none while the pool is not complete."""
        return {one["name"]: one for spec in self._current() for one in spec.get("devices") or ()}

    def _current(self) -> list[Document]:
        """The specs of the newest generation, in the order in which a scheduler reads them."""
        with self._lock:
            specs = [copy.deepcopy(one["spec"]) for _, one in sorted(self.slices.items())]
        newest = max((spec["pool"]["generation"] for spec in specs), default=0)
        current = [spec for spec in specs if spec["pool"]["generation"] == newest]
        complete = all(spec["pool"]["resourceSliceCount"] == len(current) for spec in current)
        return current if complete else []

    def writes(self) -> list[str]:
        """The requests that were not only looks."""
        return [one for one in self.requests if not one.startswith("GET")]

    # What a client does

    def request(
        self, method: str, path: str, body: Document | None = None, kind: str = ""
    ) -> Document:
        """The answer's document; raises ApiError. `kind` is that of a patch, of which none is
        served."""
        path, _, query = path.partition("?")
        with self._lock:
            self.requests.append(f"{method} {path}")
            if self.away or self.failures:
                status = UNAVAILABLE if self.away else self.failures.pop(0)
                raise ApiError(f"{method} {path}: {status}: {kind or 'not now'}", status)
            return copy.deepcopy(self._served(method, unquote(path), query, body or {}))

    def lines(self, path: str, quiet_s: float) -> Iterator[bytes]:
        """The events after the list of a version, which is how many there were before it; raises
        ApiError."""
        if self.away:
            raise ApiError(f"WATCH {path}: {UNAVAILABLE}: not now", UNAVAILABLE)
        version = int(parse_qs(path.partition("?")[2])["resourceVersion"][0])
        deadline = time.monotonic() + min(quiet_s, WATCH_S)
        with self._lock:
            self.watches += 1
        while time.monotonic() < deadline:
            new = self._after(version)
            if new is None:
                yield json.dumps({"type": "ERROR", "object": {"code": GONE}}).encode()
                return
            version += len(new)
            for kind, one in new:
                yield json.dumps({"type": kind, "object": one}).encode()
            bookmark = {"metadata": {"resourceVersion": str(version)}}
            yield json.dumps({"type": "BOOKMARK", "object": bookmark}).encode()

    def _after(self, version: int) -> list[tuple[str, Document]] | None:
        """What has happened since, waited for a moment; None where that is forgotten."""
        with self._happened:
            self._happened.wait_for(lambda: len(self._events) > version, WATCH_S)
            return None if version < self._oldest else self._events[version:]

    def _note(self, kind: str, one: Document) -> None:
        """With the lock held."""
        self._events.append((kind, copy.deepcopy(one)))
        self._happened.notify_all()

    def _served(self, method: str, path: str, query: str, body: Document) -> Document:
        if path == "/version":
            return {"major": "1", "minor": f"{self.minor}+"}
        if path == f"/api/v1/nodes/{self.node}":
            return {"metadata": {"name": self.node, "uid": f"uid-of-{self.node}"}}
        if path.startswith(SLICES):
            return self._slices(method, path.removeprefix(SLICES).strip("/"), query, body)
        parts = path.split("/")
        claim = self.claims.get((parts[-3], parts[-1])) if "resourceclaims" in parts else None
        if claim is None:
            raise ApiError(f"{path} not found", NOT_FOUND)
        return claim

    def _slices(self, method: str, name: str, query: str, body: Document) -> Document:
        if method == "GET":
            wanted = dict(
                pair.split("=") for pair in parse_qs(query)["fieldSelector"][0].split(",")
            )
            found = [one for one in self.slices.values() if _selected(one, wanted)]
            return {"items": found, "metadata": {"resourceVersion": str(len(self._events))}}
        if method == "POST":
            name = f"{body['metadata']['generateName']}{next(self._versions):05x}"
            body = {**body, "metadata": {**body["metadata"], "name": name, "uid": f"uid-{name}"}}
        elif name not in self.slices:
            raise ApiError(f"{name} not found", NOT_FOUND)
        else:
            self._check_version(name, method, body)
        if method == "DELETE":
            gone = self.slices.pop(name)
            self._note("DELETED", gone)
            return gone
        return self._store(name, body)

    def _check_version(self, name: str, method: str, body: Document) -> None:
        given = body["preconditions"] if method == "DELETE" else body["metadata"]
        if given["resourceVersion"] != self.slices[name]["metadata"]["resourceVersion"]:
            raise ApiError(f"{name}: the object has been modified", CONFLICT)

    def _store(self, name: str, body: Document) -> Document:
        if self.conflicts:
            self.conflicts -= 1
            raise ApiError(f"{name}: the object has been modified", CONFLICT)
        found = list(problems(body["spec"], self.minor))
        if found:
            self.refusals.append(f"{name} is invalid: {'; '.join(found)}")
            raise ApiError(self.refusals[-1], INVALID)
        before = self.slices[name]["spec"] if name in self.slices else None
        spec = kept(body["spec"], self.gates, before)
        metadata = {**body["metadata"], "resourceVersion": str(next(self._versions))}
        self.slices[name] = {**body, "metadata": metadata, "spec": spec}
        self._note("MODIFIED" if before else "ADDED", self.slices[name])
        return self.slices[name]


def _selected(one: Document, wanted: Document) -> bool:
    spec = one["spec"]
    found = {"spec.nodeName": spec["nodeName"], "spec.driver": spec["driver"]}
    return all(found[key] == value for key, value in wanted.items())
