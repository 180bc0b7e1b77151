"""A kubelet for tests: real unix sockets, the device manager's behaviour, no node and no runtime.

The servers and the life cycle live here; what the device manager knows and decides does not.
`python -m deviceplugin.testing.kubelet --kubelet-dir DIR` runs one for people.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

import grpc.aio

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.admission import Admissions, live_client, record_removed_in_flight
from deviceplugin.testing.answers import Merged
from deviceplugin.testing.changes import Changes
from deviceplugin.testing.devicemanager import DeviceManager
from deviceplugin.testing.nodeview import NodeView
from deviceplugin.testing.plugin_client import Options
from deviceplugin.testing.podresources import PodResourcesKnobs, PodResourcesService
from deviceplugin.testing.pods import Admission, Pod, Requests
from deviceplugin.testing.registration import RegisterKnobs, RegistrationLog, Registrations
from deviceplugin.testing.stalesocket import (
    Handler,
    remove_directory,
    remove_top_level_sockets,
    serve_socket,
)

_NO_CONTAINERS: Requests = MappingProxyType({})


class KubeletStub(NodeView):
    """A kubelet below kubelet_dir: device-plugins/kubelet.sock and pod-resources/kubelet.sock.

    grace_s: seconds of `clock` after which a stopped resource's capacity is 0.
    node_topology_policy: "none", "best-effort", "restricted" or "single-numa-node".
    started_at_s: when kubelet.sock last appeared, on `clock`.
    Everything about pods is keyed by "namespace/name". Use it on one event loop only.
    """

    def __init__(
        self,
        kubelet_dir: Path,
        *,
        grace_s: float = 300.0,
        node_topology_policy: str = "none",
        clock: Callable[[], float] = time.monotonic,
        seed: int = 0,
    ) -> None:
        self.kubelet_dir = kubelet_dir.absolute()
        self.socket_dir = self.kubelet_dir / "device-plugins"
        self.kubelet_socket = self.socket_dir / "kubelet.sock"
        self.pod_resources_socket = self.kubelet_dir / "pod-resources" / "kubelet.sock"
        self.generation = 0
        self.started_at_s: float | None = None
        self.register_knobs = RegisterKnobs()
        self.pod_resources_knobs = PodResourcesKnobs()
        self.log = RegistrationLog()
        self.manager = DeviceManager(
            grace_s=grace_s, topology_policy=node_topology_policy, clock=clock
        )
        self.admissions = Admissions(self.manager, seed)
        self._changes = Changes()
        self.pod_resources = PodResourcesService(
            self.manager, self.admissions, self.pod_resources_knobs
        )
        self._servers: dict[Path, grpc.aio.Server] = {}
        self.clients = self._new_clients()
        self._alarm: asyncio.TimerHandle | None = None

    # Life cycle

    async def start(self) -> None:
        """Come up: PodResources first, then clean the plugin directory, bind and serve."""
        self.generation += 1
        self.clients = self._new_clients()
        await self.start_pod_resources()
        self.socket_dir.mkdir(parents=True, exist_ok=True)
        remove_top_level_sockets(self.socket_dir)
        await self._serve(self.kubelet_socket, self.clients.handler())
        self.started_at_s = self.manager.clock()
        self.notify()

    async def stop(self) -> None:
        """Go away as at SIGTERM: connections dropped at once, both socket files stay, stale."""
        # servers first: a plugin that registers again at once must find nobody
        for path in list(self._servers):
            await self._servers.pop(path).stop(None)
        await self.clients.drop_all()
        self.notify()

    async def restart(
        self, wipe: Literal["sockets", "directory"] = "sockets", down_s: float = 0.0
    ) -> None:
        """Stop, stay away for down_s seconds, start with what the checkpoint keeps.

        "directory" removes the whole plugin directory, sub-directories included, before the start.
        Pods stay, but are listed by PodResources only after readmit_all().
        """
        await self.stop()
        await asyncio.sleep(down_s)
        if wipe == "directory":
            remove_directory(self.socket_dir)
        self.manager.restart()
        self.admissions.listed.clear()
        await self.start()

    async def aclose(self) -> None:
        """Stop and remove the sockets; the directories stay."""
        await self.stop()
        if self._alarm is not None:
            self._alarm.cancel()
        for path in (self.kubelet_socket, self.pod_resources_socket):
            path.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start_pod_resources(self) -> None:
        """Serve PodResources, on a fresh socket."""
        if self.pod_resources_socket not in self._servers:
            self.pod_resources_socket.parent.mkdir(parents=True, exist_ok=True)
            self.pod_resources_socket.unlink(missing_ok=True)
            await self._serve(self.pod_resources_socket, self.pod_resources.handler())

    async def stop_pod_resources(self) -> None:
        """Switch PodResources off: no service and no socket file."""
        server = self._servers.pop(self.pod_resources_socket, None)
        if server is not None:
            await server.stop(None)
        self.pod_resources_socket.unlink(missing_ok=True)

    # Pods

    async def admit(
        self,
        pod: str,
        containers: Requests,
        namespace: str = "default",
        init_containers: Requests = _NO_CONTAINERS,
        sidecars: Requests = _NO_CONTAINERS,
    ) -> Admission:
        """Admit a pod; AdmissionError carries the text of the pod's status."""
        spec = Pod(
            name=pod,
            namespace=namespace,
            containers=containers,
            init_containers=init_containers,
            sidecars=sidecars,
        )
        try:
            return await self.admissions.admit(spec)
        finally:
            self.notify()

    def remove_pod(self, pod: str, namespace: str = "default") -> None:
        """End a pod; its devices come free at the next allocation or PodResources List."""
        self.admissions.remove(f"{namespace}/{pod}")
        self.notify()

    async def readmit_all(self) -> list[str]:
        """Admit all pods again, as a restarted kubelet does; the keys of those killed for good.

        Running containers are passed over; init containers and stopped ones are checked.
        """
        killed = await self.admissions.readmit_all()
        self.notify()
        return killed

    def stop_container(self, pod: str, container: str, namespace: str = "default") -> None:
        """Let a container be not running, as in a crash loop; readmit_all then checks it."""
        self.admissions.stopped.add((f"{namespace}/{pod}", container))

    async def start_container(self, pod: str, container: str, namespace: str = "default") -> Merged:
        """Start a container (again) from the cached answers, after PreStartContainer if required.

        AdmissionError: the resource's grace period is over, or PreStartContainer failed.
        """
        return await self.admissions.start_container(f"{namespace}/{pod}", container)

    def forget_checkpoint(self) -> None:
        """Lose all that is kept over a restart: devices of running pods then look free."""
        self.manager.forget()

    # Direct calls to a plugin

    async def allocate(
        self, resource: str, ids: Iterable[str], timeout_s: float | None = None
    ) -> pluginapi.AllocateResponse:
        """Allocate with ids in this order; records crashes only. RpcError, NotAllocatedError."""
        known = set(ids := list(ids)) & self.devices(resource).keys()
        client = live_client(self.manager.endpoints.get(resource))
        answer = await client.allocate(ids, timeout_s)
        record_removed_in_flight(self.manager, resource, known)
        return answer

    async def prefer(
        self, resource: str, available: Iterable[str], must_include: Iterable[str], size: int
    ) -> frozenset[str]:
        """GetPreferredAllocation. RpcError, NotAllocatedError."""
        client = live_client(self.manager.endpoints.get(resource))
        return await client.prefer(available, must_include, size)

    async def options(self, resource: str) -> Options:
        """GetDevicePluginOptions. RpcError, NotAllocatedError."""
        return await live_client(self.manager.endpoints.get(resource)).options()

    async def disconnect(self, resource: str) -> None:
        """Drop the plugin's connection; its stream is cancelled and nothing retries."""
        await self.clients.disconnect(resource)

    # Waiting

    async def wait_for(
        self,
        predicate: Callable[[], object],
        timeout_s: float | None = 30.0,
        what: str = "a condition",
    ) -> None:
        """Wait until the predicate is true, tested after each change; TimeoutError says `what`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changes.until(predicate)
        except TimeoutError as error:
            text = f"{what} did not come within {timeout_s} s; {self.summary()}"
            raise TimeoutError(text) from error

    async def wait_registered(self, *resources: str, timeout_s: float | None = 30.0) -> None:
        """Wait until each resource has a live stream and its first list in this generation."""
        await self.wait_for(
            lambda: all(self._is_registered(name) for name in resources),
            timeout_s,
            f"registration of {', '.join(resources)}",
        )

    def notify(self) -> None:
        """Make waiters test their predicates again; needed after moving a clock of your own."""
        self._changes.notify()
        if self._alarm is not None:
            self._alarm.cancel()
        left_s = self.manager.next_expiry_s()
        if left_s is not None:
            self._alarm = asyncio.get_running_loop().call_later(left_s + 0.001, self.notify)

    def _is_registered(self, resource: str) -> bool:
        return self.live_streams(resource) > 0 and resource in self.log.first_list_at_s

    def _new_clients(self) -> Registrations:
        registrations = Registrations(
            self.socket_dir, self.manager, self.register_knobs, self.log, self.notify
        )
        registrations.generation = self.generation
        return registrations

    async def _serve(self, public: Path, handler: Handler) -> None:
        private = self.kubelet_dir / f".{public.parent.name}.{self.generation}"
        self._servers[public] = await serve_socket(public, private, handler)


if __name__ == "__main__":
    from deviceplugin.testing.kubelet_command import main

    main()
