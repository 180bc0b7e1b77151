"""An API server for tests of DRA, in this process: nodes, ResourceClaims and ResourceSlices, with
what a real one refuses, drops and forgets."""

import copy
import itertools
import re
import threading
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, unquote

from deviceplugin.kubernetes.api import ApiError

Document = dict[str, Any]
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
NOT_FOUND, CONFLICT, INVALID, UNAVAILABLE = 404, 409, 422, 503
TAINTS_SINCE = 36
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_KEY = re.compile(r"([a-z0-9][-a-z0-9.]{0,62}/)?[A-Za-z_][A-Za-z0-9_]{0,31}")
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+].*)?")


class ApiServer:
    """The cluster of one node at a minor release; `failures` are statuses of the next requests.

    `taints` is the gate DRADeviceTaints. Called on any thread, as `kubernetes.api.Api` is.
    """

    def __init__(self, node: str = "node-1", minor: int = 36) -> None:
        self.node, self.minor, self.taints = node, minor, minor >= TAINTS_SINCE
        self.slices: dict[str, Document] = {}
        self.claims: dict[tuple[str, str], Document] = {}
        self.failures: list[int] = []
        self.away = False  # every request fails
        self.conflicts = 0  # so many writes end with a conflict
        self.refusals: list[str] = []
        self.requests: list[str] = []
        self._versions, self._lock = itertools.count(1), threading.Lock()

    # What a test does

    def allocate(self, name: str, uid: str, devices: Iterable[str], **result: object) -> Document:
        """A claim of namespace default that the scheduler has given these devices of the only
        driver, for a pod."""
        driver = next(iter(self.slices.values()))["spec"]["driver"]
        results = [
            {"request": "gpu", "driver": driver, "pool": self.node, "device": device, **result}
            for device in devices
        ]
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
            self.slices.clear()

    @property
    def devices(self) -> dict[str, Document]:
        """The devices of the newest generation by name; none while the pool is not complete."""
        with self._lock:
            specs = [copy.deepcopy(one["spec"]) for one in self.slices.values()]
        newest = max((spec["pool"]["generation"] for spec in specs), default=0)
        current = [spec for spec in specs if spec["pool"]["generation"] == newest]
        if any(spec["pool"]["resourceSliceCount"] != len(current) for spec in current):
            return {}
        return {device["name"]: device for spec in current for device in spec.get("devices", ())}

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
            return {"items": found, "metadata": {"resourceVersion": str(next(self._versions))}}
        if method == "POST":
            name = f"{body['metadata']['generateName']}{next(self._versions):05x}"
            body = {**body, "metadata": {**body["metadata"], "name": name, "uid": f"uid-{name}"}}
        elif name not in self.slices:
            raise ApiError(f"{name} not found", NOT_FOUND)
        else:
            self._check_version(name, method, body)
        if method == "DELETE":
            return self.slices.pop(name)
        return self._store(name, body)

    def _check_version(self, name: str, method: str, body: Document) -> None:
        given = body["preconditions"] if method == "DELETE" else body["metadata"]
        if given["resourceVersion"] != self.slices[name]["metadata"]["resourceVersion"]:
            raise ApiError(f"{name}: the object has been modified", CONFLICT)

    def _store(self, name: str, body: Document) -> Document:
        spec = body["spec"]
        if self.conflicts:
            self.conflicts -= 1
            raise ApiError(f"{name}: the object has been modified", CONFLICT)
        if problems := list(self._problems(spec)):
            self.refusals.append(f"{name} is invalid: {'; '.join(problems)}")
            raise ApiError(self.refusals[-1], INVALID)
        devices = [self._kept(device) for device in spec["devices"]]
        metadata = {**body["metadata"], "resourceVersion": str(next(self._versions))}
        self.slices[name] = {**body, "metadata": metadata, "spec": {**spec, "devices": devices}}
        return self.slices[name]

    def _kept(self, device: Document) -> Document:
        """Without fields whose gate is off; taints are stamped."""
        if "taints" not in device:
            return device
        if not self.taints:
            return {key: value for key, value in device.items() if key != "taints"}
        stamped = [{"timeAdded": "2026-01-01T00:00:00Z", **taint} for taint in device["taints"]]
        return {**device, "taints": stamped}

    def _problems(self, spec: Document) -> Iterable[str]:
        devices = spec["devices"]
        names = [device["name"] for device in devices]
        tainted = any("taints" in device for device in devices)
        if len(devices) > (64 if tainted else 128):
            yield "too many devices"
        if len(set(names)) < len(names):
            yield "a device is there twice"
        for device in devices:
            values = {**device.get("attributes", {}), **device.get("capacity", {})}
            if not _LABEL.fullmatch(device["name"]):
                yield f"{device['name']} is not a DNS label"
            if len(values) > 32 or not all(map(_KEY.fullmatch, values)):
                yield f"{device['name']}: its keys"
            for value in device.get("attributes", {}).values():
                if len(str(value.get("string", ""))) > 64:
                    yield f"{device['name']}: a string"
                if "version" in value and not _SEMVER.fullmatch(value["version"]):
                    yield f"{device['name']}: a version"


def _selected(one: Document, wanted: Document) -> bool:
    spec = one["spec"]
    found = {"spec.nodeName": spec["nodeName"], "spec.driver": spec["driver"]}
    return all(found[key] == value for key, value in wanted.items())
