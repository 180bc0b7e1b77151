"""A complete DRA driver of a few lines, whose defects each change one method."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio

from deviceplugin.kubelet.socket import is_listening
from deviceplugin.kubelet.starting import start
from deviceplugin.kubernetes.api import ApiError
from deviceplugin.pb import dra_health_v1alpha1_pb2 as healthapi
from deviceplugin.pb import dra_v1_pb2 as draapi
from deviceplugin.pb import pluginregistration_v1_pb2 as registration
from deviceplugin.testing.apiserver import SLICES, ApiServer
from deviceplugin.testing.dra import KNOWN

DRIVER, COUNT, POLL_S, SHARED = "gpu.example.com", 3, 0.02, "gpu-2"
STREAMS = ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
Document = dict[str, Any]


class ClaimError(Exception):
    """A claim that is refused."""


class Small:
    """Serves and publishes; its state is one file for each claim."""

    def __init__(self, root: Path, api: ApiServer) -> None:
        self.root, self.api = root, api
        self.kubelet_dir, self.cdi_dir, self.state_dir = root / "k", root / "cdi", root / "s"
        self.registry = self.kubelet_dir / "plugins_registry" / f"{DRIVER}-reg.sock"
        self.endpoint = self.kubelet_dir / "plugins" / DRIVER / "dra.sock"
        for path in (self.registry.parent, self.endpoint.parent, self.cdi_dir, self.state_dir):
            path.mkdir(parents=True, exist_ok=True)
        self.broken: set[str] = set()
        self.entries: dict[str, Document] = {}
        self.boot = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.servers: list[Any] = []

    # -- its life ---------------------------------------------------------------------------

    async def start(self) -> None:
        self.tasks.append(asyncio.create_task(self.live()))

    async def live(self) -> None:
        """Wait for another process that serves, then serve and publish."""
        while is_listening(self.endpoint) or is_listening(self.registry):  # noqa: ASYNC110  # files
            await asyncio.sleep(POLL_S)
        self.load()
        await self.serve()
        while True:
            try:
                self.reconcile()
                self.publish()
            except ApiError:
                await asyncio.sleep(POLL_S)
            await asyncio.sleep(POLL_S)

    async def serve(self) -> None:
        await self.listen(self.endpoint, self.handlers())
        await self.listen(self.registry, [self.registration()])

    async def listen(self, path: Path, handlers: list[Any]) -> None:
        path.unlink(missing_ok=True)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(tuple(handlers))
        server.add_insecure_port(f"unix:{path}")
        await start(server, path)
        self.servers.append((server, path))

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for server, _ in self.servers:
            await server.stop(None)
        self.remove_sockets()
        self.tasks, self.servers = [], []

    def remove_sockets(self) -> None:
        for _, path in self.servers:
            path.unlink(missing_ok=True)

    async def kill(self) -> None:
        await self.end()

    def another(self) -> "Small":
        return type(self)(self.root, self.api)

    def fail(self, device: str | None) -> bool:
        self.broken = {device} if device else set()
        return True

    def reboot(self) -> bool:
        self.boot += 1
        return True

    # -- what it says -----------------------------------------------------------------------

    def info(self) -> registration.PluginInfo:
        return registration.PluginInfo(
            type="DRAPlugin",
            name=DRIVER,
            endpoint=str(self.endpoint),
            supported_versions=(*KNOWN, *STREAMS),
        )

    def names(self) -> list[str]:
        return [f"gpu-{number}" for number in range(COUNT)]

    def device(self, name: str) -> Document:
        attributes = {"type": {"string": "gpu"}, "driverVersion": {"version": "1.2.3"}}
        found: Document = {"name": name, "attributes": attributes}
        if name == SHARED:
            found["allowMultipleAllocations"] = True
        if name in self.broken:
            found["taints"] = [self.taint()]
        return found

    def taint(self) -> Document:
        return {"key": f"{DRIVER}/broken", "effect": "NoSchedule"}

    def spec(self) -> Document:
        return {
            "driver": DRIVER,
            "nodeName": self.api.node,
            "pool": {"name": self.api.node, "generation": 1, "resourceSliceCount": 1},
            "devices": [self.device(name) for name in self.names()],
        }

    def metadata(self) -> Document:
        owner = {"kind": "Node", "name": self.api.node, "uid": f"uid-of-{self.api.node}"}
        return {"generateName": f"00000-{DRIVER}-", "ownerReferences": [owner]}

    def publish(self) -> None:
        """What the server dropped of the same spec is not asked for again."""
        stored = list(self.api.slices.values())
        spec = self.spec()
        if not stored:
            self.written = spec
            self.api.request("POST", SLICES, {"metadata": self.metadata(), "spec": spec})
        elif spec != getattr(self, "written", None) and _plain(stored[0]["spec"]) != spec:
            self.written = spec
            self.put(stored[0], spec)

    def put(self, stored: Document, spec: Document) -> None:
        path = f"{SLICES}/{stored['metadata']['name']}"
        self.api.request("PUT", path, {**stored, "spec": spec})

    # -- claims -----------------------------------------------------------------------------

    def load(self) -> None:
        self.entries = {}
        for path in self.state_dir.glob("*.json"):
            try:
                entry = json.loads(path.read_text())
            except ValueError:
                continue
            if entry["boot"] == self.boot:
                self.entries[path.stem] = entry

    def reconcile(self) -> None:
        for uid, entry in list(self.entries.items()):
            if self.is_gone(uid, entry):
                self.unprepare(uid)

    def is_gone(self, uid: str, entry: Document) -> bool:
        claim = self.api.claims.get((entry["namespace"], entry["name"]))
        return claim is None or claim["metadata"]["uid"] != uid

    def prepare(self, uid: str, namespace: str, name: str) -> list[Document]:
        if uid not in self.entries:
            claim = self.read(namespace, name)
            results = self.results(claim, uid)
            self.check(claim, uid, results)
            for result in results:
                self.check_device(uid, result)
            self.keep(uid, {"namespace": namespace, "name": name, "results": results})
            self.write_cdi(uid, results)
        return [self.answer(uid, result) for result in self.entries[uid]["results"]]

    def read(self, namespace: str, name: str) -> Document:
        try:
            path = f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/{name}"
            return self.api.request("GET", path)
        except ApiError as error:
            raise ClaimError(f"claim {namespace}/{name}: {error}") from error

    def results(self, claim: Document, uid: str) -> list[Document]:
        allocation = claim["status"].get("allocation")
        if claim["metadata"]["uid"] != uid or not allocation:
            raise ClaimError(f"claim of uid {uid} is another, or not allocated")
        return [one for one in allocation["devices"]["results"] if one["driver"] == DRIVER]

    def check(self, claim: Document, uid: str, results: list[Document]) -> None:
        if not results:
            raise ClaimError(f"claim of uid {uid} has no device of {DRIVER}")
        if not claim["status"].get("reservedFor"):
            raise ClaimError(f"claim of uid {uid} is reserved for no pod")
        for config in claim["status"]["allocation"]["devices"].get("config", ()):
            self.check_parameters(config["opaque"]["parameters"])

    def check_parameters(self, parameters: Document) -> None:
        if parameters.keys() - {"apiVersion", "kind"}:
            raise ClaimError(f"parameters {sorted(parameters)} are not known")

    def check_device(self, uid: str, result: Document) -> None:
        if result["device"] not in self.names():
            raise ClaimError(f"there is no device {result['device']}")
        if not result.get("adminAccess"):
            self.check_holders(uid, result["device"])

    def check_holders(self, uid: str, device: str) -> None:
        self.reconcile()
        for other, entry in self.entries.items():
            held = [r["device"] for r in entry["results"] if not r.get("adminAccess")]
            if other != uid and device in held:
                raise ClaimError(self.refusal(device, entry))

    def refusal(self, device: str, entry: Document) -> str:
        return f"{device} is in use by claim {entry['namespace']}/{entry['name']}"

    def keep(self, uid: str, entry: Document) -> None:
        self.entries[uid] = entry
        path = self.state_dir / f"{uid}.json"
        path.touch(mode=self.mode())
        path.write_text(json.dumps({**entry, "boot": self.boot}))

    def mode(self) -> int:
        return 0o600

    def write_cdi(self, uid: str, results: list[Document]) -> None:
        devices = [{"name": f"{uid}-{one['device']}", "containerEdits": {}} for one in results]
        spec = {"cdiVersion": "0.6.0", "kind": f"{DRIVER}/claim", "devices": devices}
        (self.cdi_dir / f"{uid}.json").write_text(json.dumps(spec))

    def answer(self, uid: str, result: Document) -> Document:
        return {
            "request_names": [result["request"]],
            "pool_name": result["pool"],
            "device_name": result["device"],
            "cdi_device_ids": [f"{DRIVER}/claim={uid}-{result['device']}"],
            "share_id": result.get("shareID"),
        }

    def unprepare(self, uid: str) -> None:
        self.entries.pop(uid, None)
        (self.state_dir / f"{uid}.json").unlink(missing_ok=True)
        (self.cdi_dir / f"{uid}.json").unlink(missing_ok=True)

    def health(self) -> list[healthapi.DeviceHealth]:
        return [
            healthapi.DeviceHealth(
                device=healthapi.DeviceIdentifier(pool_name=self.api.node, device_name=name)
            )
            for name in self.names()
        ]

    # -- the wire ---------------------------------------------------------------------------

    def registration(self) -> Any:
        async def info(_: Any, __: Any) -> registration.PluginInfo:
            return self.info()

        async def status(told: registration.RegistrationStatus, _: Any) -> Any:
            await self.told(registered=told.plugin_registered)
            return registration.RegistrationStatusResponse()

        methods = {
            "GetInfo": _unary(info, registration.InfoRequest),
            "NotifyRegistrationStatus": _unary(status, registration.RegistrationStatus),
        }
        return grpc.method_handlers_generic_handler("pluginregistration.Registration", methods)

    async def told(self, *, registered: bool) -> None:
        """Whether the kubelet has taken it."""

    def handlers(self) -> list[Any]:
        found = []
        for service in KNOWN.values():
            methods = {
                "NodePrepareResources": _unary(
                    self.preparing(service), draapi.NodePrepareResourcesRequest
                ),
                "NodeUnprepareResources": _unary(
                    self._unpreparing, draapi.NodeUnprepareResourcesRequest
                ),
            }
            found.append(grpc.method_handlers_generic_handler(service, methods))
        stream = grpc.unary_stream_rpc_method_handler(
            self._stream,
            request_deserializer=healthapi.NodeWatchResourcesRequest.FromString,
            response_serializer=healthapi.NodeWatchResourcesResponse.SerializeToString,
        )
        method = {"NodeWatchResources": stream}
        return [*found, *(grpc.method_handlers_generic_handler(name, method) for name in STREAMS)]

    def preparing(self, service: str) -> Callable[..., Any]:
        async def answer(request: Any, _: Any) -> draapi.NodePrepareResourcesResponse:
            response = draapi.NodePrepareResourcesResponse()
            for claim in request.claims:
                one = response.claims[claim.uid]
                try:
                    devices = self.prepare(claim.uid, claim.namespace, claim.name)
                    one.devices.extend(draapi.Device(**device) for device in devices)
                except ClaimError as error:
                    one.error = str(error)
            return response

        return answer

    async def _unpreparing(self, request: Any, _: Any) -> draapi.NodeUnprepareResourcesResponse:
        response = draapi.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            try:
                self.unprepare(claim.uid)
                response.claims[claim.uid].error = ""
            except ClaimError as error:
                response.claims[claim.uid].error = str(error)
        return response

    async def _stream(self, _: Any, __: Any) -> AsyncIterator[Any]:
        while True:
            yield healthapi.NodeWatchResourcesResponse(devices=self.health())
            await asyncio.sleep(1)


def _plain(spec: Document) -> Document:
    """Without the times that the server adds."""
    devices = []
    for device in spec["devices"]:
        taints = [
            {key: value for key, value in taint.items() if key != "timeAdded"}
            for taint in device.get("taints", ())
        ]
        devices.append({**device, "taints": taints} if taints else device)
    return {**spec, "devices": devices}


def _unary(does: Callable[..., Any], request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        does,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
