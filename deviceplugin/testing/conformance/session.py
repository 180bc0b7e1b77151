"""A run of the suite against one plugin: the kubelet, the plugin's process, calls, waiting."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import psutil

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.conformance.process import PluginProcess, Usage, usage_of
from deviceplugin.testing.conformance.record import Record
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.happenings import Opened
from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.plugin_client import PluginClient, RpcError

Topology: TypeAlias = Mapping[str, Mapping[str, tuple[int, ...] | None]]

EARLY_S = 0.5
END_S = 20.0
SETTLE_PARTS = 10


class LostError(Exception):
    """The plugin cannot be judged any further here; the text says why."""


class HangingError(LostError):
    """A call of the plugin did not end."""


class Session:
    """The kubelet stub below settings.kubelet_dir, and the plugin that registers with it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stub = KubeletStub(settings.kubelet_dir)
        self.stub.register_knobs.dial_timeout_s = settings.dial_timeout_s
        self.record = Record(self.stub.socket_dir)
        self.stub.log.listeners.append(self.record)
        self.plugin: PluginProcess | None = None
        self.names: tuple[str, ...] = ()
        self._started = 0

    # The plugin's process

    async def start_plugin(self) -> PluginProcess:
        """Start the plugin's command; LostError where it cannot be."""
        self._started += 1
        log = self.settings.kubelet_dir / f"conformance-plugin-{self._started}.log"
        try:
            return await PluginProcess.start(self.settings.command, log)
        except OSError as error:
            raise LostError(f"{self.settings.command[0]} cannot be started: {error}") from error

    async def restart_plugin(self, number: signal.Signals) -> None:
        """End the running plugin by a signal, start it again, and wait until all is listed."""
        if self.plugin is not None:
            await self.plugin.end(number, END_S)
        at_s = time.monotonic()
        self.plugin = await self.start_plugin()
        await self.wait(  # not is_listed: the old instance's streams may not have ended yet
            lambda: all(self.opened_since(at_s, name) for name in self.names),
            "not registered again after a restart of the plugin",
        )
        await self.wait_all("after a restart of the plugin")

    def usage(self) -> Usage | None:
        """What the plugin holds open, None where its process is not known or not ours to see."""
        pid = self.plugin.pid if self.plugin else self.settings.pid
        try:
            return usage_of(pid) if pid else None
        except psutil.Error:
            return None

    # What is listed

    def healthy(self, resource: str) -> list[str]:
        """Ids that are listed as healthy, sorted."""
        return sorted(self.stub.manager.healthy.get(resource, ()))

    def offered(self) -> list[tuple[str, list[str]]]:
        """Each resource that has healthy devices, with their ids."""
        return [(name, ids) for name in self.names if (ids := self.healthy(name))]

    def endpoint(self, resource: str) -> Path:
        """The socket of the resource's last registration."""
        endpoints = [r.endpoint for r in self.stub.registrations if r.resource == resource]
        return self.stub.socket_dir / endpoints[-1]

    # Waiting

    async def wait_settled(self) -> None:
        """Until the resources wanted are listed and nothing new has come for a while."""
        wanted = self.settings.resources
        if wanted:
            await self.wait(lambda: all(map(self.is_listed, wanted)), f"no list of {wanted}")
        else:
            await self.wait(lambda: self.record.listed, "no plugin registered and sent a list")
        seen = -1
        while seen != len(self.record.happenings):
            seen = len(self.record.happenings)
            await self.settle()
        self.names = tuple(name for name in sorted(self.stub.capacity()) if self.is_listed(name))

    async def settle(self) -> None:
        """Give what is about to happen its time, in parts: a machine that stands still for a
        moment takes one of them."""
        for _ in range(SETTLE_PARTS):
            await asyncio.sleep(self.settings.settle_s / SETTLE_PARTS)

    async def wait_all(self, when: str) -> None:
        """Until every resource is registered and listed with the kubelet that runs."""
        await self.wait(
            lambda: all(map(self.is_listed, self.names)), f"not registered again {when}"
        )

    async def wait(self, predicate: Callable[[], object], otherwise: str) -> None:
        """Until the predicate is true; LostError with `otherwise` after the timeout."""
        timeout_s = self.settings.timeout_s
        try:
            await self.stub.wait_for(predicate, timeout_s)
        except TimeoutError as error:
            raise LostError(f"{otherwise} within {timeout_s:g} s") from error

    def is_listed(self, resource: str) -> bool:
        """Whether the resource has one stream or more, and a list in this kubelet's life."""
        return self.stub.live_streams(resource) > 0 and resource in self.stub.log.first_list_at_s

    def opened_since(self, at_s: float, resource: str) -> Opened | None:
        """The first registration of the resource that succeeded since then."""
        found = (o for o in self.record.opened if o.resource == resource and o.at_s >= at_s)
        return next(found, None)

    async def recover(self) -> bool:
        """Bring a lost plugin back by what moves any plugin: a new kubelet, a new process."""
        for again in (self._new_kubelet, self._new_plugin):
            try:
                await again()
            except LostError:
                continue
            return True
        return False

    async def _new_kubelet(self) -> None:
        self.stub.register_knobs.refuse_next.clear()
        if not all(map(self.is_listed, self.names)):
            await self.stub.restart()
        await self.wait_all("with a new kubelet")

    async def _new_plugin(self) -> None:
        if self.plugin is None:
            raise LostError("the suite cannot start the plugin")
        await self.restart_plugin(signal.SIGKILL)

    # Calls

    async def allocate(
        self, resource: str, *requests: Sequence[str]
    ) -> pluginapi.AllocateResponse | RpcError:
        """Allocate with a container request for each list of ids; HangingError."""
        request = pluginapi.AllocateRequest()
        for ids in requests:
            request.container_requests.add(devices_ids=ids)
        answer: pluginapi.AllocateResponse | RpcError = await self.call(
            resource, "Allocate", request, pluginapi.AllocateResponse
        )
        return answer

    async def prefer(
        self, resource: str, available: Iterable[str], must_include: Iterable[str], size: int
    ) -> list[str] | RpcError:
        """GetPreferredAllocation: the ids as they came; HangingError."""
        request = pluginapi.PreferredAllocationRequest()
        request.container_requests.add(
            available_deviceIDs=available, must_include_deviceIDs=must_include, allocation_size=size
        )
        answer: pluginapi.PreferredAllocationResponse | RpcError = await self.call(
            resource, "GetPreferredAllocation", request, pluginapi.PreferredAllocationResponse
        )
        if isinstance(answer, RpcError):
            return answer
        return [name for one in answer.container_responses[:1] for name in one.deviceIDs]

    # Any: protobuf messages have no common typed base
    async def call(self, resource: str, method: str, request: Any, answer: Any) -> Any:
        """A call on the kubelet's own connection: the answer, or the error as a value.

        HangingError where it takes longer than the call's timeout.
        """
        timeout_s, started_s = self.settings.call_timeout_s, time.monotonic()
        try:
            return await self._client(resource).call(method, request, answer, timeout_s)
        except RpcError as error:
            # the plugin's own deadline has the same code, but comes earlier
            is_ours = time.monotonic() - started_s >= timeout_s
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and is_ours:
                raise HangingError(f"{resource}: {method} hangs for {timeout_s:g} s") from error
            return error

    def _client(self, resource: str) -> PluginClient:
        endpoint = self.stub.manager.endpoints.get(resource)
        if endpoint is None or endpoint.client is None or endpoint.stopped_at_s is not None:
            raise LostError(f"{resource} is not registered")
        return endpoint.client

    def topology(self) -> Topology:
        """Every resource's devices as listed now, by id, without their health."""
        return {
            name: {known.id: known.numa_nodes for known in self.stub.devices(name).values()}
            for name in self.names
        }
